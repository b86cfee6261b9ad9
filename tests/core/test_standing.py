import json

import pytest

from shakespeare_tui.core.events import RunFinished
from shakespeare_tui.core.runs import RunFolder
from shakespeare_tui.core.standing import standing_of


@pytest.fixture
def make_run(tmp_path):
    def make(name, val_loss, *, text="a", protocol="exact"):
        run = RunFolder(tmp_path / name)
        run.path.mkdir()
        record = {
            "format": 1,
            "name": name,
            "created": 1.0,
            "program_version": "0",
            "corpus": "c",
            "corpus_sha256": text,
            "characters": 1,
            "vocab_size": 2,
            "parameters": 3,
        }
        (run.path / "run.json").write_text(json.dumps(record))
        event = RunFinished(step=1, reason="completed", val_loss=val_loss, protocol=protocol)
        run.events_path.write_text(event.to_json() + "\n")
        return run

    return make


def test_a_run_stands_among_those_on_the_same_text_and_protocol(tmp_path, make_run):
    make_run("better", 1.5)
    make_run("worse", 1.9)
    make_run("elsewhere", 1.0, text="b")
    make_run("otherwise", 1.1, protocol="nanogpt")
    mine = make_run("mine", 1.7)
    standing = standing_of(mine, tmp_path)
    assert (standing.place, standing.runs) == (2, 3)
    assert (standing.best_name, standing.best_loss) == ("better", 1.5)


def test_equal_losses_share_a_place(tmp_path, make_run):
    make_run("twin", 1.7)
    assert standing_of(make_run("mine", 1.7), tmp_path).place == 1


def test_a_run_without_a_final_loss_has_no_place(tmp_path, make_run):
    make_run("other", 1.7)
    assert standing_of(make_run("mine", None), tmp_path) is None
    assert standing_of(RunFolder(tmp_path / "absent"), tmp_path) is None


def test_a_damaged_run_is_passed_over(tmp_path, make_run):
    (make_run("damaged", 1.2).path / "run.json").write_text("{")
    assert standing_of(make_run("mine", 1.7), tmp_path).runs == 1
