"""Checkpoints as they are listed and compared: everything that is known of one, by name."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Literal

from shakespeare_tui.config.fields import config_fields
from shakespeare_tui.runs.catalog import CheckpointEntry, RunEntry
from shakespeare_tui.runs.compare.blind_tests import Rating
from shakespeare_tui.runs.losses import (
    Loss,
    TokenUnit,
    bits_per_byte,
    differ_in_tokenizer,
    perplexity,
)
from shakespeare_tui.runs.notes import RunNames

FigureKind = Literal["text", "loss", "share", "count", "bytes", "age", "points", "config"]
Value = float | str | None


@dataclass(frozen=True, kw_only=True)
class CheckpointItem:
    """A checkpoint with its run and what is known of both; without one, a run that has none.

    Attributes:
        parent: The checkpoint that the run's weights started from, by its name of today.
        teachers: The checkpoints that the run learns from beside the text, likewise.
        rating: Its rating by blind tests; None where it was not in any.
    """

    run: RunEntry
    checkpoint: CheckpointEntry | None
    parent: str | None = None
    teachers: tuple[str, ...] = ()
    rating: Rating | None = None

    @property
    def config(self) -> Mapping[str, str] | None:
        """The run's settings as text by path; None while they have not been read."""
        return self.run.texts

    @property
    def key(self) -> str:
        """What tells it from all others."""
        return self.checkpoint.reference if self.checkpoint else f"{self.run.name}@"

    @property
    def problem(self) -> str | None:
        """Why it cannot be used."""
        if self.checkpoint is not None and self.checkpoint.problem is not None:
            return self.checkpoint.problem
        return self.run.problem if self.checkpoint is None else None

    @property
    def is_usable(self) -> bool:
        """Whether there is a checkpoint that can write."""
        return self.checkpoint is not None and self.checkpoint.info is not None

    @property
    def losses(self) -> list[Loss]:
        """Its validation losses, the one that counts first."""
        info = self.checkpoint.info if self.checkpoint else None
        return info.losses if info else []

    @property
    def loss(self) -> Loss | None:
        """The validation loss that counts."""
        return next(iter(self.losses), None)

    @property
    def val_loss(self) -> float | None:
        """The validation loss that counts, nats per token."""
        return self.loss.value if self.loss else None

    @property
    def accuracy(self) -> float | None:
        """The share of tokens that were foretold, measured with the loss that counts."""
        return self.loss.accuracy if self.loss else None

    @property
    def unit(self) -> TokenUnit:
        """What its losses are counted in."""
        return self.run.info.unit if self.run.info else TokenUnit("", None)

    @property
    def bits_per_byte(self) -> float | None:
        """The validation loss that counts, by the text's bytes: compares across tokenizers."""
        size = self.unit.bytes_per_token
        return bits_per_byte(self.val_loss, size) if size and self.val_loss is not None else None

    @property
    def train_loss(self) -> float | None:
        """Training loss, nats per token."""
        info = self.checkpoint.info if self.checkpoint else None
        return info.train_loss if info else None

    @property
    def gap(self) -> float | None:
        """How far validation lies above training where both were measured alike, nats per token."""
        info = self.checkpoint.info if self.checkpoint else None
        if info is None or info.val_loss is None or info.train_loss is None:
            return None
        return info.val_loss - info.train_loss

    @property
    def time(self) -> float:
        """When it was written, Unix seconds."""
        info = self.checkpoint.info if self.checkpoint else None
        return info.time if info else self.run.written


def items_of(
    runs: Iterable[RunEntry],
    *,
    ratings: Mapping[str, Rating] | None = None,
) -> list[CheckpointItem]:
    """Every checkpoint, run by run; a run without any is one item.

    Args:
        runs: What is in the folder.
        ratings: By ``RUN@STEP``.
    """
    runs, ratings = list(runs), ratings or {}
    names = RunNames(runs)
    items = []
    for run in runs:
        parent = run.info.parent if run.info else None
        if parent is not None:
            parent = _name_now(names, parent, run)
        taught_by = (run.info.teachers if run.info else None) or {}
        teachers = tuple(_name_now(names, teacher, run) for teacher in taught_by)
        for checkpoint in run.checkpoints or (None,):
            rating = ratings.get(checkpoint.reference) if checkpoint else None
            items.append(
                CheckpointItem(
                    run=run,
                    checkpoint=checkpoint,
                    parent=parent,
                    teachers=teachers,
                    rating=rating,
                )
            )
    return items


def _name_now(names: RunNames, reference: str, run: RunEntry) -> str:
    """What a checkpoint that a run names is called today; a path stays as it is."""
    if "@" not in reference:
        return reference
    return names.reference_now(reference, run.created) or f"{reference} (gone)"


