"""What each diagnosis says: a headline, the evidence in numbers and what to try."""

import math
from dataclasses import dataclass

from shakespeare_tui.diagnosis.rules import (
    EXPLODING_FACTOR,
    baseline_not_reached,
    large_update,
    long_improvement,
    loudest_layer,
    middle_update,
)
from shakespeare_tui.diagnosis.statistics import Evaluation, Signs
from shakespeare_tui.formatting import counted, format_rate
from shakespeare_tui.models.parameters import layer_title

_GRADIENT, _LOSS = "the gradient", "the loss"
_LOSS_NOT_FINITE = "The loss is not a number"
_LOW_ADAM_RATE = 3e-4
"""A cautious peak rate of Adam for small models; far below it, ten times more is too little."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The texts of one diagnosis: single lines, for a screen and for a log."""

    headline: str
    evidence: str
    advice: str


# --- failures ------------------------------------------------------------------------------------


def nan(signs: Signs, step: int) -> Finding:
    """The loss of ``step`` was not a number."""
    train = signs.train
    evidence = f"the loss of step {step:,} is not finite (NaN or infinite)"
    if train.first is not None:
        evidence += f"; the last finite one was {_loss(train.last_loss)} at step "
        evidence += f"{train.last_step:,}{_grad_norm(signs)}"
    return Finding(_LOSS_NOT_FINITE, evidence, advice_on_failure(signs))


def advice_on_failure(signs: Signs) -> str:
    """What to try where a loss or a gradient was not finite."""
    advice = f"Lower {_rates(signs, 1 / 3)}{_clipping(signs)}"
    if signs.config is None or signs.config.training.on_nan == "stop":
        advice += "; with training.on_nan: rollback a run goes back and halves the LR by itself"
    return f"{advice}."


def describe_refused(step: int, loss: float, grad_norm: float) -> str:
    """Why a step was not applied: what of it was not finite."""
    if math.isfinite(loss):
        norm = "NaN" if math.isnan(grad_norm) else "infinite"
        return f"{_GRADIENT} of step {step:,} is {norm}, with a loss of {_loss(loss)}"
    return f"{_LOSS} of step {step:,} is {'NaN' if math.isnan(loss) else 'infinite'}"


def refused(evidence: str, advice: str) -> Finding:
    """A step that the trainer did not apply, from what it said of it."""
    headline = "Training diverged"
    if evidence.startswith(_GRADIENT):
        headline = "The gradient is not a number"
    elif evidence.startswith(_LOSS):
        headline = _LOSS_NOT_FINITE
    return Finding(headline, evidence, advice)


def exploding(signs: Signs) -> Finding:
    """The loss shot up."""
    train = signs.train
    level = train.recent_median()
    if level is None or train.last_loss > 2 * signs.highest_normal_loss:
        level = train.last_loss
    evidence = (
        f"train loss {_loss(level)}, {_loss(level - train.lowest)} above its lowest level "
        f"{train.lowest:.2f} (step {train.lowest_step:,}){_grad_norm(signs)}"
    )
    longer = max(2 * signs.warmup_steps, 100)
    advice = (
        f"Lower {_rates(signs, 1 / 3)}{_clipping(signs)}, or raise training.warmup_steps to "
        f"{longer:,}; if the loss does not come back down, {_way_back(signs)}."
    )
    return Finding("The loss has shot up", evidence, advice)


