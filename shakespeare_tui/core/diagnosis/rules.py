"""The rules: when each diagnosis sets in, and when it clears again.

Every rule takes whether its diagnosis ``holds`` already and then asks for clearly less than it took
to set in, so that a figure hovering at a threshold does not raise it again and again.
"""

from shakespeare_tui.core.diagnosis.curves import HORIZON_STEPS
from shakespeare_tui.core.diagnosis.signs import Signs

PLATEAU_CHANGE = 0.01
"""A smaller improvement than this many nats over 2,000 steps is a plateau."""
OVERFITTING_GAP = 0.2
"""Validation further above train than this share of train is overfitting."""
MEMORISING_GAP = 0.5
"""With validation rising, a gap of this share is memorising."""
UNIGRAM_SHARE = 0.93
"""A loss above this share of the unigram loss has learned little but token frequencies."""
SLOW_FALL = 0.15
"""A loss at that level that falls by less than this many nats in 200 steps is stuck."""
UNIFORM_SHARE = 0.95
"""Takes the place of ``UNIGRAM_SHARE``, of blind guessing's loss, where unigram's is unknown."""

_SMALLEST_GAP = 0.05
"""Nats: under this, even a large share is of no account."""


def is_exploding(signs: Signs, holds: bool) -> bool:
    """A spike of several steps above the lowest level, or one enormous loss.

    During warm-up only a loss clearly above a fresh model's counts.
    """
    train, margin = signs.train, spike_margin(signs)
    if holds:
        return max(train.smoothed, train.recent_highest()) > train.lowest + margin / 2
    worst = signs.highest_normal_loss
    limit = 1.25 * worst
    if not signs.is_warming_up:
        limit = min(limit, train.lowest + margin)
    if train.last_loss <= limit:
        # The median passes the limit only in a step that itself lies above it.
        return False
    recent = train.recent_median()
    return train.last_loss > 2 * worst or (recent is not None and recent > limit)


def spike_margin(signs: Signs) -> float:
    """How far above its lowest level the loss must stand to be a spike, in nats."""
    return max(0.4, 0.2 * signs.train.lowest, 6 * signs.train.noise)


def not_learning_limit(signs: Signs) -> float:
    """The loss in nats above which nothing but token frequencies can have been learned."""
    if signs.unigram_loss is not None:
        return UNIGRAM_SHARE * signs.unigram_loss
    return UNIFORM_SHARE * signs.uniform_loss


def is_not_learning(signs: Signs, holds: bool) -> bool:
    """Still no better than token frequencies, well after the rate has reached its peak.

    At 200 steps past the peak the loss must also have all but stopped falling; at 1,000 steps even
    a falling loss is too slow.
    """
    limit = not_learning_limit(signs)
    if holds:
        return signs.train.smoothed > 0.98 * limit
    if signs.settled_steps < 200 or signs.train.lowest <= limit:
        return False
    if signs.settled_steps >= 1000:
        return True
    fall = signs.train.fall_over(200)
    return fall is not None and fall < SLOW_FALL


def is_overfitting(signs: Signs, holds: bool) -> bool:
    """Validation more than 20 % above train."""
    evaluation = signs.evaluation
    if evaluation is None or evaluation.step <= signs.warmup_steps:
        return False
    threshold = 0.75 * OVERFITTING_GAP if holds else OVERFITTING_GAP
    return evaluation.gap > threshold and evaluation.val - evaluation.train > _SMALLEST_GAP


def is_memorising(signs: Signs, holds: bool) -> bool:
    """Validation far above train, and rising: what is learned no longer carries over."""
    evaluation = signs.evaluation
    if evaluation is None or not is_overfitting(signs, holds):
        return False
    rise = evaluation.val - evaluation.best
    if holds:
        # The first figure of another protocol cannot show a rise; the verdict stands until then.
        is_rising = rise > _SMALLEST_GAP / 2 or signs.is_first_evaluation
        return evaluation.gap > 0.8 * MEMORISING_GAP and is_rising
    return evaluation.gap > MEMORISING_GAP and rise > max(_SMALLEST_GAP, 0.03 * evaluation.best)


def long_improvement(signs: Signs) -> float | None:
    """The fall of the loss over the last 2,000 steps: validation's if known, else train's."""
    evaluations = signs.evaluations
    improvement = evaluations.improvement() if evaluations is not None else None
    return signs.train.long_fall() if improvement is None else improvement


def is_plateau(signs: Signs, holds: bool) -> bool:
    """Less than 0.01 nats better than 2,000 steps ago."""
    if signs.settled_steps < HORIZON_STEPS:
        return False
    improvement = long_improvement(signs)
    if improvement is None:
        return holds
    return improvement < (2 * PLATEAU_CHANGE if holds else PLATEAU_CHANGE)