@dataclass(frozen=True)
class Figure:
    """Something to sort and filter by."""

    name: str
    kind: FigureKind
    value: Callable[[CheckpointItem, float], Value]
    """Of an item at a time in Unix seconds; None where it has none."""


def _marks(item: CheckpointItem) -> str:
    checkpoint = item.checkpoint
    marks = ["damaged"] if item.problem else []
    if checkpoint is not None:
        marks += ["best"] * checkpoint.is_best + ["last"] * checkpoint.is_last
    return " ".join(marks)


def _step(item: CheckpointItem) -> Value:
    return item.checkpoint.step if item.checkpoint and item.checkpoint.step >= 0 else None


def _of_run(name: str) -> Callable[[CheckpointItem, float], Value]:
    def value(item: CheckpointItem, now: float) -> Value:
        found: Value = getattr(item.run.info, name) if item.run.info else None
        return found

    return value


FIGURES: Mapping[str, Figure] = {
    figure.name: figure
    for figure in (
        Figure("run", "text", lambda item, now: item.run.name),
        Figure("step", "count", lambda item, now: _step(item)),
        Figure("val", "loss", lambda item, now: item.val_loss),
        Figure("train", "loss", lambda item, now: item.train_loss),
        Figure("gap", "loss", lambda item, now: item.gap),
        Figure("ppl", "loss", lambda item, now: perplexity(item.val_loss)),
        Figure("bits", "loss", lambda item, now: item.bits_per_byte),
        Figure("accuracy", "share", lambda item, now: item.accuracy),
        Figure("elo", "points", lambda item, now: item.rating.points if item.rating else None),
        Figure(
            "size",
            "bytes",
            lambda item, now: item.checkpoint.size_bytes if item.checkpoint else None,
        ),
        Figure("age", "age", lambda item, now: now - item.time),
        Figure("params", "count", _of_run("parameters")),
        Figure("corpus", "text", _of_run("corpus")),
        Figure("parent", "text", lambda item, now: item.parent),
        Figure("experiment", "text", _of_run("experiment")),
        Figure("variant", "text", _of_run("variant")),
        Figure("note", "text", lambda item, now: item.run.notes.note),
        Figure("state", "text", lambda item, now: item.run.state),
        Figure(
            "protocol",
            "text",
            lambda item, now: item.loss.protocol if item.loss else None,
        ),
        Figure("checkpoint", "text", lambda item, now: item.key),
        Figure("is", "text", lambda item, now: _marks(item)),
    )
}
"""By the name that is typed, in the order in which help tells them."""
GREATEST_FIRST = ("accuracy", "elo", "step")
"""What is sorted in descending order unless it is asked for the other way."""


@cache
def config_figures() -> Mapping[str, Figure]:
    """Every setting by its path, and by its key where only one section has it."""
    keys = [field.key for field in config_fields()]
    figures = {}
    for field in config_fields():
        figure = Figure(field.path, "config", _setting(field.path))
        figures[field.path] = figure
        if keys.count(field.key) == 1:
            figures[field.key] = figure
    return figures


def _setting(path: str) -> Callable[[CheckpointItem, float], Value]:
    return lambda item, now: item.config.get(path) if item.config is not None else None


def _per_byte(name: str) -> Callable[[CheckpointItem, float], Value]:
    """A loss per token, or its perplexity, as it compares across tokenizers."""
    if name in ("bits", "ppl"):
        return FIGURES["bits"].value

    def value(item: CheckpointItem, now: float) -> Value:
        loss, size = FIGURES[name].value(item, now), item.unit.bytes_per_token
        return loss / size if isinstance(loss, float) and size else None

    return value


def _protocol_order(item: CheckpointItem) -> tuple[bool, str]:
    loss = item.loss
    return (loss is None or not loss.is_exact, loss.protocol if loss else "")


def sort_items(
    items: Iterable[CheckpointItem], name: str, *, is_descending: bool, now: float
) -> list[CheckpointItem]:
    """Items by a figure; those that have none come last either way, equals stay as they were.

    Losses and accuracies are sorted within a protocol: the exact ones come first either way. Where
    tokenizers differ, losses per token are sorted by bits per byte.
    """
    items = list(items)
    value = FIGURES[name].value
    if FIGURES[name].kind == "loss" and differ_in_tokenizer(
        item.unit for item in items if item.losses
    ):
        value = _per_byte(name)
    known: list[tuple[float | str, CheckpointItem]] = []
    unknown = []
    for item in items:
        found = value(item, now)
        if found is None:
            unknown.append(item)
        else:
            known.append((found, item))
    known.sort(key=lambda pair: pair[0], reverse=is_descending)
    if FIGURES[name].kind in ("loss", "share"):
        known.sort(key=lambda pair: _protocol_order(pair[1]))
    return [item for _, item in known] + unknown