def not_learning(signs: Signs) -> Finding:
    """The loss is no better than counting tokens."""
    train = signs.train
    name, limit = baseline_not_reached(signs)
    reference = limit if signs.baselines else signs.uniform_loss
    evidence = (
        f"train loss {train.smoothed:.2f} after {train.last_step:,} steps, where {reference:.2f} "
        f"({name}) needs no model; LR {format_rate(signs.rate, 2)}"
    )
    if "5-gram" in name:
        return Finding(
            "Less learned than by counting",
            evidence,
            f"The model is too small or the LR does not suit it: {_larger(signs)}, or "
            f"change {_rates(signs, 3)}.",
        )
    start = train.first if train.first is not None else signs.uniform_loss
    total = start - train.smoothed
    recent = train.fall_over(200) or 0.0
    average = 200 * total / max(train.last_step, 1)
    # A rate that is too low creeps down evenly; one that is too high falls at once and gets stuck.
    if total < 0.1 or recent > 0.3 * average:
        advice = (
            f"The loss moves too slowly: raise {_rates(signs, _raise_factor(signs))}; if that "
            f"changes nothing, check that the corpus is text (data inspect)."
        )
    else:
        advice = (
            f"The loss fell a little and stuck: lower {_rates(signs, 0.1)}, raise "
            f"training.warmup_steps to {max(2 * signs.warmup_steps, 100):,}; if that changes "
            f"nothing, check that the corpus is text and not shuffled or encoded (data inspect)."
        )
    return Finding("The model is not learning", evidence, advice)


# --- layers --------------------------------------------------------------------------------------


def vanishing_gradients(signs: Signs) -> Finding:
    """The first block learns from next to nothing."""
    advice = f"{_capitalised(_attention(signs))}lower {_rates(signs, 1 / 3)}"
    return Finding(
        "Gradients vanish on their way back",
        f"{_depth(signs)}: what flows back shrinks from block to block, and the first ones hardly "
        "learn",
        f"{advice}; if they stay silent, {_shallower(signs)}.",
    )


def exploding_gradients(signs: Signs) -> Finding:
    """A layer's gradient has grown out of all proportion."""
    loudest = loudest_layer(signs)
    if loudest is not None and loudest[1] > EXPLODING_FACTOR / 3:
        layer, factor = loudest
        usual = signs.layers.usual[layer]
        evidence = (
            f"the gradient of {layer_title(layer)} is {format_rate(usual * factor, 2)}, where "
            f"{format_rate(usual, 2)} was usual"
        )
    else:
        evidence = f"{_depth(signs)}: what flows back grows from block to block"
    longer = max(2 * signs.warmup_steps, 100)
    return Finding(
        "The gradient of a layer has blown up",
        evidence,
        f"Lower {_rates(signs, 1 / 3)}{_clipping(signs)}, or raise training.warmup_steps to "
        f"{longer:,}; if it does not come back down, {_way_back(signs)}.",
    )


def updates_too_large(signs: Signs) -> Finding:
    """Steps turn over too much of the weights."""
    middle, limit = middle_update(signs) or 0.0, large_update(signs)
    return Finding(
        "Updates are too large",
        f"a step moves the layers of the blocks by {100 * middle:.2g} % of their weights (update / "
        f"weight, the middle layer); above {100 * limit:.2g} % little of what was learned stays",
        f"Lower {_rates(signs, min(1 / 3, limit / (6 * middle)) if middle else 1 / 3)}.",
    )


def updates_too_small(signs: Signs) -> Finding:
    """Steps change next to nothing."""
    largest = max(signs.layers.block_ratios.values(), default=0.0)
    return Finding(
        "Updates are too small",
        f"a step moves no layer of the blocks by more than {format_rate(largest, 2)} of its "
        "weights, where 1e-3 is usual",
        f"Raise {_rates(signs, 10.0)}.",
    )


def _depth(signs: Signs) -> str:
    """The gradients at both ends of the model."""
    (first, low), *_, (last, high) = signs.layers.blocks
    return (
        f"the gradient of block {first + 1} is {format_rate(low, 2)}, that of block {last + 1} "
        f"{format_rate(high, 2)}"
    )


def _attention(signs: Signs) -> str:
    if signs.config is not None and signs.config.model.qk_norm:
        return ""
    return "set model.qk_norm to true, so that attention does not saturate, or "


def _shallower(signs: Signs) -> str:
    if signs.config is None:
        return "lower model.n_layers"
    return f"lower model.n_layers to {max(1, signs.config.model.n_layers // 2)}"


# --- trends --------------------------------------------------------------------------------------


