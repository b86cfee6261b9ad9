"""The panes beside the chart: samples by step, the doctor's verdict, and how a run ended."""

import time
from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from shakespeare_tui.diagnosis import Reading
from shakespeare_tui.files import as_number
from shakespeare_tui.formatting import counted, format_accuracy, format_duration, format_loss
from shakespeare_tui.runs.events import SampleGenerated
from shakespeare_tui.runs.figures import RunFigures, bits_of
from shakespeare_tui.runs.history import RunHistory
from shakespeare_tui.runs.losses import perplexity
from shakespeare_tui.runs.run_rank import Rank
from shakespeare_tui.runs.state import END_REASONS
from shakespeare_tui.ui.lab_screen import state_content
from shakespeare_tui.ui.widgets.changed_text import compared, marked
from shakespeare_tui.visible_text import LINES, visible

_MOST_SAMPLES = 8


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

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id, classes=classes)
        self._history = RunHistory()
        self._drawn: object = None
        self._can_ask = False
        self._step: int | None = None
        self.pinned: str | None = None
        """The only prompt that is shown; None shows all."""

    def compose(self) -> ComposeResult:
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
            for index in range(top, max(-1, top - _MOST_SAMPLES), -1)
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
        changes = compared(visible(before.text, keep=LINES), written) if before else None
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
        text = marked(changes) if changes else Content(written)
        prompt = Content.styled(prompt_text, "$accent")
        return Content("\n").join([Content("  ").join(head), prompt + text])


_MOST_DIAGNOSES = 20
_SECONDS_BETWEEN_FIGURES = 2.0
"""A text whose figures change all the time cannot be read."""
_LOOKS = {
    "improving": ("✓", "$success"),
    "starting": ("…", "$text-muted"),
    "plateau": ("!", "$warning"),
    "overfitting": ("!", "$warning"),
    "updates_too_large": ("!", "$warning"),
    "updates_too_small": ("!", "$warning"),
}
_GRAVE = ("!", "$error")


class DoctorPane(VerticalScroll):
    """How training is doing now, and the diagnoses of the run, newest first."""

    DEFAULT_CSS: ClassVar[str] = """
    DoctorPane { padding: 0 1; }
    DoctorPane > Static { width: 1fr; height: auto; }
    """

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id, classes=classes)
        self._kinds: object = None
        self._reading: Reading | None = None
        self._shown_at = float("-inf")

    def compose(self) -> ComposeResult:
        yield Static("", markup=False)

    def show_run(self, history: RunHistory) -> None:
        """Show the verdict on a run."""
        reading = history.reading
        kinds = (history, reading and reading.kind, len(history.diagnoses), history.phase)
        now = time.monotonic()
        is_recent = reading == self._reading or now - self._shown_at < _SECONDS_BETWEEN_FIGURES
        if kinds == self._kinds and is_recent:
            return
        self._kinds, self._reading, self._shown_at = kinds, reading, now
        if reading is None:
            advice = "The doctor reads the curves of a run and says what to try."
            self.query_one(Static).update(Content.styled(advice, "$text-muted"))
            return
        mark, style = _LOOKS.get(reading.kind, _GRAVE)
        head = [(f"{mark} ", f"bold {style}"), (reading.headline, f"bold {style}")]
        if reading.since_step is not None:
            head.append((f"  since step {reading.since_step:,}", "$text-muted"))
        lines = [
            Content.assemble(*head),
            Content(_sentence(reading.evidence)),
            Content.assemble(("Advice  ", "bold"), reading.advice),
        ]
        # What holds now is told above.
        past = [
            diagnosis
            for diagnosis in reversed(history.diagnoses)
            if (diagnosis.kind, diagnosis.step) != (reading.kind, reading.since_step)
        ][:_MOST_DIAGNOSES]
        if past:
            lines.append(Content.styled("Found earlier", "$text-muted"))
        for diagnosis in past:
            kind = diagnosis.kind.replace("_", " ")
            _, look = _LOOKS.get(diagnosis.kind, _GRAVE)
            lines.append(
                Content.assemble(
                    (f"{diagnosis.step:>7,}  ", "$text-muted"),
                    (kind, look),
                    (f"  {diagnosis.evidence}", "$text-muted"),
                )
            )
        self.query_one(Static).update(Content("\n").join(lines))


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


Key = tuple[str, str]
_REASONS = {**END_REASONS, "stopped": "saved", "interrupted": "saved"}


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
        rank: Rank | None,
        keys: tuple[Key, ...],
    ) -> None:
        """Show how a run ended.

        Args:
            history: The run.
            figures: Its last figures.
            rank: Its place among past runs, once that is known.
            keys: Keys that lead on, with what they do.
        """
        state = (history.revision, rank, keys)
        if state != self._drawn:
            self._drawn = state
            self.update(result_content(history, figures, rank, keys))


def result_content(
    history: RunHistory, figures: RunFigures, rank: Rank | None, keys: tuple[Key, ...]
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
    lines += [Content.styled(note, "$text-muted") for note in figures.notes]
    if rank is not None:
        lines.append(_row("rank", _rank(rank)))
    if keys:
        lines.append(_keys(keys))
    return Content("\n").join(lines)


def _result(history: RunHistory) -> list[Content]:
    assert history.finished is not None
    loss, protocol = history.finished.val_loss, history.finished.protocol
    figure = perplexity(loss)
    if loss is None or figure is None:
        return []
    bits, unit = bits_of(loss, history)
    per_word = " per word" if history.token_noun == "word" else ""
    about = (f"{per_word}  {protocol}", "$text-muted")
    value = Content.assemble((f"{loss:.4f}", "bold $accent"), about)
    also = Content.assemble(("perplexity ", "$text-muted"), f"{figure:.2f}")
    if bits is not None:
        also += Content.assemble((f"   {unit} ", "$text-muted"), f"{bits:.3f}")
    lines = [_row("val loss", value), _row("", also)]
    if (accuracy := history.finished.accuracy) is not None:  # which older runs do not tell
        lines.append(_row("accuracy", Content(format_accuracy(accuracy))))
    return lines


def _rank(rank: Rank) -> Content:
    if rank.runs == 1:
        apart = rank.left_out
        if not apart:
            return Content.styled("the first run on this text", "$text-muted")
        others = "the other run" if apart == 1 else f"the {apart:,} other runs"
        was = "was" if apart == 1 else "were"
        return Content.styled(f"{others} on this text {was} measured otherwise", "$text-muted")
    text = f"{_ordinal(rank.place)} of {rank.runs} on this text"
    if rank.place == 1:
        return Content.styled(text, "bold $success")
    return Content.assemble(text, (f"; best {rank.best_name} {rank.best_loss}", "$text-muted"))


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
