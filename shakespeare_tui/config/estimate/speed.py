"""Remember measured training speeds, and carry one over to a config that was not measured."""

import math
from collections import deque
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field

from shakespeare_tui.config.schema import Config
from shakespeare_tui.machine import backend_of
from shakespeare_tui.models.parameters import parameter_report

SPEED_STEPS = 20
"""Steps over which the speed is averaged."""
MOST_OF_BUDGET = 0.2
"""The largest share of a time budget that goes to what comes after the last step."""

_TRAINING_PASS = 3.0
"""A training pass over a forward pass: the backward pass costs twice the forward one."""
_FLOAT32_PASS = 2.0
"""A pass in float32 over one in half the precision: from 1.2 on a plain CPU to 4 with AMX."""


def mean_speed(speeds: Iterable[float]) -> float | None:
    """The speed over several steps of as many tokens each; None where nothing was measured."""
    seconds = [1 / speed for speed in speeds if math.isfinite(speed) and speed > 0]
    return len(seconds) / sum(seconds) if seconds else None


class SpeedMeter:
    """The speed over the last ``SPEED_STEPS`` steps that were observed."""

    def __init__(self) -> None:
        self._speeds: deque[float] = deque(maxlen=SPEED_STEPS)

    def observe(self, tokens_per_second: float) -> None:
        """Take in a step."""
        self._speeds.append(tokens_per_second)

    @property
    def is_steady(self) -> bool:
        """Whether there are enough steps: the first ones are slow."""
        return len(self._speeds) == SPEED_STEPS

    @property
    def tokens_per_second(self) -> float:
        """Tokens trained a second, evaluations and samples left out; 0 before the first step."""
        return mean_speed(self._speeds) or 0.0


def evaluation_seconds(
    tokens: float, tokens_per_second: float, *, is_rounded: bool = False
) -> float:
    """About how long it takes to evaluate ``tokens``.

    Args:
        tokens: How many.
        tokens_per_second: The speed of training.
        is_rounded: Whether training runs in less than the float32 of the evaluation.
    """
    if tokens_per_second <= 0:
        return 0.0
    return tokens / (_TRAINING_PASS * tokens_per_second) * (_FLOAT32_PASS if is_rounded else 1.0)


_TIMELESS_MODEL = ("norm_eps", "rope_theta", "rope_factor", "rope_base_context")
_TIMED_TRAINING = (
    "batch_size",
    "grad_accumulation",
    "optimizer",
    "muon_steps",
    "precision",
    "backend",
    "device",
    "grad_checkpointing",
    "lora_rank",
    "lora_matrices",
    "train_blocks",
)
# A tenth of a second to a second of two cores; smaller batches would mostly time the optimiser.
_PROBE_FLOPS = 1e11
# Of a model whose single windows take more than that: five to thirty seconds.
_MOST_PROBE_FLOPS = 5e12


@dataclass(frozen=True)
class Speed:
    """Training speed; ``is_measured`` tells a measurement of this very config from an estimate."""

    tokens_per_second: float
    is_measured: bool


@dataclass
class Speeds:
    """The measurements of a session."""

    _by_key: dict[tuple[Hashable, int], tuple[Config, float]] = field(default_factory=dict)

    def add(self, config: Config, vocab_size: int, tokens_per_second: float) -> None:
        """Remember a measurement."""
        self._by_key[speed_key(config), vocab_size] = (config, tokens_per_second)

    def find(self, config: Config, vocab_size: int) -> Speed | None:
        """The measured speed, else the nearest measured config's scaled by arithmetic operations.

        The scaling is rough: small models spend part of their time on overhead.
        """
        if measured := self._by_key.get((speed_key(config), vocab_size)):
            return Speed(measured[1], True)
        operations = flops_per_token(config, vocab_size)
        scaled = [
            (abs(math.log(operations / others)), others, speed)
            for (_, vocabulary), (other, speed) in self._by_key.items()
            if (others := flops_per_token(other, vocabulary))
            and other.training.device == config.training.device
            and backend_of(other.training.backend) == backend_of(config.training.backend)
        ]
        if not scaled:
            return None
        _, others, speed = min(scaled)
        return Speed(speed * others / operations, False)


def speed_key(config: Config) -> Hashable:
    """The settings on which the time of a step depends; equal keys are equally fast."""
    model = config.model.model_dump()
    for name in _TIMELESS_MODEL:
        del model[name]
    model["d_ff"] = config.model.feedforward_width
    # Dropout costs the same whatever its probability.
    model["dropout"] = config.model.dropout > 0
    training = config.training
    timed = tuple(getattr(training, name) for name in _TIMED_TRAINING)
    return (*model.items(), *timed, training.ema_decay > 0, config.seq_len)


def probe_config(config: Config, vocab_size: int) -> Config:
    """A config whose steps on a CPU are short and learn about as many tokens a second.

    The batch is cut to what a processor does in well under a second, and micro-batches to one.
    Large models keep theirs, up to half a minute's work: what they gain by it is not known before.
    """
    training = config.training
    operations = flops_per_token(config, vocab_size) * config.seq_len
    most = _PROBE_FLOPS if operations < _PROBE_FLOPS else _MOST_PROBE_FLOPS
    rows = min(training.batch_size, max(1, round(most / operations)))
    changes = {"batch_size": rows, "grad_accumulation": 1}
    return config.model_copy(update={"training": training.model_copy(update=changes)})


def flops_per_token(config: Config, vocab_size: int) -> float:
    """Floating-point operations of one token's training step (Kaplan et al., arXiv:2001.08361).

    Six a matrix element (two forward, two for the gradient of what went in, two for its own), and
    12 · layers · width · seq_len for attention's two products over the window. What is frozen has
    no gradient of its own, and below all that learns there is no way back.
    """
    model, training = config.model, config.training
    parts = parameter_report(model, vocab_size).components
    blocks = parts["attention"].parameters + parts["feed-forward"].parameters
    head = vocab_size * model.d_model
    scores = 4.0 * model.n_layers * model.d_model * config.seq_len
    if training.lora_rank:
        return 4.0 * (blocks + head) + 3 * scores
    if training.train_blocks is not None:
        share = min(training.train_blocks / model.n_layers, 1.0)
        return (2.0 + 4.0 * share) * blocks + 4.0 * head + (1 + 2 * share) * scores
    return 6.0 * (blocks + head) + 3 * scores
