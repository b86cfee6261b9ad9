"""The samples of a run: newest first, scrubbed by step, with what is new in each."""

from functools import lru_cache
from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.widgets import Static

from shakespeare_tui.files import as_number
from shakespeare_tui.measures.changes import Changes, changed_words
from shakespeare_tui.runs.events import SampleGenerated
from shakespeare_tui.runs.history import RunHistory
from shakespeare_tui.visible_text import LINES, visible

_MOST_SHOWN = 8
_MOSTLY_NEW = 0.85
"""Above this share, marking what is new would mark everything."""

_compared = lru_cache(256)(changed_words)


class SamplesPane(VerticalScroll):
    """One sample and, below it, the ones before it.

    Words that the sample before did not have, from the same prompt, stand out in bold.
    """

    DEFAULT_CSS: ClassVar[str] = """
    SamplesPane { padding: 0 1; }
    SamplesPane > Static { width: 1fr; height: auto; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "scrub(-1)", "Samples", key_display="←→", id="samples.earlier"),
        Binding("right", "scrub(1)", "Next sample", show=False, id="samples.later"),
    ]

    class StepChosen(Message):
        """Another sample is on top."""

        def __init__(self, step: int | None) -> None:
            super().__init__()
            self.step = step

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id, classes=classes)
        self._history = RunHistory()
        self._drawn: object = None
        self._can_ask = False
        self._step: int | None = None
        self.pinned: str | None = None
        """The only prompt that is shown; None shows all."""

    def compose(self) -> ComposeResult:
        """The text."""
        yield Static("", markup=False)

    # --- what is shown -------------------------------------------------------------------------

    def show_run(self, history: RunHistory, *, can_ask: bool) -> None:
        """Show a run's samples; ``can_ask`` is whether a trainer takes commands."""
        self._can_ask = can_ask
        if history is not self._history:
            self._history, self._step, self.pinned = history, None, None
        samples = self._history.samples
        state = (
            history,
            len(samples),
            samples[-1] if len(samples) else None,
            history.phase,
            can_ask,
        )
        if state != self._drawn:
            self._drawn = state
            self._show()

    @property
    def _samples(self) -> list[SampleGenerated]:
        """The samples of the pinned prompt, or all, oldest first."""
        return [s for s in self._history.samples if self.pinned in (None, s.prompt)]

    @property
    def chosen(self) -> SampleGenerated | None:
        """The sample on top."""
        samples = self._samples
        return samples[self._index(samples)] if samples else None

    def _index(self, samples: list[SampleGenerated]) -> int:
        if self._step is None:
            return len(samples) - 1
        at_or_before = [i for i, sample in enumerate(samples) if sample.step <= self._step]
        return at_or_before[-1] if at_or_before else 0

    def action_scrub(self, direction: int) -> None:
        """Go to the step of the samples before or after; after the last, follow the newest."""
        steps = sorted({sample.step for sample in self._samples})
        if not steps:
            return
        at = self._index_of_step(steps) + direction
        self._step = None if at >= len(steps) - 1 else steps[max(0, at)]
        self.scroll_home(animate=False)
        self._show()
        self.post_message(self.StepChosen(self._step))

    def _index_of_step(self, steps: list[int]) -> int:
        return len(steps) - 1 if self._step is None else steps.index(self._nearest(steps))

    def _nearest(self, steps: list[int]) -> int:
        return min(steps, key=lambda step: abs(step - (self._step or 0)))

    def toggle_pin(self) -> str | None:
        """Show only samples of the prompt on top, or all again; the prompt that is pinned now."""
        chosen = self.chosen
        self.pinned = chosen.prompt if self.pinned is None and chosen else None
        self._show()
        return self.pinned

    def on_click(self, event: events.Click) -> None:
        """A click makes it the pane that the arrows move."""
        self.focus()

    # --- drawing -------------------------------------------------------------------------------

    def _show(self) -> None:
        samples = self._samples
        if not samples:
            self.query_one(Static).update(self._advice())
            return
        top = self._index(samples)
        shown = [
            self._entry(samples, index, is_top=index == top)
            for index in range(top, max(-1, top - _MOST_SHOWN), -1)
        ]
        self.query_one(Static).update(Content("\n\n").join(shown))

    @property
    def _first_step(self) -> int:
        """When the config's first sample is due; 0 where that is only at the end."""
        section = self._history.config.get("sampling")
        every = as_number(section.get("every")) if isinstance(section, dict) else None
        return int(every or 0)

    def _advice(self) -> Content:
        if self._history.phase == "empty":
            text = "What the model writes while it learns appears here."
        elif self._history.phase in ("finished", "failed"):
            text = "The run ended before its first sample."
        elif self._can_ask:
            text = "Press g for a sample now, G for one with a prompt of your own."
            if first := self._first_step:
                text = f"The first sample comes at step {first:,}. {text}"
        else:
            text = "No sample yet."
        return Content.styled(text, "$text-muted")

    def _entry(self, samples: list[SampleGenerated], index: int, *, is_top: bool) -> Content:
        sample = samples[index]
        before = next((s for s in reversed(samples[:index]) if s.prompt == sample.prompt), None)
        written, prompt_text = visible(sample.text, keep=LINES), visible(sample.prompt, keep=LINES)
        changes = _compared(visible(before.text, keep=LINES), written) if before else None
        head = [Content.styled(f"step {sample.step:,}", "bold" if is_top else "$text-muted")]
        if is_top:
            steps = sorted({s.step for s in samples})
            notes = [f"{steps.index(sample.step) + 1} of {len(steps)}"]
            if self.pinned is not None:
                notes.append("pinned")
            if before is not None and changes is not None:
                share = f"{changes.share:.0%} differs from" if changes.share else "same as"
                notes.append(f"{share} step {before.step:,}")
            head.append(Content.styled(" · ".join(notes), "$text-muted"))
        text = _marked(changes) if changes else Content(written)
        prompt = Content.styled(prompt_text, "$accent")
        return Content("\n").join([Content("  ").join(head), prompt + text])


def _marked(changes: Changes) -> Content:
    text = "".join(piece for piece, _ in changes.pieces)
    if changes.share > _MOSTLY_NEW:
        return Content(text)
    return Content.assemble(
        *((piece, "bold $success" if is_new else "$foreground") for piece, is_new in changes.pieces)
    )
