"""Remember measured training speeds, and carry one over to a config that was not measured."""

import math
from collections.abc import Hashable
from dataclasses import dataclass, field

from shakespeare_tui.config.schema import Config
from shakespeare_tui.models.parameters import parameter_counts

_TIMELESS_MODEL = ("norm_eps", "rope_theta")
_TIMED_TRAINING = (
    "batch_size",
    "grad_accumulation",
    "optimizer",
    "muon_steps",
    "precision",
    "device",
)
# A tenth of a second to a second of two cores; smaller batches would mostly time the optimiser.
_PROBE_FLOPS = 1e11


@dataclass(frozen=True)
class Speed:
    """Training speed; ``is_measured`` tells a measurement of this very config from an estimate."""

    tokens_per_second: float
    is_measured: bool


@dataclass
class Speeds:
    """The measurements of a session."""

    _by_key: dict[Hashable, tuple[Config, float]] = field(default_factory=dict)

    def add(self, config: Config, tokens_per_second: float) -> None:
        """Remember a measurement."""
        self._by_key[speed_key(config)] = (config, tokens_per_second)

    def find(self, config: Config, vocab_size: int) -> Speed | None:
        """The measured speed, else the nearest measured config's scaled by arithmetic operations.

        The scaling is rough: small models spend part of their time on overhead.
        """
        if measured := self._by_key.get(speed_key(config)):
            return Speed(measured[1], True)
        operations = flops_per_token(config, vocab_size)
        scaled = [
            (abs(math.log(operations / flops_per_token(other, vocab_size))), other, speed)
            for other, speed in self._by_key.values()
            if other.training.device == config.training.device
        ]
        if not scaled:
            return None
        _, other, speed = min(scaled, key=lambda item: item[0])
        return Speed(speed * flops_per_token(other, vocab_size) / operations, False)


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
    """
    training = config.training
    operations = flops_per_token(config, vocab_size) * config.seq_len
    rows = min(training.batch_size, max(1, round(_PROBE_FLOPS / operations)))
    changes = {"batch_size": rows, "grad_accumulation": 1}
    return config.model_copy(update={"training": training.model_copy(update=changes)})


def flops_per_token(config: Config, vocab_size: int) -> float:
    """Floating-point operations of one token's training step (Kaplan et al., arXiv:2001.08361).

    Six a matrix element (two forward, four backward), and 12 · layers · width · seq_len for
    attention's two products over the window.
    """
    model = config.model
    counts = parameter_counts(model, vocab_size)
    elements = counts["attention"] + counts["feed-forward"] + vocab_size * model.d_model
    return 6.0 * elements + 12.0 * model.n_layers * model.d_model * config.seq_len
