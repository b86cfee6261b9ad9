"""The card of a run that is over: its result, its place among others, and what to do next."""

import math
from typing import ClassVar

from textual.content import Content
from textual.widgets import Static

from shakespeare_tui.formatting import counted, format_duration, format_loss, perplexity
from shakespeare_tui.runs.figures import RunFigures
from shakespeare_tui.runs.history import RunHistory
from shakespeare_tui.runs.rank import Standing
from shakespeare_tui.ui.place import state_content

Key = tuple[str, str]
_REASONS = {
    "target": "reached its target loss",
    "patience": "early: validation no longer improved",
    "stopped": "saved",
    "interrupted": "saved",
}


class ResultCard(Static, can_focus=True):
    """Shown when a run has finished or failed."""

    DEFAULT_CSS: ClassVar[str] = """
    ResultCard { height: auto; padding: 0 1; }
    """

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id, classes=classes, markup=False)
        self._drawn: object = None

    def show_run(
        self,
        history: RunHistory,
        figures: RunFigures,
        standing: Standing | None,
        keys: tuple[Key, ...],
    ) -> None:
        """Show how a run ended.

        Args:
            history: The run.
            figures: Its last figures.
            standing: Its place among past runs, once that is known.
            keys: Keys that lead on, with what they do.
        """
        state = (history.revision, standing, keys)
        if state != self._drawn:
            self._drawn = state
            self.update(result_content(history, figures, standing, keys))


def result_content(
    history: RunHistory, figures: RunFigures, standing: Standing | None, keys: tuple[Key, ...]
) -> Content:
    """The card's text."""
    steps, spent = counted(history.last_step, "step"), format_duration(figures.elapsed_seconds)
    lines: list[Content] = []
    if history.ending is not None:
        reason = _REASONS.get(history.finished.reason) if history.finished else None
        about = f"  {steps} in {spent}" + (f"; {reason}" if reason else "")
        lines.append(state_content(history.ending) + Content.styled(about, "$text-muted"))
    if history.failed is not None:
        lines.append(Content(history.failure))
    elif history.finished is not None:
        lines += _result(history)
    if figures.best is not None:
        best = figures.best
        value = Content.assemble(
            (format_loss(best.loss.value), "bold"),
            (f"  {best.loss.protocol}, at step {best.step:,}", "$text-muted"),
        )
        lines.append(_row("best", value))
    if figures.context_note:
        lines.append(Content.styled(figures.context_note, "$text-muted"))
    if standing is not None:
        lines.append(_row("rank", _rank(standing)))
    if keys:
        lines.append(_keys(keys))
    return Content("\n").join(lines)


def _result(history: RunHistory) -> list[Content]:
    assert history.finished is not None
    loss, protocol = history.finished.val_loss, history.finished.protocol
    figure = perplexity(loss)
    if loss is None or figure is None:
        return []
    bits = loss / math.log(2)
    value = Content.assemble((f"{loss:.4f}", "bold $accent"), (f"  {protocol}", "$text-muted"))
    also = Content.assemble(
        ("perplexity ", "$text-muted"),
        f"{figure:.2f}",
        ("   bits/char ", "$text-muted"),
        f"{bits:.3f}",
    )
    return [_row("val loss", value), _row("", also)]


def _rank(standing: Standing) -> Content:
    if standing.runs == 1:
        apart = standing.left_out
        if not apart:
            return Content.styled("the first run on this text", "$text-muted")
        others = "the other run" if apart == 1 else f"the {apart:,} other runs"
        was = "was" if apart == 1 else "were"
        return Content.styled(f"{others} on this text {was} measured otherwise", "$text-muted")
    text = f"{_ordinal(standing.rank)} of {standing.runs} on this text"
    if standing.rank == 1:
        return Content.styled(text, "bold $success")
    return Content.assemble(
        text, (f"; best {standing.best_name} {standing.best_loss}", "$text-muted")
    )


def _row(label: str, value: Content) -> Content:
    return Content.assemble((f"{label:<9}", "$text-muted")) + value


def _keys(keys: tuple[Key, ...]) -> Content:
    parts = [
        Content.assemble((key, "bold $accent"), (f" {what}", "$text-muted")) for key, what in keys
    ]
    return Content("   ").join(parts)


def _ordinal(number: int) -> str:
    if number % 100 in (11, 12, 13):
        return f"{number}th"
    return f"{number}{({1: 'st', 2: 'nd', 3: 'rd'}).get(number % 10, 'th')}"
