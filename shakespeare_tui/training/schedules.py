"""Learning-rate schedules: the rate's share of its peak, as a pure function of progress."""

import math
from collections.abc import Callable

from shakespeare_tui.config.schema import TrainingConfig

ONE_CYCLE_RISE = 0.3
"""Share of a one-cycle run over which the rate rises."""


def learning_rate_factor(
    training: TrainingConfig, step: int, progress: float, warmup_progress: float = 0.0
) -> float:
    """The learning rate of one step, as a multiple of its peak.

    Warm-up is linear: ``(step + 1) / (warmup_steps + 1)``, so that no step has a rate of zero and
    step ``warmup_steps`` is the first at the peak. The schedule's own shape applies beside it and
    the lower of the two wins, so the rate never jumps where warm-up ends. One-cycle ignores
    ``warmup_steps``: it rises from ``final_learning_rate`` over the first 30 % of the run.

    A run bounded by steps passes ``step / max_steps`` and ``warmup_steps / max_steps``: cosine and
    linear then decay from the end of warm-up (Loshchilov & Hutter 2017, arXiv:1608.03983, without
    restarts). A run with a time budget passes ``elapsed / budget`` and leaves
    ``warmup_progress`` at 0: the decay spans the whole budget, whatever time warm-up takes.

    The rate ends at ``final_learning_rate``, except under ``constant``, and except where a run is
    over before its warm-up has passed that rate.

    Args:
        training: The settings ``scheduler``, ``warmup_steps``, ``decay_fraction``,
            ``learning_rate`` and ``final_learning_rate``.
        step: The step about to be taken, from 0.
        progress: How much of the run is behind, from 0 to 1; outside values are clamped.
        warmup_progress: The progress at which the decay of cosine and linear begins.

    Returns:
        A number from 0 to 1.
    """
    progress = min(max(progress, 0.0), 1.0)
    floor = training.final_learning_rate / training.learning_rate
    if training.scheduler == "one_cycle":
        return _one_cycle(progress, floor)
    if training.scheduler == "wsd":
        shape = _stable_then_decay(progress, floor, training.decay_fraction)
    else:
        decay_progress = _rescaled(progress, warmup_progress, 1.0)
        shape = _SHAPES[training.scheduler](decay_progress, floor)
    return min(_warmup(step, training.warmup_steps), shape)


def _warmup(step: int, warmup_steps: int) -> float:
    return min(1.0, (step + 1) / (warmup_steps + 1))


def _cosine(progress: float, floor: float) -> float:
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))


def _linear(progress: float, floor: float) -> float:
    return floor + (1 - floor) * (1 - progress)


def _constant(progress: float, floor: float) -> float:
    return 1.0


def _stable_then_decay(progress: float, floor: float, decay_fraction: float) -> float:
    """Warm-up–stable–decay (Hu et al. 2024, arXiv:2404.06395) with a linear decay."""
    return _linear(_rescaled(progress, 1 - decay_fraction, 1.0), floor)


def _one_cycle(progress: float, floor: float) -> float:
    """One-cycle (Smith & Topin 2018, arXiv:1708.07120): half cosines up to the peak and down."""
    if progress < ONE_CYCLE_RISE:
        return _cosine(1 - progress / ONE_CYCLE_RISE, floor)
    return _cosine(_rescaled(progress, ONE_CYCLE_RISE, 1.0), floor)


def _rescaled(value: float, start: float, end: float) -> float:
    """Where ``value`` lies between ``start`` (0) and ``end`` (1), clamped."""
    if value <= start:
        return 0.0
    return min((value - start) / (end - start), 1.0)


_SHAPES: dict[str, Callable[[float, float], float]] = {
    "cosine": _cosine,
    "linear": _linear,
    "constant": _constant,
}
