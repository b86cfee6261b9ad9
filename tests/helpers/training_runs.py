"""Train tiny models in this process, with a hand on every event, and read back what was written."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from shakespeare_tui.config.load import load_config
from shakespeare_tui.config.schema import Config
from shakespeare_tui.errors import RunFailedError
from shakespeare_tui.runs.commands import Command, CommandInbox
from shakespeare_tui.runs.event_log import EventLog
from shakespeare_tui.runs.events import Event, RunFinished, StepCompleted
from shakespeare_tui.runs.folder import Checkpoint, RunFolder
from shakespeare_tui.training.loop import Trainer
from shakespeare_tui.training.request import TrainingRequest
from shakespeare_tui.training.session import Session, open_session

OnEvent = Callable[[Event, CommandInbox], None]
Prepare = Callable[[Session], None]

_BASE = {
    "model.d_model": 16,
    "model.n_heads": 2,
    "model.n_layers": 1,
    "model.d_ff": 32,
    "model.max_seq_len": 16,
    "training.batch_size": 4,
    "training.max_steps": 24,
    "training.warmup_steps": 4,
    "training.eval_every": 8,
    "training.precision": "float32",
    "data.corpus": "sample",
    "sampling.every": 8,
    "sampling.max_tokens": 12,
    "sampling.prompts": '["A", "the "]',
    "logging.layers_every": 6,
}


BACKENDS = ("torch", "numpy")
on_both_backends = pytest.mark.parametrize("backend", BACKENDS)
"""What every run does, whatever computes it."""


def make_config(**overrides: Any) -> Config:
    """The tiny config with changes: ``make_config(training__max_steps=8)``."""
    values = _BASE | {key.replace("__", "."): value for key, value in overrides.items()}
    written = {key: "null" if value is None else value for key, value in values.items()}
    return load_config("tiny", [f"{key}={value}" for key, value in written.items()])


@dataclass(frozen=True)
class Trained:
    run: RunFolder
    events: list[Event]
    finished: RunFinished
    session: Session

    def of(self, kind: type[Event]) -> list[Any]:
        return [event for event in self.events if type(event) is kind]


def train(
    root: Path,
    config: Config,
    *,
    name: str = "run",
    on_event: OnEvent | None = None,
    prepare: Prepare | None = None,
    before_log: OnEvent | None = None,
) -> Trained:
    with open_session(TrainingRequest(root=root, config=config, name=name)) as session:
        return run_session(session, on_event, prepare, before_log)


def resume(
    root: Path,
    reference: str = "run",
    overrides: Sequence[str] = (),
    *,
    on_event: OnEvent | None = None,
    prepare: Prepare | None = None,
) -> Trained:
    request = TrainingRequest(root=root, resume=reference, overrides=tuple(overrides))
    with open_session(request) as session:
        return run_session(session, on_event, prepare)


def run_session(
    session: Session,
    on_event: OnEvent | None = None,
    prepare: Prepare | None = None,
    before_log: OnEvent | None = None,
) -> Trained:
    """Train as ``train --no-ui`` does: every event to the log, then to the test's own hand.

    Where the test's hand raises what nothing catches, lines that the log still holds in memory are
    lost, as when the process is killed.
    """
    events: list[Event] = []
    inbox = CommandInbox(session.run.commands_path, poll_seconds=0)
    log = EventLog(session.run.events_path, every=session.config.logging.every)

    def emit(event: Event) -> None:
        if before_log:
            before_log(event, inbox)
        log(event)
        events.append(event)
        if on_event:
            on_event(event, inbox)

    if prepare:
        prepare(session)
    try:
        finished = Trainer(session, emit, inbox, sync_log=log.sync).run()
    except RunFailedError:
        log.close()
        raise
    log.close()
    return Trained(session.run, events, finished, session)


def read_lines(run: RunFolder) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run.events_path.read_text().splitlines()]


def what_was_learned(run: RunFolder) -> list[tuple[Any, ...]]:
    """All that must not differ between two runs of one config: no times, no speeds."""
    fields = {
        "StepCompleted": ("step", "loss", "learning_rate", "grad_norm"),
        "LayerStatistics": ("step", "layers", "grad_norms", "update_ratios"),
        "EvalCompleted": ("step", "train_loss", "val_loss", "protocol", "accuracy"),
        "SampleGenerated": ("step", "prompt", "text"),
    }
    return [
        (line["type"], *(line[field] for field in fields[line["type"]]))
        for line in read_lines(run)
        if line["type"] in fields
    ]


def post_at(step: int, *commands: Command) -> OnEvent:
    def act(event: Event, inbox: CommandInbox) -> None:
        if isinstance(event, StepCompleted) and event.step == step:
            for command in commands:
                inbox.post(command)

    return act


def forget_digests(checkpoint: Checkpoint) -> None:
    """As a checkpoint of an older version, whose content nothing vouches for."""
    path = checkpoint.folder / "info.json"
    info = json.loads(path.read_text())
    kept = {key: value for key, value in info.items() if not key.endswith("_sha256")}
    path.write_text(json.dumps(kept | {"format": 1}))
