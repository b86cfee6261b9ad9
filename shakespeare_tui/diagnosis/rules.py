"""The rules: when each diagnosis sets in, and when it clears again.

Every rule takes whether its diagnosis ``holds`` already and then asks for clearly less than it took
to set in, so that a figure hovering at a threshold does not raise it again and again.
"""

import math
import statistics

from shakespeare_tui.diagnosis.statistics import HORIZON_STEPS, Signs

PLATEAU_CHANGE = 0.01
"""A smaller improvement than this many nats over 2,000 steps is a plateau."""
MEMORISING_GAP = 0.5
"""With validation rising, a gap of this share of the training loss is memorising."""
LEARNING_STEPS = 300
"""Steps after which a loss above the bigram baseline must still fall."""
NGRAM_STEPS = 5000
"""Steps after which a loss that has stopped falling should be below the 5-gram baseline."""
SLOW_FALL = 0.13
"""A loss that falls by less than this many nats in 200 steps has all but stopped."""
UNIFORM_SHARE = 0.95
"""Takes the place of the bigram baseline, of blind guessing's loss, where that is unknown."""
FEWEST_EVALUATIONS = 4
"""Fewer evaluations show no trend."""

VANISHING_SHARE = 1e-2
"""The first block's gradient over the last one's; in sound models it is between a half and ten."""
EXPLODING_SHARE = 1e2
"""The same, where what flows back grows from block to block."""
EXPLODING_FACTOR = 30.0
"""A layer's gradient over what was usual for it."""
LARGE_UPDATE, LARGE_MUON_UPDATE = 2e-2, 6e-2
"""‖Δw‖₂ / ‖w‖₂ of the middle one of the blocks' layers. About 1e-3 is the usual advice (CS231n);
200 steps into the presets, whose rates are as high as they bear, it is 3e-3 to 7e-3 under AdamW and
up to 2e-2 under Muon, whose updates are orthogonal matrices however small the gradient is."""
SMALL_UPDATE = 1e-5
UPDATE_STEPS = 200
"""Steps at the peak rate after which updates are judged: fresh weights are small, and grow."""

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


def baseline_not_reached(signs: Signs) -> tuple[str, float]:
    """What counting alone reaches and the model does not: its name and loss in nats.

    The weaker baseline first: bigrams, then 5-grams; blind guessing where neither is known. The
    loss is infinite where all that are known are reached.
    """
    if not signs.baselines.keys() & {"bigram", "5-gram"}:
        return "blind guessing", UNIFORM_SHARE * signs.uniform_loss
    bigram = signs.baselines.get("bigram", 0.0)
    if signs.train.lowest > bigram > 0:
        return "counts of pairs of tokens, the bigram baseline", bigram
    five_gram = signs.baselines.get("5-gram", math.inf)
    return "counts of up to five tokens, the 5-gram baseline", five_gram


def is_not_learning(signs: Signs, holds: bool) -> bool:
    """Worse than counting, well after the rate has reached its peak.

    The bigram baseline counts at 300 steps past the peak where the loss has all but stopped
    falling, the 5-gram baseline at 5,000 where it has stopped at the full rate.
    """
    train, steps = signs.train, signs.settled_steps
    name, limit = baseline_not_reached(signs)
    if holds:
        return train.smoothed > 0.98 * limit
    if steps < LEARNING_STEPS or train.lowest <= limit:
        return False
    if "5-gram" in name:
        # Under a rate that has decayed, a small model has simply converged.
        fall = None if signs.is_rate_decayed else train.long_fall()
        return steps >= NGRAM_STEPS and fall is not None and fall < SLOW_FALL / 2
    fall = train.fall_over(200)
    return fall is not None and fall < SLOW_FALL


def is_overfitting(signs: Signs, holds: bool) -> bool:
    """Validation has risen from its best in at least two evaluations, while train has fallen."""
    evaluation = signs.evaluation
    if evaluation is None:
        return False
    if holds:
        # The first figure of another protocol shows no trend; the verdict stands until then.
        return evaluation.rises > 0 or signs.is_first_evaluation
    is_trend = evaluation.number >= FEWEST_EVALUATIONS and evaluation.rises >= 2
    is_past_warmup = evaluation.best_step > signs.warmup_steps
    return is_trend and is_past_warmup and evaluation.train < evaluation.best_train


def is_memorising(signs: Signs, holds: bool) -> bool:
    """Validation far above train, and rising: what is learned no longer carries over."""
    evaluation = signs.evaluation
    if evaluation is None or not is_overfitting(signs, holds):
        return False
    rise = evaluation.val - evaluation.best
    if holds:
        is_rising = rise > _SMALLEST_GAP / 2 or signs.is_first_evaluation
        return evaluation.gap > 0.8 * MEMORISING_GAP and is_rising
    return evaluation.gap > MEMORISING_GAP and rise > max(_SMALLEST_GAP, 0.03 * evaluation.best)


def depth_share(signs: Signs) -> float | None:
    """The first block's gradient over the last one's; None where there are not two."""
    blocks = signs.layers.blocks
    return blocks[0][1] / blocks[-1][1] if len(blocks) > 1 else None


def is_vanishing(signs: Signs, holds: bool) -> bool:
    """What flows back has all but died out before it reaches the first block."""
    share = depth_share(signs)
    return share is not None and share < (3 if holds else 1) * VANISHING_SHARE


def loudest_layer(signs: Signs) -> tuple[str, float] | None:
    """The layer whose gradient is highest by what is usual for it, and how many times as high."""
    layers = signs.layers
    factors = {
        name: norm / layers.usual[name]
        for name, norm in layers.gradients.items()
        if name in layers.usual
    }
    return max(factors.items(), key=lambda item: item[1]) if factors else None


def is_gradient_exploding(signs: Signs, holds: bool) -> bool:
    """A layer's gradient is far above its usual one, or grows from block to block on its way."""
    ease = 3 if holds else 1
    share, loudest = depth_share(signs), loudest_layer(signs)
    return (share is not None and share > EXPLODING_SHARE / ease) or (
        loudest is not None and loudest[1] > EXPLODING_FACTOR / ease
    )


def large_update(signs: Signs) -> float:
    """From where on an update is too large."""
    is_muon = signs.config is not None and signs.config.training.optimizer == "muon"
    return LARGE_MUON_UPDATE if is_muon else LARGE_UPDATE


def middle_update(signs: Signs) -> float | None:
    """The middle one of the update ratios of the blocks' layers; None where none is known."""
    ratios = signs.layers.block_ratios
    return statistics.median(ratios.values()) if ratios else None


def is_update_too_large(signs: Signs, holds: bool) -> bool:
    """Each step turns over so much of the weights that little of what was learned can stay."""
    middle = middle_update(signs)
    if middle is None or signs.settled_steps < UPDATE_STEPS:
        return False
    return middle > large_update(signs) * (0.7 if holds else 1)


def is_update_too_small(signs: Signs, holds: bool) -> bool:
    """At the full rate no layer of the blocks moves by as much as would ever matter."""
    ratios = signs.layers.block_ratios.values()
    if not ratios or signs.settled_steps < UPDATE_STEPS or signs.is_rate_decayed:
        return False
    return max(ratios) < SMALL_UPDATE * (2 if holds else 1)


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
