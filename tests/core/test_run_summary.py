import json
import time
from pathlib import Path

import pytest
from trained_run import trained

from shakespeare_tui.core.events import RunFailed, RunFinished, StepCompleted
from shakespeare_tui.core.run_summary import summarise_run, summarise_runs
from shakespeare_tui.core.runs import RunFolder

__all__ = ["trained"]


def end_with(run: RunFolder, *lines: str) -> None:
    """Put other lines in the place of the run's ending."""
    kept = [x for x in run.events_path.read_text().splitlines() if '"RunFinished"' not in x]
    run.events_path.write_text("\n".join([*kept, *lines]) + "\n")


def finished(reason: str) -> str:
    return RunFinished(step=30, reason=reason, val_loss=3.0, protocol="exact").to_json()


def test_the_figures_are_the_files(trained: RunFolder) -> None:
    summary = summarise_run(trained)
    last = json.loads((trained.path / "step-00000030" / "info.json").read_text())
    assert (summary.name, summary.path, summary.state) == ("alpha", str(trained.path), "completed")
    assert summary.step == 30
    assert (summary.val_loss, summary.protocol) == (last["exact_val_loss"], "exact")
    assert summary.perplexity == pytest.approx(2.718281828459045**summary.val_loss)
    assert summary.parameters == 3088
    assert (summary.corpus, summary.parent, summary.problem) == ("sample", None, None)
    assert summary.age_seconds == pytest.approx(time.time() - last["time"], abs=5)


@pytest.mark.parametrize(
    ("lines", "state"),
    [
        ([finished("completed")], "completed"),
        ([finished("target")], "completed"),
        ([finished("patience")], "completed"),
        ([finished("stopped")], "stopped"),
        ([finished("interrupted")], "stopped"),
        ([RunFailed(step=31, error="the disk is full").to_json()], "failed"),
        ([], "broken off"),
        ([finished("completed")[:-9]], "broken off"),
        (["not json", '{"type": "Unheard", "time": 1.0}'], "broken off"),
        ([finished("completed"), '{"type": "Unheard", "time": 1.0}'], "completed"),
    ],
    ids=range(10),
)
def test_states_by_the_last_event(lines: list[str], state: str, trained: RunFolder) -> None:
    end_with(trained, *lines)
    if lines and not lines[-1].endswith("}"):
        trained.events_path.write_text(trained.events_path.read_text().rstrip("\n"))
    assert summarise_run(trained).state == state


def test_the_ending_is_found_in_a_long_log(trained: RunFolder) -> None:
    step = StepCompleted(
        step=1, loss=1.0, learning_rate=1.0, grad_norm=1.0, tokens_per_second=1.0, elapsed_seconds=1
    )
    trained.events_path.write_text((step.to_json() + "\n") * 5000 + finished("stopped") + "\n")
    assert summarise_run(trained).state == "stopped"


def test_training_while_the_lock_is_held(trained: RunFolder) -> None:
    with trained.locked():
        assert summarise_run(trained).state == "training"
    assert summarise_run(trained).state == "completed"


def test_before_the_first_checkpoint(trained: RunFolder) -> None:
    (trained.path / "index.json").unlink()
    trained.events_path.unlink()
    summary = summarise_run(trained)
    assert (summary.state, summary.step, summary.val_loss, summary.perplexity) == (
        "broken off",
        None,
        None,
        None,
    )
    assert summary.parameters == 3088
    assert summary.problem is None


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("run.json", "{"),
        ("run.json", "[]"),
        ("run.json", '{"format": 99}'),
        ("run.json", '{"format": 1}'),
        ("run.json", "[" * 100_000),
        ("index.json", "\0"),
        ("index.json", '{"last": "x"}'),
        ("index.json", '{"last": 15}'),
        ("step-00000030/info.json", ""),
        ("step-00000030/info.json", '{"format": 1, "step": 30, "val_loss": "low"}'),
    ],
)
def test_damage_is_told_not_raised(file: str, content: str, trained: RunFolder) -> None:
    (trained.path / file).write_text(content)
    summary = summarise_run(trained)
    assert summary.state == "damaged"
    assert summary.problem
    assert "\n" not in summary.problem
    assert (summary.step, summary.val_loss) == (None, None)
    assert summary.age_seconds >= 0


def test_a_log_that_is_no_file_is_damage_too(trained: RunFolder) -> None:
    trained.events_path.unlink()
    trained.events_path.mkdir()
    assert summarise_run(trained).state == "damaged"


def test_one_damaged_run_does_not_hide_the_others(trained: RunFolder, runs_root: Path) -> None:
    other = runs_root / "beta"
    other.mkdir()
    (other / "run.json").write_text("{")
    states = {summary.name: summary.state for summary in summarise_runs(runs_root)}
    assert states == {"alpha": "completed", "beta": "damaged"}


def test_looking_changes_nothing(trained: RunFolder) -> None:
    from trained_run import fingerprints

    before = fingerprints(trained.path)
    summarise_run(trained)
    assert fingerprints(trained.path) == before
