"""Experiments of tiny models, trained in the test's own process instead of one each."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from shakespeare_tui.cli.main import main
from shakespeare_tui.experiments.folder import ExperimentFolder
from shakespeare_tui.experiments.plan import Changes, read_definition
from shakespeare_tui.experiments.runner import (
    Executor,
    Job,
    Outcome,
    PlannedWork,
    Runner,
    RunPaths,
    Work,
)
from shakespeare_tui.experiments.table import ExperimentReader, ExperimentTable

MICRO = """
question: Does width help?
base: tiny
set:
  model: {n_heads: 2, n_layers: 1, d_ff: 16, max_seq_len: 16, d_model: 8}
  training: {batch_size: 4, eval_every: 2, backend: numpy, min_lr: 0}
  corpus: sample
  sampling: {every: 0, max_tokens: 4}
budget: {steps: 4}
"""
"""The beginning of an experiment file; runs of it take some hundredths of a second."""


class Ended:
    """A trainer that has ended already."""

    def __init__(self, code: int) -> None:
        self._code = code

    def poll(self) -> int | None:
        return self._code

    def stop(self) -> None:
        raise AssertionError("it has ended")


class InProcess:
    """Trains in this process, at once, as the program would in one of its own."""

    def __init__(self) -> None:
        self.started: list[Sequence[str]] = []

    def start(self, arguments: Sequence[str], environment: Mapping[str, str], log: Path) -> Ended:
        self.started.append(arguments)
        before = os.environ.get("SHAKESPEARE_TUI_RUNS")
        os.environ["SHAKESPEARE_TUI_RUNS"] = environment["SHAKESPEARE_TUI_RUNS"]
        try:
            return Ended(main(arguments))
        finally:
            if before is not None:
                os.environ["SHAKESPEARE_TUI_RUNS"] = before


class Heard:
    """A listener that remembers."""

    def __init__(self, on_start: Callable[[Job], object] = lambda job: None) -> None:
        self.outcomes: list[tuple[str, Outcome, str]] = []
        self._on_start = on_start

    def started(self, job: Job) -> None:
        self._on_start(job)

    def ended(self, job: Job, outcome: Outcome, reason: str) -> None:
        self.outcomes.append((job.trial.run, outcome, reason))

    def progressed(self, jobs: Sequence[Job], table: ExperimentTable | None) -> None:
        pass


def prepare(
    tmp_path: Path, text: str, *, name: str = "micro", replace: bool = False, **changes: Any
) -> ExperimentFolder:
    """An experiment of ``MICRO`` with ``text`` after it, in a folder of its own."""
    file = tmp_path / f"{name}.yaml"
    file.write_text(MICRO + text)
    definition = read_definition(str(file), Changes(**changes))
    folder = ExperimentFolder(tmp_path / "experiments" / name)
    folder.prepare(definition, tmp_path / "runs", threads=1, may_replace=replace)
    return folder


def train(
    folder: ExperimentFolder,
    root: Path,
    *,
    executor: Executor | None = None,
    work: Work | None = None,
    listener: Heard | None = None,
    jobs: int = 1,
    retry: bool = False,
) -> Heard:
    """Train what is left of an experiment."""
    paths, listener = RunPaths(folder, root), listener or Heard()
    Runner(
        folder,
        work or PlannedWork(folder, paths, retry=retry),
        paths,
        executor or InProcess(),
        jobs=jobs,
        listener=listener,
        pause=lambda seconds: None,
    ).run()
    return listener


def table_of(folder: ExperimentFolder, root: Path) -> ExperimentTable:
    return ExperimentReader(folder, root).read()


def without_clock(table: dict[str, Any]) -> str:
    """A table's JSON without what depends on the clock: the same bits give the same text."""
    runs = [{k: v for k, v in run.items() if k not in ("timing", "path")} for run in table["runs"]]
    return json.dumps({**table, "runs": runs})
