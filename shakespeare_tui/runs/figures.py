"""The current figures of a run: where it stands, how good it is, how fast it goes."""

import math
from dataclasses import dataclass
from typing import Any

from shakespeare_tui.config.estimate.speed import SPEED_STEPS, evaluation_seconds, mean_speed
from shakespeare_tui.files import as_number
from shakespeare_tui.formatting import context_note
from shakespeare_tui.runs.folder import pretrained_note
from shakespeare_tui.runs.history import Best, RunHistory
from shakespeare_tui.runs.losses import Loss, bits, perplexity
from shakespeare_tui.runs.series import TRAIN_LOSS_STEPS

_PACE_STEPS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFigures:
    """What the screen writes beside the chart; None where it is not known.

    Attributes:
        step: Steps done.
        total_steps: Steps planned; None under a time budget.
        share: How much of the run is done, from 0 to 1.
        epoch: How often as many tokens as the training split has were seen.
        train_loss: Mean of about the last ``TRAIN_LOSS_STEPS`` steps, nats per token.
        val: The latest validation loss, with its accuracy.
        best: The lowest validation loss.
        perplexity: Exponential of the validation loss.
        bits: The same loss in bits of the text, and their unit: ``bits/char`` or ``bits/byte``.
        tokens_per_second: Over the last 20 steps, evaluations and samples left out.
        elapsed_seconds: Training time, pauses left out.
        seconds_left: At the pace of the last 200 steps, evaluations and samples included, the
            exact one at the end, too.
        notes: What to know of the losses: at which length they are, where that is not the model's,
            and what a pretrained model may have read.
    """

    step: int
    total_steps: int | None
    share: float | None
    epoch: float | None
    train_loss: float | None
    val: Loss | None
    best: Best | None
    perplexity: float | None
    bits: tuple[float | None, str]
    learning_rate: float | None
    grad_norm: float | None
    tokens_per_second: float | None
    elapsed_seconds: float
    seconds_left: float | None
    notes: tuple[str, ...]


def run_figures(history: RunHistory) -> RunFigures:
    """The figures of a run as far as its events have come."""
    last, evaluation = history.last, history.last_evaluation
    minutes, total_steps = history.planned_minutes, history.planned_steps
    elapsed = (last.elapsed_seconds or 0.0) if last else 0.0
    share: float | None = None
    seconds_left: float | None = None
    if minutes is not None:
        budget = 60 * minutes
        share, seconds_left = elapsed / budget, budget - elapsed
    elif total_steps is not None:
        share = history.last_step / total_steps if total_steps else None
        pace = _seconds_a_step(history)
        if pace is not None:
            seconds_left = pace * (total_steps - history.last_step) + _exact_seconds(history)
    if history.phase in ("finished", "failed"):
        seconds_left = None
    val = None
    if evaluation is not None and evaluation.val_loss is not None:
        val = Loss(evaluation.val_loss, evaluation.protocol, accuracy=evaluation.accuracy)
    if share is not None:
        share = min(max(share, 0.0), 1.0)
    if history.finished is not None and history.finished.reason == "completed":
        share = 1.0  # a time budget may leave some of what was kept for the end
    return RunFigures(
        step=history.last_step,
        total_steps=total_steps,
        share=share,
        epoch=_epoch(history),
        train_loss=history.smoothed_loss(TRAIN_LOSS_STEPS).last(),
        val=val,
        best=history.best,
        perplexity=perplexity(val.value) if val else None,
        bits=bits_of(val.value if val else None, history),
        learning_rate=last.learning_rate if last else None,
        grad_norm=last.grad_norm if last else None,
        tokens_per_second=tokens_per_second(history),
        elapsed_seconds=elapsed,
        seconds_left=None if seconds_left is None else max(0.0, seconds_left),
        notes=_notes(history),
    )


def bits_of(loss: float | None, history: RunHistory) -> tuple[float | None, str]:
    """A loss of a run in nats per token, by the run's validation text; see ``bits``."""
    value, unit = bits(loss or 0.0, history.characters_per_token, history.unit.bytes_per_token)
    return (None if loss is None else value), unit


def _section(history: RunHistory, name: str) -> dict[str, Any]:
    section = history.config.get(name)
    return section if isinstance(section, dict) else {}


def _seq_len(history: RunHistory) -> float | None:
    """Tokens in a training window."""
    longest = as_number(_section(history, "model").get("max_seq_len"))
    return as_number(_section(history, "data").get("seq_len")) or longest


def _notes(history: RunHistory) -> tuple[str, ...]:
    seq_len = _seq_len(history)
    longest = as_number(_section(history, "model").get("max_seq_len"))
    note = context_note(seq_len, longest) if seq_len and longest else ""
    source = history.started.pretrained if history.started else ""
    return tuple(filter(None, (note, pretrained_note(source) if source else "")))


def _epoch(history: RunHistory) -> float | None:
    """Tokens seen over the training split's."""
    a_step = tokens_a_step(history)
    train_tokens, _ = _parts(history)
    if not a_step or not train_tokens:
        return None
    return history.last_step * a_step / max(1.0, train_tokens)


def tokens_a_step(history: RunHistory) -> float | None:
    """Tokens that a run learns from in each step; None where its config does not tell."""
    training = _section(history, "training")
    seq_len, batch_size = _seq_len(history), as_number(training.get("batch_size"))
    if not seq_len or not batch_size:
        return None
    return batch_size * (as_number(training.get("grad_accumulation")) or 1) * seq_len


def _parts(history: RunHistory) -> tuple[float, float]:
    """Tokens to learn from and to measure on; in older logs a character is taken for a token."""
    started = history.started
    if started is None:
        return 0, 0
    if started.train_tokens:
        return started.train_tokens, started.val_tokens
    fraction = as_number(_section(history, "data").get("val_fraction")) or 0.1
    return (1 - fraction) * started.corpus_tokens, fraction * started.corpus_tokens


def tokens_per_second(history: RunHistory) -> float | None:
    """The speed of the last ``SPEED_STEPS`` steps, evaluations and samples left out."""
    first = history.last_step - SPEED_STEPS + 1
    return mean_speed(history.series("tokens_per_second").window(first).values.tolist())


def _exact_seconds(history: RunHistory) -> float:
    """About what is left of the exact evaluation at the end."""
    speed, started = tokens_per_second(history), history.started
    if speed is None or started is None:
        return 0.0
    _, tokens = _parts(history)
    if history.evaluating is not None:
        tokens = history.evaluating.total - history.evaluating.done
    is_rounded = started.precision != "float32"
    return evaluation_seconds(tokens, speed, is_rounded=is_rounded)


def _seconds_a_step(history: RunHistory) -> float | None:
    first = history.last_step - _PACE_STEPS
    window = history.series("elapsed_seconds").window(first)
    if len(window) < 2:
        return None
    seconds = float(window.values[-1] - window.values[0])
    steps = int(window.steps[-1] - window.steps[0])
    return seconds / steps if math.isfinite(seconds) and seconds > 0 else None
