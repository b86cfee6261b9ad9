"""The sampler X-ray: the likeliest candidates before and after each step of a strategy."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from rich.cells import cell_len
from textual.content import Content

from shakespeare_tui.errors import UserError
from shakespeare_tui.ui.widgets.text_glyphs import fitted, signs

if TYPE_CHECKING:
    from shakespeare_tui.sampling import Draw, Strategy, TraceStage
    from shakespeare_tui.sampling.logits import FloatArray, IntArray

_EIGHTHS = " ▏▎▍▌▋▊▉"
_LEAST_STAGE_CELLS = 10
_LABEL_CELLS = 5
_LONGEST_LABEL_CELLS = 14


@dataclass
class XRay:
    """What was expected at one place, and the strategy under the knife.

    Attributes:
        characters: What each token id stands for, V of them.
        tokens: The text before the place, [L].
        known: What was noted there when the text was written, or what is imagined.
        strategy: Its steps make the stages.
        step: Which step is selected.
        candidate: Which candidate is selected.
        chosen: The token that stands there; empty behind the end.
        is_drawn: Whether it was drawn from what is ``known``.
        shown: The tokens that have a line, as they were drawn last.
    """

    characters: Sequence[str]
    tokens: "IntArray"
    known: "Draw"
    strategy: "Strategy"
    step: int = 0
    candidate: int = 0
    chosen: str = ""
    is_drawn: bool = False
    shown: list[int] = field(default_factory=list)

    @property
    def stages(self) -> "list[TraceStage]":
        """The distribution of the model and after each step."""
        from shakespeare_tui.sampling import trace

        return trace(self.known.by(self.strategy), self.tokens)

    @property
    def title(self) -> str:
        """Whether this is what happened."""
        if not self.is_drawn:
            return "Expected"
        return "As it was drawn" if self.strategy == self.known.strategy else "As it could be drawn"

    def candidates(self, n: int) -> list[str]:
        """The characters line by line, and below them those that found no line."""
        tokens = self.shown + [token for token in self._order() if token not in self.shown]
        return [self.characters[token] for token in tokens[:n]]

    def rows(self, n: int) -> list[int]:
        """The tokens of the likeliest characters, the one that stands there among them."""
        order = self._order()
        rows = order[:n]
        if self.chosen in self.characters and self.chosen:
            chosen = self.characters.index(self.chosen)
            if chosen not in rows:
                rows[-1] = chosen
        return rows

    def _order(self) -> list[int]:
        order: list[int] = np.argsort(-self.known.logits, kind="stable").tolist()
        return order


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
    """A heading, what chance and memory told the steps, and a line a candidate.

    The line has a bar and a percentage at each stage that fits; of a search, which draws nothing,
    the score of what it kept.
    """
    stages = xray.stages
    names = [signs(xray.characters[token], ascii) for token in xray.rows(max(1, height - 1))]
    longest = max([1, *map(cell_len, names)])
    label_cells = min(max(_LABEL_CELLS, longest + 4), _LONGEST_LABEL_CELLS)
    shown = _fitting(len(stages), xray.step + 1, (width - label_cells) // _LEAST_STAGE_CELLS)
    cells = (width - label_cells) // len(shown)
    heading = [Content.styled(" " * label_cells, "")]
    for number in shown:
        text = _named(stages[number].text or stages[number].name, cells - 1).ljust(cells)
        is_selected = number == xray.step + 1
        heading.append(Content.styled(text, "bold $accent" if is_selected else "$text-muted"))
    lines = [Content("").join(heading)]
    notes = "".join(stages[number].note[: cells - 1].ljust(cells) for number in shown)
    if notes.strip():
        lines.append(Content.styled(" " * label_cells + notes, "$text-muted"))
    xray.shown = xray.rows(max(1, height - len(lines)))
    for row, token in enumerate(xray.shown):
        character = xray.characters[token]
        is_here = is_focused and row == xray.candidate
        mark = ("▸" if is_here else " ") + (str(row + 1) if row < 9 else " ")
        look = "bold $success" if character == xray.chosen else "$foreground"
        parts: list[Content] = [
            Content.styled(mark, "bold $accent" if is_here else "$text-muted"),
            Content.styled(fitted(f" {signs(character, ascii)}", label_cells - 3) + " ", look),
        ]
        for number in shown:
            stage = stages[number]
            if stage.scores is not None:
                parts.append(_score(stage.scores, token, cells))
            else:
                is_selected = number == xray.step + 1
                parts.append(_bar(float(stage.probabilities[token]), cells, is_selected))
        lines.append(Content("").join(parts))
    return Content("\n").join(lines)


def _named(step: str, cells: int) -> str:
    """A step in so many cells: of its name as much as fits, and its whole value."""
    name, sign_, values = step.partition("=")
    room = cells - len(values) - 2
    return f"{name[:room]}…={values}" if len(step) > cells and sign_ and room > 0 else step[:cells]


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


def _score(scores: "FloatArray", token: int, cells: int) -> Content:
    """A score; the best of all stands out, and what the search dropped has none."""
    score = float(scores[token])
    if np.isnan(score):
        return Content.styled("-".rjust(cells - 1) + " ", "$text-muted")
    is_best = score == np.nanmax(scores)
    return Content.styled(f"{score:>{cells - 1}.3f} ", "bold $foreground" if is_best else "")