def overfitting(signs: Signs) -> Finding:
    """Validation rises while train falls."""
    evaluation = _evaluation(signs)
    evidence = f"{_gap(evaluation)}{_risen(evaluation)}"
    use = "use" if signs.is_over else "stop and use"
    advice = (
        f"{_capitalised(use)} the best checkpoint (step {evaluation.best_step:,}); for a better "
        f"run {_regularise(signs)}."
    )
    return Finding("Overfitting", evidence, advice)


def memorising(signs: Signs) -> Finding:
    """Validation rises while train keeps falling."""
    evaluation = _evaluation(signs)
    evidence = f"{_gap(evaluation)}{_risen(evaluation)}"
    use = "Use" if signs.is_over else "Stop and use"
    advice = (
        f"{use} the best checkpoint (step {evaluation.best_step:,}): after it the model "
        f"memorised the corpus. Next time {_regularise(signs)}"
    )
    if signs.config is None or not signs.config.training.patience:
        advice += "; training.patience stops such a run"
    return Finding("Memorising the corpus", evidence, f"{advice}.")


def plateau(signs: Signs) -> Finding:
    """The loss has stopped falling."""
    evaluation = signs.evaluation
    improvement = long_improvement(signs) or 0.0
    is_validation = evaluation is not None and (
        signs.evaluations is not None and signs.evaluations.improvement() is not None
    )
    level = evaluation.best if evaluation is not None and is_validation else signs.train.smoothed
    change = f"{abs(improvement):.3f} {'better' if improvement >= 0 else 'worse'}"
    evidence = (
        f"{'best validation' if is_validation else 'train'} loss {level:.3f}, {change} than 2,000 "
        f"steps ago; learning rate {format_rate(signs.rate, 2)}, "
        f"{100 * signs.rate / signs.peak_rate:.0f} % of its peak"
    )
    train_fall = signs.train.long_fall()
    if is_validation and train_fall is not None and train_fall > 0.03:
        evidence += f"; train still fell by {train_fall:.2f}"
        return Finding(
            "Validation has stalled",
            evidence,
            f"What is learned no longer carries over: {_regularise(signs)}, or "
            f"{'use' if signs.is_over else 'stop at'} the best checkpoint{_best_step(signs)}.",
        )
    if signs.is_rate_decayed:
        return Finding("Converged under this schedule", evidence, _after_convergence(signs))
    return Finding(
        "Plateau",
        evidence,
        f"{_capitalised(_decay(signs))}lower {_rates(signs, 1 / 3)}; if the loss still stands, "
        f"the model is too small: {_larger(signs)}.",
    )


def improving(signs: Signs) -> Finding:
    """Nothing is wrong."""
    train, evaluation = signs.train, signs.evaluation
    evidence = f"train loss {train.smoothed:.2f}"
    headline = "Improved to its end" if signs.is_over else "Still improving"
    for distance in (1000, 400, 100):
        fall = train.fall_over(distance)
        if fall is not None:
            headline = headline if fall > 0 else "Levelling off"
            direction = "lower" if fall >= 0 else "higher"
            evidence += f", {abs(fall):.2f} {direction} than {distance:,} steps ago"
            break
    if evaluation is not None:
        evidence += f"; validation {evaluation.val:.2f}"
        if evaluation.best_step == evaluation.step:
            evidence += ", its best so far"
        else:
            evidence += f", best {evaluation.best:.2f} at step {evaluation.best_step:,}"
    return Finding(headline, evidence, _at_the_end(signs) if signs.is_over else "Let it run.")


def starting(signs: Signs) -> Finding:
    """Too early to say."""
    train = signs.train
    if signs.is_over:
        steps = counted(train.last_step, "step")
        return Finding("Too short to judge", f"{steps}, warm-up included", _at_the_end(signs))
    if train.first is None:
        return Finding("Waiting for the first step", "no step yet", "Nothing to do yet.")
    evidence = f"step {train.last_step:,}, train loss {train.last_loss:.2f}"
    if train.last_step <= signs.warmup_steps:
        evidence += f", warm-up until step {signs.warmup_steps:,}"
    return Finding("Warming up", evidence, "Judged once the warm-up is over.")


# --- parts of sentences --------------------------------------------------------------------------


