"""Advice from the tuning guide for a config whose values invite it, before anything is trained."""

from collections.abc import Iterator
from dataclasses import dataclass

from shakespeare_tui.config.estimate.figures import TIGHT_SHARE, Preflight
from shakespeare_tui.config.schema import Config
from shakespeare_tui.formatting import format_count, format_duration

_LONG_SECONDS = 30 * 60
_MANY_EPOCHS, _SEVERAL_EPOCHS = 20, 5
_FEW_EPOCHS = 3
# For each parameter: with half as many the preset gpu is better than smaller models with more.
_FEW_TOKENS = 0.5
_STABLE_ADAM_RATE = 0.01
_STABLE_MUON_RATE = 0.1
_LOOPING_TEMPERATURE = 0.5


@dataclass(frozen=True)
class Machine:
    """Where training would happen.

    Attributes:
        name: For people: ``2 cores``, or the card's name.
        available_bytes: Memory that is free there; None where it is not known.
        is_cpu: Whether it is the processor.
    """

    name: str
    available_bytes: int | None = None
    is_cpu: bool = True


@dataclass(frozen=True)
class Advice:
    """What a value invites, and what to do about it.

    Attributes:
        symptom: The entry of ``TUNING_GUIDE`` that it comes from.
        text: One sentence with the figure that gave rise to it.
        overrides: Settings by path that would follow it, as texts; None where it is for the user
            to choose.
        is_grave: Training would probably fail.
    """

    symptom: str
    text: str
    overrides: tuple[tuple[str, str], ...] = ()
    is_grave: bool = False


def advise(config: Config, figures: Preflight, machine: Machine) -> list[Advice]:
    """All advice that a config invites, the gravest first.

    Texts name keys of the Config screen: ``F`` loads the fast preset.
    """
    return [
        *_memory(config, figures, machine),
        *_time(config, figures, machine),
        *_stability(config),
        *_warmup(config, figures),
        *_unused_positions(config),
        *_repetition(config, figures),
        *_quality(config, figures),
        *_arithmetic(config, machine),
        *_sampling(config),
    ]


