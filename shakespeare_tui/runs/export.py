"""A run's events for other programs: TensorBoard, CSV and Parquet, live or after the fact."""

import csv
import dataclasses
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from shakespeare_tui.config.fields import config_fields
from shakespeare_tui.errors import UserError
from shakespeare_tui.runs.events import (
    CheckpointEvaluated,
    CommandApplied,
    DiagnosisRaised,
    EvalCompleted,
    Event,
    RunFailed,
    RunFinished,
    RunStarted,
    SampleGenerated,
    StepCompleted,
)
from shakespeare_tui.runs.losses import EXACT, bits_per_byte, perplexity

if TYPE_CHECKING:
    from tensorboardX import SummaryWriter

_LEFT_OUT = ("logging", "checkpoints", "sampling")
"""Sections that are no hyperparameters."""


class TensorBoardWriter:
    """Writes a run's events as TensorBoard reads them: scalars, samples, and hyperparameters.

    A reader of the run's stream like any other; what was written of steps that come again, as after
    a resume, is hidden by what comes later.

    Args:
        folder: Of this run alone; TensorBoard compares the runs below ``--logdir``.

    Raises:
        UserError: The package is not installed.
        OSError: The folder cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from tensorboardX import SummaryWriter
        except ImportError:
            raise UserError(
                "writing for TensorBoard takes a package that is not installed: "
                "pip install 'shakespeare-tui[tensorboard]'"
            ) from None
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._kind: type[SummaryWriter] = SummaryWriter
        self._writer: SummaryWriter | None = None
        self._started: RunStarted | None = None
        self._bytes_per_token = 0.0
        self._figures: dict[str, float] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *details: object) -> None:
        if self._writer is not None:
            self._writer.close()

    def clear(self) -> None:
        """Remove what was written of the run before, for all of it comes now."""
        for path in self._folder.rglob("events.out.tfevents.*"):
            path.unlink()

    def resume(self, started: RunStarted) -> None:
        """Say which run goes on: its first event was written by another process."""
        self._started, self._bytes_per_token = started, started.bytes_per_token

    def __call__(self, event: Event) -> None:
        """Write one event."""
        match event:
            case RunStarted():
                self.resume(event)
                self._text("config", json.dumps(event.config, indent=2), 0, event.time)
            case StepCompleted():
                self._scalars(
                    event,
                    {
                        "train/loss": event.loss,
                        "train/grad_norm": event.grad_norm,
                        "train/learning_rate": event.learning_rate,
                        "speed/tokens_per_second": event.tokens_per_second,
                    },
                )
            case EvalCompleted():
                self._evaluation(event)
            case CheckpointEvaluated():
                self._scalars(event, {f"best/val_loss_{event.protocol}": event.val_loss})
            case SampleGenerated():
                text = event.prompt + event.text
                self._text(f"samples/{event.prompt}", text, event.step, event.time)
            case DiagnosisRaised():
                text = f"{event.kind}: {event.evidence}. Try: {event.advice}"
                self._text("doctor", text, event.step, event.time)
            case CommandApplied():
                arguments = json.dumps(event.arguments)
                self._text("commands", f"{event.command} {arguments}", event.step, event.time)
            case RunFinished() | RunFailed():
                self._end(event)
            case _:
                return

    def _evaluation(self, event: EvalCompleted) -> None:
        # The exact figure at the end is of another protocol than those before: a curve of its own.
        protocol = event.protocol
        values = {
            f"val/loss_{protocol}": event.val_loss,
            f"val/perplexity_{protocol}": perplexity(event.val_loss),
            f"val/accuracy_{protocol}": event.accuracy,
            f"train/loss_{event.train_protocol or protocol}": event.train_loss,
        }
        if event.val_loss is not None and self._bytes_per_token:
            bits = bits_per_byte(event.val_loss, self._bytes_per_token)
            values[f"val/bits_per_byte_{protocol}"] = bits
        self._scalars(event, values)
        name = "exact" if protocol == EXACT else "subset"
        if event.val_loss is not None:
            self._figures[f"hparam/val_loss_{name}"] = event.val_loss

    def _scalars(self, event: Any, values: Mapping[str, float | None]) -> None:
        writer = self._open(event.step)
        for name, value in values.items():
            if value is not None:
                writer.add_scalar(name, value, event.step, walltime=event.time)

    def _text(self, name: str, text: str, step: int, moment: float) -> None:
        # Indented, Markdown leaves it as it is.
        shown = "\n".join(f"    {line}" for line in text.splitlines())
        self._open(step).add_text(name, shown, step, walltime=moment)

    def _end(self, event: RunFinished | RunFailed) -> None:
        """The row of the run in the table of hyperparameters, and its end."""
        words = event.reason if isinstance(event, RunFinished) else f"failed: {event.error}"
        self._text("ending", words, event.step, event.time)
        if self._started is None:
            return
        settings = {
            path: value if isinstance(value, bool | int | float | str) else str(value)
            for path, value in _hyperparameters(self._started.config).items()
        }
        settings["parameters"] = self._started.parameters
        writer = self._open(event.step)
        writer.add_hparams(settings, self._figures, name="hparams", global_step=event.step)
        writer.flush()

    def _open(self, step: int) -> "SummaryWriter":
        """The writer; its first step hides what an earlier process wrote from there on."""
        if self._writer is None:
            # Files are named by the second, in which a run may end and be resumed.
            self._writer = self._kind(
                str(self._folder), purge_step=step, flush_secs=10, filename_suffix=f".{step}"
            )
        return self._writer


def _hyperparameters(config: Mapping[str, Any]) -> dict[str, Any]:
    found = {}
    for field in config_fields():
        section = config.get(field.section)
        if field.section not in _LEFT_OUT and isinstance(section, Mapping):
            value = section.get(field.key)
            if value is not None:
                found[field.path] = value
    return found


def event_rows(events: Iterable[Event]) -> Iterator[dict[str, Any]]:
    """Each event as a flat row: its type, and its fields, nested ones as JSON."""
    for event in events:
        row: dict[str, Any] = {"type": type(event).__name__}
        for field in dataclasses.fields(event):
            value = getattr(event, field.name)
            row[field.name] = json.dumps(value) if isinstance(value, dict) else value
        yield row


_FIRST = ("type", "time", "step")


def _columns(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    names = dict.fromkeys(name for row in rows for name in row)
    return [*_FIRST, *(name for name in names if name not in _FIRST)]


def events_as_csv(events: Iterable[Event]) -> str:
    """All events, a line each, with a column for every field that any of them has."""
    rows = list(event_rows(events))
    text = io.StringIO()
    writer = csv.DictWriter(text, _columns(rows), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def events_as_parquet(events: Iterable[Event]) -> bytes:
    """The same as a Parquet file.

    Raises:
        UserError: The package is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise UserError(
            "Parquet takes a package that is not installed: pip install 'shakespeare-tui[parquet]'"
        ) from None
    rows = list(event_rows(events))
    columns = {name: [row.get(name) for row in rows] for name in _columns(rows)}
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), buffer)
    return buffer.getvalue()