def _loss(loss: float) -> str:
    return f"{loss:.2f}" if abs(loss) < 1000 else f"{loss:.1e}"


def _gap(evaluation: Evaluation) -> str:
    return (
        f"train {evaluation.train:.2f}, validation {evaluation.val:.2f}: "
        f"a gap of {100 * evaluation.gap:.0f} %"
    )


def _grad_norm(signs: Signs) -> str:
    norm, usual = signs.train.last_grad_norm, signs.train.usual_grad_norm
    if norm is None or usual is None or norm < 2 * usual:
        return ""
    return f"; gradient norm {norm:.2g} where {usual:.2g} was usual"


def _risen(evaluation: Evaluation) -> str:
    """How far validation lies above its best."""
    rise = evaluation.val - evaluation.best
    if rise <= 0:
        return ""
    return (
        f"; validation has risen {rise:.2f} since its best {evaluation.best:.2f} "
        f"at step {evaluation.best_step:,}"
    )


def _at_the_end(signs: Signs) -> str:
    """What to do with a sound run that is over."""
    return f"For a lower loss resume it with a larger {_length(signs)}."


def _length(signs: Signs) -> str:
    """The setting that ends the run."""
    is_timed = signs.config is not None and signs.config.training.minutes is not None
    return "training.minutes" if is_timed else "training.max_steps"


def _decay(signs: Signs) -> str:
    """The advice to let the LR decay, where it does not yet."""
    if signs.config is not None and signs.config.training.scheduler != "constant":
        return ""
    return "let the LR decay (training.scheduler: cosine or wsd) or "


def _rates(signs: Signs, factor: float) -> str:
    """The keys that hold the rates, with the values to give them."""
    rate = signs.peak_rate
    if factor < 1 and 0 < signs.train.lowest_step <= signs.warmup_steps:
        # What fails on the way up must peak below where it failed.
        rate = min(rate, signs.rate_at_lowest)
    text = f"training.learning_rate to {format_rate(rate * factor)}"
    if signs.config is not None and signs.config.training.optimizer == "muon":
        scale = factor * rate / signs.configured_rate
        muon_rate = signs.config.training.muon_learning_rate * scale
        text += f" and training.muon_learning_rate to {format_rate(muon_rate)}"
    return text


def _raise_factor(signs: Signs) -> float:
    if signs.config is not None and signs.config.training.optimizer == "sgd":
        return 10.0
    return max(10.0, _LOW_ADAM_RATE / signs.peak_rate)


def _clipping(signs: Signs) -> str:
    if signs.config is not None and 0 < signs.config.training.grad_clip <= 1:
        return ""
    return ", set training.grad_clip to 1"


def _regularise(signs: Signs) -> str:
    dropout = signs.config.model.dropout if signs.config is not None else 0.0
    if dropout >= 0.4:
        return "take more text or a smaller model (model.d_model, model.n_layers)"
    return f"raise model.dropout to {max(0.2, dropout + 0.1):.1f} or take more text"


def _larger(signs: Signs) -> str:
    if signs.config is None:
        return "raise model.d_model or model.n_layers"
    model = signs.config.model
    return f"raise model.d_model to {2 * model.d_model} or model.n_layers to {model.n_layers + 2}"


def _after_convergence(signs: Signs) -> str:
    return (
        f"The run has done its work. For a lower loss double {_length(signs)}, or {_larger(signs)}."
    )


def _best_step(signs: Signs) -> str:
    evaluation = signs.evaluation
    return f" (step {evaluation.best_step:,})" if evaluation is not None else ""


def _way_back(signs: Signs) -> str:
    evaluation = signs.evaluation
    if evaluation is None or evaluation.best_step == 0:
        return "start again"
    return f"go back to the best checkpoint (step {evaluation.best_step:,})"


def _evaluation(signs: Signs) -> Evaluation:
    evaluation = signs.evaluation
    if evaluation is None:
        raise ValueError("a diagnosis of the gap needs an evaluation")
    return evaluation


def _capitalised(text: str) -> str:
    return text[:1].upper() + text[1:]
