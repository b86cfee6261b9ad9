"""An experiment as the lab lists it: scripted runs, finished, in training, failed and waiting."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from checkpoint_trees import add_checkpoint, add_run
from streams import finished_run, healthy_run, started, write_log

from shakespeare_tui.experiments.folder import ExperimentFolder
from shakespeare_tui.experiments.plan import Changes, Definition
from shakespeare_tui.paths import shipped_folder
from shakespeare_tui.runs.events import EvalCompleted, Event, RunFailed, RunStarted, StepCompleted
from shakespeare_tui.runs.folder import RunFolder

WIDTHS = """
question: Does width pay, and at which rate?
base: quick
set: {min_lr: 0, eval_every: 100}
axes:
  d_model: [32, 64, 128]
  learning_rate: [1.0e-3, 3.0e-3]
budget: {steps: 600}
"""
_BASE = (shipped_folder("configs") / "quick.yaml").read_text(encoding="utf-8")
_WORSE = {32: 0.32, 64: 0.14, 128: 0.0}
TRAINED = 4
"""Runs that are over; the fifth is in training, the sixth waits."""


def experiment(
    root: Path, *, name: str = "widths", text: str = WIDTHS, trained: int = TRAINED
) -> ExperimentFolder:
    """An experiment below ``root/experiments`` whose first runs are trained, in ``root/runs``."""
    folder = ExperimentFolder(root / "experiments" / name)
    definition = Definition(text, f"{name}.yaml", _BASE, Changes())
    record, _ = folder.prepare(definition, root / "runs", threads=1, may_replace=False)
    for run in record.runs[:trained]:
        make_trial(folder, root / "runs", run, list(_finished(folder, run)))
    return folder


def make_trial(
    folder: ExperimentFolder, runs_root: Path, run: str, events: list[Event]
) -> RunFolder:
    """The folder of a run of an experiment, with the checkpoints that its events tell of."""
    trial = folder.trial(run)
    config = folder.config(trial)
    made = add_run(
        runs_root,
        run,
        config=config,
        experiment=folder.name,
        variant=f"{trial.variant.label} seed={trial.seed}",
    )
    write_log(made.events_path, events)
    losses = {e.step: e for e in events if isinstance(e, EvalCompleted)}
    for step, event in losses.items():
        add_checkpoint(
            made,
            step,
            event.val_loss,
            train_loss=event.train_loss,
            exact=event.val_loss if event.protocol == "exact" else None,
            accuracy=event.accuracy,
        )
    if losses:
        made.write_index(best=min(losses, key=lambda s: losses[s].val_loss or 9), last=max(losses))
    return made


def shifted(folder: ExperimentFolder, run: str, events: Iterator[Event]) -> Iterator[Event]:
    """A scripted stream as the run of an experiment: its config, and losses of its settings."""
    config = folder.config(folder.trial(run))
    worse = _WORSE.get(config.model.d_model, 0.2)
    worse += 0.05 * (config.training.learning_rate > 2e-3)
    worse += 0.01 * (config.training.seed % 7)
    for event in events:
        if isinstance(event, RunStarted):
            yield dataclasses.replace(event, run=run, config=config.model_dump(mode="json"))
        elif isinstance(event, StepCompleted) and event.loss is not None:
            yield dataclasses.replace(event, loss=event.loss + worse * min(1.0, event.step / 100))
        elif isinstance(event, EvalCompleted) and event.val_loss is not None:
            yield dataclasses.replace(
                event,
                val_loss=event.val_loss + worse,
                train_loss=(event.train_loss or 0.0) + worse,
            )
        else:
            yield event


def _finished(folder: ExperimentFolder, run: str) -> Iterator[Event]:
    return shifted(folder, run, finished_run(600, run=run))


def in_training(folder: ExperimentFolder, runs_root: Path, run: str, steps: int = 350) -> RunFolder:
    """A run that is on its way; whoever holds its lock trains it."""
    events = shifted(folder, run, healthy_run(steps, run=run, max_steps=600))
    return make_trial(folder, runs_root, run, list(events))


def fail(folder: ExperimentFolder, runs_root: Path, run: str) -> RunFolder:
    """A run that failed at once."""
    events = [started(run), RunFailed(time=started(run).time, step=0, error="no memory is left")]
    return make_trial(folder, runs_root, run, events)
