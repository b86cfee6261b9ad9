"""Runs as the Checkpoints screen lists them, and when it has read them."""

import json
import os
from pathlib import Path

from checkpoint_trees import weights
from lab_harness import NOW
from streams import finished_run, in_byte_pairs, make_run

from shakespeare_tui.runs.compare.blind_tests import Verdict, append_verdict
from shakespeare_tui.runs.editing import annotate_run
from shakespeare_tui.runs.folder import RunFolder
from shakespeare_tui.ui.app import LabApp
from shakespeare_tui.ui.checkpoints.screen import CheckpointsScreen
from shakespeare_tui.ui.checkpoints.writing import WritingScreen


def save(
    run: RunFolder, step: int, val_loss: float, age_seconds: float, *, gap: float = 0.11
) -> None:
    """A checkpoint's figures, and as many bytes as it would have."""
    folder = run.checkpoint_folder(step)
    folder.mkdir()
    figures = {
        "format": 1,
        "step": step,
        "val_loss": val_loss,
        "train_loss": val_loss - gap,
        "protocol": "subset-64",
        "time": NOW - age_seconds,
        "elapsed_seconds": step / 20,
    }
    (folder / "info.json").write_text(json.dumps(figures))
    (folder / "weights.safetensors").write_bytes(weights(3_100_000))


def runs(root: Path) -> None:
    """Two runs: the later one forked from the earlier."""
    for age_seconds, name, losses in (
        (7200, "quick-1", {1000: 1.8123, 1500: 1.6544, 2000: 1.5871}),
        (900, "quick-1-fork-1", {500: 1.5902, 1000: 1.5433, 1500: 1.5512}),
    ):
        run = make_run(root, name, finished_run(max(losses), run=name))
        for step, loss in losses.items():
            gap = 0.38 if (name, step) == ("quick-1-fork-1", 1000) else 0.11
            save(run, step, loss, age_seconds + max(losses) - step, gap=gap)
        run.write_index(best=min(losses, key=lambda s: losses[s]), last=max(losses))
        record = json.loads((run.path / "run.json").read_text()) | {"created": NOW - age_seconds}
        if name != "quick-1":
            record["parent"] = "quick-1@2000"
        (run.path / "run.json").write_text(json.dumps(record))
        os.utime(run.path / "run.json", (NOW - age_seconds, NOW - age_seconds))


def runs_in_several_tokenizers(root: Path) -> None:
    """The same, the later one a pretrained model's, which learns byte pairs."""
    runs(root)
    for name, about in (
        ("quick-1", {"tokenizer_sha256": "characters", "bytes_per_token": 1.0}),
        (
            "quick-1-fork-1",
            {"tokenizer_sha256": "pairs", "bytes_per_token": 2.0, "pretrained": "smollm2-135m"},
        ),
    ):
        path = root / name / "run.json"
        times = os.stat(path)
        path.write_text(json.dumps(json.loads(path.read_text()) | about))
        os.utime(path, (times.st_mtime, times.st_mtime))
        stream = finished_run(2000, run=name)
        events = in_byte_pairs(stream) if name != "quick-1" else stream
        lines = "".join(event.to_json() + "\n" for event in events)
        RunFolder(root / name).events_path.write_text(lines)


def damaged_runs(root: Path) -> None:
    """The same with a note, verdicts, and things that are damaged or foreign."""
    runs(root)
    annotate_run(RunFolder(root / "quick-1"), "the [b]first[/b] one")
    for first, second, score in (
        ("quick-1@2000", "quick-1@1000", 1),
        ("quick-1@2000", "quick-1-fork-1@1000", 0.5),
        ("quick-1-fork-1@1000", "quick-1@1000", 1),
    ):
        verdict = Verdict(
            time=NOW, first=first, second=second, score=score, prompt="ROMEO:", seed=42
        )
        append_verdict(root, verdict)
    (root / "quick-1" / "step-00001500" / "info.json").write_text("{")
    broken = root / "hf-model"
    broken.mkdir()
    os.utime(broken, (NOW - 9000, NOW - 9000))
    newer = root / "newer-1"
    newer.mkdir()
    (newer / "run.json").write_text('{"format": 99, "name": "[b]newer[/b]"}')
    os.utime(newer, (NOW - 9900, NOW - 9900))


def is_read(app: LabApp) -> bool:
    """Whether the settings of the runs are there, which come last."""
    return isinstance(app.screen, CheckpointsScreen) and bool(app.screen.browser.configs)


def whole(app: LabApp) -> bool:
    """Whether everything that is wanted is written and shown."""
    screen = app.screen
    return (
        isinstance(screen, WritingScreen)
        and not screen.writer.is_busy
        and all(screen.writer.of(request).state for request in screen.wanted())
    )