def _memory(config: Config, figures: Preflight, machine: Machine) -> Iterator[Advice]:
    memory, free = figures.memory, machine.available_bytes
    if free is None or memory.total <= free * TIGHT_SHARE:
        return
    text = memory.words(free)
    batch_size = config.training.batch_size
    parts = 1
    fixed = memory.total - memory.activations
    while parts < batch_size and fixed + memory.activations / parts > free * TIGHT_SHARE:
        parts *= 2
    if batch_size % parts or fixed + memory.activations / parts > free * TIGHT_SHARE:
        yield Advice("out of memory", f"{text}; use a smaller model or context", is_grave=True)
        return
    accumulation = config.training.grad_accumulation * parts
    yield Advice(
        "out of memory",
        f"{text}; batch_size {batch_size // parts} with grad_accumulation {accumulation} learns "
        "the same in less",
        (
            ("training.batch_size", str(batch_size // parts)),
            ("training.grad_accumulation", str(accumulation)),
        ),
        is_grave=True,
    )


def _time(config: Config, figures: Preflight, machine: Machine) -> Iterator[Advice]:
    if config.training.minutes is None and (figures.seconds or 0) > _LONG_SECONDS:
        assert figures.seconds is not None
        yield Advice(
            "too slow",
            f"{format_count(figures.parameter_count)} parameters on {machine.name}: about "
            f"{_rough_duration(figures.seconds)}; press F to load the quick preset",
            (("training.minutes", "10"),),
        )


def _stability(config: Config) -> Iterator[Advice]:
    training = config.training
    # Beside Muon, no matrices but those of embeddings and the output layer learn by AdamW.
    stable = _STABLE_ADAM_RATE * (5 if training.optimizer == "muon" else 1)
    if training.optimizer != "sgd" and training.learning_rate > stable:
        yield Advice(
            "exploding",
            f"a learning_rate of {training.learning_rate:g} is more than Adam usually tolerates; "
            "0.003 is high already",
            (("training.learning_rate", "0.003"),),
        )
    if training.optimizer == "muon" and training.muon_learning_rate > _STABLE_MUON_RATE:
        yield Advice(
            "exploding",
            f"a muon_learning_rate of {training.muon_learning_rate:g} is more than Muon usually "
            "tolerates; 0.03 is a good value",
            (("training.muon_learning_rate", "0.03"),),
        )


def _warmup(config: Config, figures: Preflight) -> Iterator[Advice]:
    warmup, steps = config.training.warmup_steps, figures.steps
    if config.training.scheduler == "one_cycle" or steps is None or warmup <= steps / 2:
        return
    fewer = max(1, round(steps / 20))
    yield Advice(
        "not learning",
        f"warm-up takes {warmup:,} of about {steps:,.0f} steps, so the LR hardly reaches its "
        f"peak; {fewer:,} would do",
        (("training.warmup_steps", str(fewer)),),
    )


def _unused_positions(config: Config) -> Iterator[Advice]:
    if config.context_note:
        yield Advice(
            "quality poor",
            config.context_note,
            (("model.max_seq_len", str(config.seq_len)),),
        )


def advise_on_memorising(
    config: Config, epochs: float, weight_decay: float | None
) -> Advice | None:
    """What keeps a text that is seen many times from being memorised; None where enough is done.

    Args:
        config: What would be trained.
        epochs: How often the text is seen.
        weight_decay: What so much text asks for; None where that is not known.
    """
    training = config.training
    if training.patience:
        return None
    words, changes = [], []
    # How strong it should be was measured with Muon.
    if epochs > _SEVERAL_EPOCHS and training.optimizer == "muon" and weight_decay:
        decay = training.weight_decay
        if decay is not None and decay < weight_decay / 3:
            words.append(f"weight_decay {weight_decay:g}, by the corpus,")
            changes.append(("training.weight_decay", "null"))
        if config.model.dropout == 0:
            words.append("dropout 0.1")
            changes.append(("model.dropout", "0.1"))
    elif epochs > _MANY_EPOCHS and config.model.dropout == 0:
        words.append("dropout 0.2")
        changes.append(("model.dropout", "0.2"))
    if not changes:
        return None
    return Advice(
        "overfitting",
        f"the text is seen {epochs:,.0f} times, and may be memorised; {' and '.join(words)} "
        f"{'makes' if len(changes) == 1 else 'make'} that harder",
        tuple(changes),
    )


def _repetition(config: Config, figures: Preflight) -> Iterator[Advice]:
    epochs = figures.epochs
    if epochs is None:
        return
    if advice := advise_on_memorising(config, epochs, figures.weight_decay):
        yield advice
    if epochs < _FEW_EPOCHS and config.model.dropout > 0:
        yield Advice(
            "quality poor",
            f"the text is seen only {epochs:.1f} times: dropout then slows learning and guards "
            "against nothing",
            (("model.dropout", "0"),),
        )


def _quality(config: Config, figures: Preflight) -> Iterator[Advice]:
    ratio = figures.tokens_per_parameter
    # Of the embeddings of n-grams, each token meets a few rows only.
    if ratio is not None and ratio < _FEW_TOKENS and not config.model.ngram_embedding:
        yield Advice(
            "quality poor",
            f"only {ratio:.2f} tokens are seen for each parameter; train longer, or a smaller "
            "model on as many tokens",
        )


def _arithmetic(config: Config, machine: Machine) -> Iterator[Advice]:
    if config.training.precision == "bfloat16" and machine.is_cpu:
        yield Advice(
            "too slow",
            "bfloat16 is many times slower on processors without its instructions; auto measures "
            "first",
            (("training.precision", "auto"),),
        )


def _sampling(config: Config) -> Iterator[Advice]:
    temperature = config.sampling.temperature
    if 0 < temperature < _LOOPING_TEMPERATURE and config.sampling.repetition_penalty == 1:
        yield Advice(
            "repeats itself",
            f"at a temperature of {temperature:g} samples tend to loop; 0.8 is usual",
            (("sampling.temperature", "0.8"),),
        )


def _rough_duration(seconds: float) -> str:
    """``45 minutes``, ``5 hours``, ``3 days``: no more digits than the estimate bears."""
    for unit, size in (("day", 86400), ("hour", 3600)):
        if seconds >= 1.5 * size:
            count = round(seconds / size)
            return f"{count:,} {unit}s"
    return format_duration(seconds) if seconds < 90 else f"{round(seconds / 60)} minutes"
