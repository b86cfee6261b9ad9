"""A micro run whose end by a fault is compared with the same run undisturbed."""

import functools
import re
from pathlib import Path

import pytest
from operations import watching
from real_cli import TINY, CommandLine
from training_runs import what_was_learned

from shakespeare_tui.cli.main import main
from shakespeare_tui.runs.folder import RunFolder

# Everything that an exact resume must put back, evaluated, sampled and saved more than once.
RUN = (
    *("train", "--no-ui", *TINY, "--max-steps=12", "--set=training.eval_every=4"),
    *("--set=sampling.every=6", "--set=model.dropout=0.2", "--set=data.windows=shuffled"),
    *("--set=training.optimizer=muon", "--set=training.ema_decay=0.9"),
    *("--set=checkpoints.save_every=5", '--set=sampling.prompts=["the "]'),
)


@functools.cache
def _reference(folder: Path) -> tuple[RunFolder, int]:
    """The run undisturbed, and the number of operations on files that it took."""
    count = 0

    def act(name: str, paths: tuple[str, ...]) -> None:
        nonlocal count
        count += 1

    with pytest.MonkeyPatch.context() as patch:
        for name in ("cache", "runs", "config"):
            patch.setenv(f"SHAKESPEARE_TUI_{name.upper()}", str(folder / name))
        with watching(folder, act):
            assert main([*RUN, "--name=run"]) == 0
    return RunFolder(folder / "runs" / "run"), count


@pytest.fixture
def reference(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """The run undisturbed."""
    return _reference(tmp_path_factory.getbasetemp() / "reference")[0]


@pytest.fixture
def operations(tmp_path_factory: pytest.TempPathFactory) -> int:
    """How many operations on files the run takes, from an empty cache to its last word."""
    return _reference(tmp_path_factory.getbasetemp() / "reference")[1]


def finish(cli: CommandLine, runs_root: Path, name: str = "run") -> str:
    """Resume what a fault has left, or begin where it left no run; how it went on.

    Returns:
        ``resumed`` or ``begun``.
    """
    outcome = cli("train", "--no-ui", f"--resume={name}")
    if outcome.code == 0:
        hidden = {path.name for path in (runs_root / name).glob(".*")} - {".lock"}
        assert not hidden, "what crashes left behind is swept"
        return "resumed"
    assert outcome.code == 2, outcome.err
    # Nothing that was saved is out of reach.
    assert re.search(f"there is no run '{name}'|its name is free", outcome.err), outcome.err
    assert not list((runs_root / name).glob("step-*")), outcome.err
    again = cli(*RUN, f"--name={name}")
    assert again.code == 0, again.err
    return "begun"


def assert_same(run: RunFolder, reference: RunFolder) -> None:
    """Every loss, every sample and every weight is the same."""
    assert what_was_learned(run) == what_was_learned(reference)
    assert run.index() == reference.index() and run.steps() == reference.steps()
    for mine, other in zip(run.checkpoints(), reference.checkpoints(), strict=True):
        assert mine.weights_path.read_bytes() == other.weights_path.read_bytes()
