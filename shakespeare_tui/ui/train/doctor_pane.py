"""The doctor's verdict on a run in words, with evidence and advice, and what was found before."""

import time
from typing import ClassVar

from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from shakespeare_tui.diagnosis import Reading
from shakespeare_tui.runs.history import RunHistory

_MOST_SHOWN = 20
_SECONDS_BETWEEN_FIGURES = 2.0
"""A text whose figures change all the time cannot be read."""
_LOOKS = {
    "improving": ("✓", "$success"),
    "starting": ("…", "$text-muted"),
    "plateau": ("!", "$warning"),
    "overfitting": ("!", "$warning"),
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
        """The text."""
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
        ][:_MOST_SHOWN]
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
