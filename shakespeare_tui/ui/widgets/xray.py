"""The sampler X-ray: the likeliest candidates before and after each step of a strategy."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from textual.content import Content

from shakespeare_tui.core.errors import UserError
from shakespeare_tui.ui.widgets.text_glyphs import sign

if TYPE_CHECKING:
    from shakespeare_tui.core.sampling import Strategy, TraceStage
    from shakespeare_tui.ui.bridge_reading import Expectation

_EIGHTHS = " ▏▎▍▌▋▊▉"
_LEAST_STAGE_CELLS = 10
_LABEL_CELLS = 5


@dataclass
class XRay:
    """What was expected at one place, and the strategy under the knife.

    Attributes:
        expectation: Of the model.
        strategy: Its steps make the stages.
        step: Which step is selected.
        candidate: Which candidate is selected.
        chosen: The character that stands there; empty behind the end.
    """

    expectation: "Expectation"
    strategy: "Strategy"
    step: int = 0
    candidate: int = 0
    chosen: str = ""

    @property
    def stages(self) -> "list[TraceStage]":
        """The distribution of the model and after each step."""
        from shakespeare_tui.core.sampling import trace

        return trace(self.strategy, self.expectation.logits, self.expectation.tokens)

    def candidates(self, n: int) -> list[str]:
        """The likeliest characters of the model, in order."""
        order = np.argsort(-self.expectation.logits, kind="stable")[:n]
        return [self.expectation.characters[token] for token in order]


def nudged(strategy: "Strategy", step: int, by: int) -> "Strategy":
    """The strategy with the first value of a step moved; unchanged at the end of its range."""
    chosen = strategy.steps[step % len(strategy.steps)]
    if not chosen.kind.parameters:
        return strategy
    first = chosen.kind.parameters[0]
    value = round(chosen.values[first.name] + by * first.nudge, 9)
    try:
        return strategy.with_value(chosen.kind.name, first.name, value)
    except UserError:
        return strategy


def xray_lines(xray: XRay, width: int, height: int, *, is_focused: bool, ascii: bool) -> Content:  # noqa: A002
    """A heading and a line a candidate: bar and percentage at each stage that fits."""
    stages = xray.stages
    shown = _fitting(len(stages), xray.step + 1, (width - _LABEL_CELLS) // _LEAST_STAGE_CELLS)
    cells = (width - _LABEL_CELLS) // len(shown)
    heading = [Content.styled(" " * _LABEL_CELLS, "")]
    for number in shown:
        text = (stages[number].text or stages[number].name)[: cells - 1].ljust(cells)
        is_selected = number == xray.step + 1
        heading.append(Content.styled(text, "bold $accent" if is_selected else "$text-muted"))
    lines = [Content("").join(heading)]
    order = np.argsort(-xray.expectation.logits, kind="stable")[: max(1, height - 1)]
    for row, token in enumerate(order.tolist()):
        character = xray.expectation.characters[token]
        is_here = is_focused and row == xray.candidate
        mark = ("▸" if is_here else " ") + (str(row + 1) if row < 9 else " ")
        look = "bold $success" if character == xray.chosen else "$foreground"
        parts: list[Content] = [
            Content.styled(mark, "bold $accent" if is_here else "$text-muted"),
            Content.styled(f" {sign(character, ascii)} ", look),
        ]
        for number in shown:
            probability = float(stages[number].probabilities[token])
            parts.append(_bar(probability, cells, number == xray.step + 1))
        lines.append(Content("").join(parts))
    return Content("\n").join(lines)


def _fitting(n_stages: int, selected: int, n_fit: int) -> Sequence[int]:
    """The model's stage and as many others, the selected one among them, as fit."""
    n_fit = max(2, n_fit)
    if n_stages <= n_fit:
        return range(n_stages)
    first = min(max(1, selected - n_fit + 2), n_stages - n_fit + 1)
    return [0, *range(first, first + n_fit - 1)]


def _bar(probability: float, cells: int, is_selected: bool) -> Content:
    room = cells - 5
    full, part = divmod(round(probability * room * 8), 8)
    bar = "█" * full + (_EIGHTHS[part] if part else "")
    figure = "-" if probability == 0 else f"{probability:.0%}" if probability >= 0.005 else "<1%"
    style = "$accent" if is_selected else "$text-muted"
    return Content.assemble((bar.ljust(room), style), (f"{figure:>4} ", "$foreground"))
