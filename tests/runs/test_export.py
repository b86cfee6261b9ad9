"""Events for TensorBoard, CSV and Parquet, read back by other programs' own readers."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
from real_cli import TINY, CommandLine
from streams import healthy_run
from tensorboardX.proto.event_pb2 import Event as BoardEvent
from tensorboardX.record_writer import masked_crc32c
from trained_run import trained

from shakespeare_tui.runs.event_log import read_events
from shakespeare_tui.runs.events import EvalCompleted, RunFinished, SampleGenerated, StepCompleted
from shakespeare_tui.runs.export import TensorBoardWriter
from shakespeare_tui.runs.folder import RunFolder

__all__ = ["trained"]


def board_events(folder: Path) -> list[Any]:
    """Every event below a folder: length, its CRC, the event and its CRC, again and again."""
    found = []
    for path in sorted(folder.rglob("events.out.tfevents.*")):
        data = io.BytesIO(path.read_bytes())
        while head := data.read(8):
            crc, body = data.read(4), data.read(int.from_bytes(head, "little"))
            assert int.from_bytes(crc, "little") == masked_crc32c(head)
            assert int.from_bytes(data.read(4), "little") == masked_crc32c(body)
            found.append(BoardEvent.FromString(body))
    return found


def scalars(folder: Path, tag: str) -> dict[int, float]:
    return {
        event.step: value.simple_value
        for event in board_events(folder)
        for value in event.summary.value
        if value.tag == tag
    }


def test_what_the_stream_says_is_on_the_board(tmp_path: Path) -> None:
    events = list(healthy_run(500))
    events.append(RunFinished(time=2e9, step=500, reason="completed", val_loss=1.5))
    with TensorBoardWriter(tmp_path) as writer:
        for event in events:
            writer(event)
    losses = {event.step: event.loss for event in events if isinstance(event, StepCompleted)}
    assert scalars(tmp_path, "train/loss") == pytest.approx(losses)
    measured = {e.step: e.val_loss for e in events if isinstance(e, EvalCompleted)}
    assert scalars(tmp_path, "val/loss_subset") == pytest.approx(measured)
    found = board_events(tmp_path)
    texts = [
        value.tensor.string_val[0].decode()
        for event in found
        for value in event.summary.value
        if value.tag.startswith("samples/ROMEO")
    ]
    samples = [event for event in events if isinstance(event, SampleGenerated)]
    assert len(texts) == len(samples) == 2
    assert all(
        f"    {sample.prompt}\n" in text for sample, text in zip(samples, texts, strict=True)
    )
    tags = {value.tag for event in found for value in event.summary.value}
    assert {"_hparams_/experiment", "_hparams_/session_start_info"} <= tags
    assert any(tag.startswith("hparam/val_loss") for tag in tags)
    assert {event.wall_time for event in found} >= {event.time for event in events[1:]}


def test_live_and_after_the_fact(
    cli: CommandLine, tmp_path: Path, runs_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    train = ("train", "--no-ui", *TINY, "--backend=numpy", "--set=training.precision=auto")
    outcome = cli(*train, "--max-steps=20", "--name=alpha", "--tensorboard")
    assert outcome.code == 0, outcome.err
    live = tmp_path / "tensorboard" / "alpha"
    assert len(scalars(live, "train/loss")) == 20
    assert cli("train", "--no-ui", "--resume=alpha", "--max-steps=30", "--tensorboard").code == 0
    assert len(scalars(live, "train/loss")) == 30
    purged = [e.step for e in board_events(live) if e.HasField("session_log")]
    assert 20 <= max(purged) <= 21
    for _ in range(2):  # the second time replaces the first
        outcome = cli("runs", "export", "alpha", "--tensorboard", "board", "--json")
        assert json.loads(outcome.out)["written"] == ["board/alpha"]
    assert scalars(tmp_path / "board" / "alpha", "train/loss") == scalars(live, "train/loss")


def test_csv_and_parquet_hold_every_event(
    trained: RunFolder, cli: CommandLine, tmp_path: Path
) -> None:
    table, columns = tmp_path / "alpha.csv", tmp_path / "alpha.parquet"
    outcome = cli("runs", "export", "alpha", f"--csv={table}", f"--parquet={columns}")
    assert (outcome.code, outcome.out.split()) == (0, [str(table), str(columns)])
    events = list(read_events(trained.events_path))
    rows = list(csv.DictReader(table.open(newline="", encoding="utf-8")))
    assert [row["type"] for row in rows] == [type(event).__name__ for event in events]
    steps = [event for event in events if isinstance(event, StepCompleted)]
    assert [float(row["loss"]) for row in rows if row["loss"]] == [event.loss for event in steps]
    samples = [event for event in events if isinstance(event, SampleGenerated)]
    assert [row["text"] for row in rows if row["text"]] == [event.text for event in samples]
    read = pyarrow.parquet.read_table(columns).to_pydict()
    assert read["type"] == [row["type"] for row in rows]
    assert [loss for loss in read["loss"] if loss is not None] == [event.loss for event in steps]
    refused = cli("runs", "export", "alpha", f"--csv={table}")
    assert refused.code == 2 and "--force" in refused.err
    assert cli("runs", "export", "alpha", f"--csv={table}", "--force").code == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("export",), "name a run and where to"),
        (("export", "alpha"), "name a run and where to"),
        (("export", "alpha", "beta", "--csv=x"), "a file holds the events of one run"),
        (("export", "alpa", "--csv=x"), "did you mean alpha?"),
        (("alpha", "--csv=x"), "belong to: runs export RUN"),
    ],
)
def test_what_is_wrong_is_one_line(
    arguments: tuple[str, ...], words: str, trained: RunFolder, cli: CommandLine
) -> None:
    outcome = cli("runs", *arguments)
    assert outcome.code == 2
    assert words in outcome.err and len(outcome.err.splitlines()) == 1
