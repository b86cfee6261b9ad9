"""The conditions that tie several settings together, each with the message that mends it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Rule:
    """A condition over the settings ``paths``, given to ``problem`` in that order.

    ``problem`` returns what is wrong and what to do about it, or None.
    """

    paths: tuple[str, ...]
    problem: Callable[..., str | None]

    @property
    def section(self) -> str | None:
        """The one section that all of ``paths`` are in; None where they are in several."""
        sections = {path.partition(".")[0] for path in self.paths}
        return sections.pop() if len(sections) == 1 else None


def _heads_problem(n_heads: int, d_model: int) -> str | None:
    if d_model % n_heads == 0:
        return None
    divisors = [heads for heads in range(1, min(256, d_model) + 1) if d_model % heads == 0]
    fewer = max(heads for heads in divisors if heads < n_heads)
    more = [heads for heads in divisors if heads > n_heads][:1]
    choice = " or ".join(str(heads) for heads in (fewer, *more))
    return (
        f"d_model {d_model} is not divisible by n_heads {n_heads}; "
        f"with this d_model, n_heads can be {choice}"
    )


def _rope_problem(n_heads: int, d_model: int, positions: str) -> str | None:
    width, rest = divmod(d_model, n_heads)
    if positions != "rope" or rest or width % 2 == 0:
        return None
    return (
        f"positions rope needs an even width per head, but d_model {d_model} / n_heads {n_heads} "
        f"is {width}; change one of them or take positions learned"
    )


def _sines_problem(d_model: int, positions: str) -> str | None:
    if positions != "sinusoidal" or d_model % 2 == 0:
        return None
    return f"positions sinusoidal needs an even d_model, got {d_model}; take {d_model + 1}"


def _rates_problem(min_lr: float | None, learning_rate: float) -> str | None:
    if min_lr is None or min_lr <= learning_rate:
        return None
    return (
        f"min_lr {min_lr:g} is above learning_rate {learning_rate:g}; "
        f"lower min_lr, or leave it empty for a tenth of learning_rate"
    )


def _window_problem(seq_len: int | None, max_seq_len: int) -> str | None:
    if seq_len is None or seq_len <= max_seq_len:
        return None
    return (
        f"data.seq_len {seq_len} is above model.max_seq_len {max_seq_len}; "
        f"lower seq_len, or leave it empty to use the whole context"
    )


RULES: tuple[Rule, ...] = (
    Rule(("model.n_heads", "model.d_model"), _heads_problem),
    Rule(("model.n_heads", "model.d_model", "model.positions"), _rope_problem),
    Rule(("model.d_model", "model.positions"), _sines_problem),
    Rule(("training.min_lr", "training.learning_rate"), _rates_problem),
    Rule(("data.seq_len", "model.max_seq_len"), _window_problem),
)


def broken_rules(values: Mapping[str, Any], section: str | None) -> list[str]:
    """The messages of the rules of ``section`` (None: across sections) that ``values`` break.

    ``values`` holds every setting of the section, or of all sections, by its path.
    """
    messages = (
        rule.problem(*(values[path] for path in rule.paths))
        for rule in RULES
        if rule.section == section
    )
    return [message for message in messages if message]
