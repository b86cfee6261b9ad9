"""Where a choice that is made to write faster does not pay on this model: measured, and said."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shakespeare_tui.cli.console import say
from shakespeare_tui.formatting import per_second

if TYPE_CHECKING:
    from shakespeare_tui.decoding.columns import Column
    from shakespeare_tui.decoding.factory import AnyModel

# Weights are rearranged and caches filled before: what counts is how a long text goes on.
_WARM_ROWS = 12
_MOST_ROWS = 76
_MOST_SECONDS = 0.3
# Below this, it is no accident of the measurement.
_CLEARLY_SLOWER = 0.9


@dataclass
class SteadySpeed:
    """Tokens by the second, the first few rows of tokens left out."""

    rows: int = 0
    tokens: int = 0
    began: float = 0.0
    ended: float = 0.0

    def count(self, tokens: int) -> None:
        """A row with so many tokens has been written."""
        self.rows += 1
        self.ended = time.perf_counter()
        if self.rows <= _WARM_ROWS:
            self.began = self.ended
        else:
            self.tokens += tokens

    @property
    def seconds(self) -> float:
        """How long it was measured."""
        return self.ended - self.began

    @property
    def tokens_per_second(self) -> float:
        """0 where there were too few to tell."""
        return per_second(self.tokens, self.seconds)


def default_speed(model: "AnyModel", prompt: Sequence[int], columns: "Sequence[Column]") -> float:
    """Tokens by the second without any option, measured for less than half a second."""
    from shakespeare_tui.decoding.columns import generate_columns
    from shakespeare_tui.decoding.factory import make_decoder

    speed = SteadySpeed()
    for row in generate_columns(make_decoder(model, 1), prompt, columns, max_tokens=_MOST_ROWS):
        speed.count(sum(token >= 0 for token in row))
        if speed.seconds > _MOST_SECONDS:
            break
    return speed.tokens_per_second


def is_clearly_slower(found: float, default: float) -> bool:
    """Whether ``found`` tokens by the second are too few to be one's intention."""
    return 0 < found < _CLEARLY_SLOWER * default


def say_if_slower(option: str, found: float, default: float) -> None:
    """Say where an option makes writing slower, with both figures."""
    if is_clearly_slower(found, default):
        say(
            f"{option} does not pay on this model: {found:,.0f} tokens/s, {default:,.0f} without it"
        )


def say_if_precision_is_slower(
    precision: str,
    found: float,
    model: "AnyModel",
    prompt: Sequence[int],
    columns: "Sequence[Column]",
) -> None:
    """``say_if_slower`` for a ``--precision`` that rounds; measures only where there is one."""
    if precision in ("bfloat16", "int8"):
        say_if_slower(f"--precision {precision}", found, default_speed(model, prompt, columns))
