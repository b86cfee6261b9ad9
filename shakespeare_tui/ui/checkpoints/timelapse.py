"""The time-lapse: one sample growing up, from checkpoint to checkpoint of a run."""

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.timer import Timer

from shakespeare_tui.formatting import format_loss
from shakespeare_tui.runs.compare.items import CheckpointItem
from shakespeare_tui.ui.checkpoints.writing import TextPane, WritingScreen
from shakespeare_tui.ui.engine.generation import GenerationRequest
from shakespeare_tui.ui.engine.text_writer import TextWriter

_SECONDS_A_CHECKPOINT = 1.0
_AHEAD = 4
"""Checkpoints on either side that are written before they are looked at."""


class TimelapseScreen(WritingScreen):
    """One text at a time; left and right walk through the checkpoints of its run.

    Args:
        writer: Writes the texts and keeps them.
        items: The run's checkpoints, in order of their steps.
        index: The one to begin with.
    """

    HELP: ClassVar[str] = """\
One prompt and one seed, continued by each checkpoint of a run. Left and right step through the
checkpoints, home and end jump to the first and last, space plays. Words that the previous
checkpoint did not write are highlighted; the first character that differs is shown in reverse.

Texts are generated once and kept. p changes the prompt, n the seed, o the length; escape goes
back."""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "walk(-1)", "Steps", key_display="←→", id="timelapse.earlier"),
        Binding("right", "walk(1)", "Next step", show=False, id="timelapse.later"),
        Binding("space", "play", "Play", id="timelapse.play"),
        Binding("home", "go_to(0)", "First step", show=False, id="timelapse.first"),
        Binding("end", "go_to(-1)", "Last step", show=False, id="timelapse.last"),
    ]

    def __init__(self, writer: TextWriter, items: Sequence[CheckpointItem], index: int) -> None:
        super().__init__(writer, items)
        self.index = index
        self._player: Timer | None = None

    def compose_texts(self) -> ComposeResult:
        """The text of one checkpoint."""
        yield TextPane()

    @property
    def item(self) -> CheckpointItem:
        """The checkpoint that is shown."""
        return self.items[self.index]

    def wanted(self) -> list[GenerationRequest]:
        """The text that is shown, the one before it, and those around."""
        near = sorted(
            range(max(0, self.index - _AHEAD), min(len(self.items), self.index + _AHEAD + 1)),
            key=lambda number: (abs(number - self.index), number > self.index),
        )
        return [self.request(self.items[number]) for number in near]

    def head(self) -> Content:
        """Prompt and seed, and where in the run one is."""
        item = self.item
        step = item.checkpoint.step if item.checkpoint else 0
        figures = f"val loss {item.loss or '-'} · train {format_loss(item.train_loss)}"
        return Content.assemble(
            super().head(),
            "\n",
            (f"step {step:,}", "bold"),
            (f"  {self.index + 1} of {len(self.items)}  {figures}  ", "$text-muted"),
            *self._rail(),
        )

    def _rail(self) -> list[tuple[str, str]]:
        """A dot for each checkpoint: written or not, and which is shown."""
        room = max(8, self.size.width - 60)
        first = max(0, min(self.index - room // 2, len(self.items) - room))
        dots = []
        for number in range(first, min(len(self.items), first + room)):
            is_here = number == self.index
            is_whole = self.written(self.items[number]).is_whole
            dot = "■" if is_here else "●" if is_whole else "·"
            dots.append((dot, "bold $accent" if is_here else "$text-muted"))
        return dots

    def show_texts(self) -> None:
        """The text of the checkpoint, compared with that of the one before."""
        other, than = None, ""
        if self.index:
            earlier = self.items[self.index - 1]
            # What is still being written would differ in all that it has not.
            other = before if (before := self.written(earlier)).is_whole else None
            step = earlier.checkpoint
            than = f"step {step.step:,}" if step else "the one before"
        pane = self.query_one(TextPane)
        pane.show(self.item.key, self.prompt, self.written(self.item), other=other, than=than)

    # --- actions -------------------------------------------------------------------------------

    def action_walk(self, by: int) -> None:
        """Go to the checkpoint before or after."""
        self._show(self.index + by)

    def action_go_to(self, index: int) -> None:
        """Go to the first or the last checkpoint."""
        self._show(index % len(self.items))

    def _show(self, index: int) -> None:
        self.index = max(0, min(index, len(self.items) - 1))
        self.begin()

    def action_play(self) -> None:
        """Go on by itself, or stand still."""
        if self._player is not None:
            self._player.stop()
            self._player = None
            return
        if self.index == len(self.items) - 1:
            self._show(0)
        self._player = self.set_interval(_SECONDS_A_CHECKPOINT, self._play_on)

    def _play_on(self) -> None:
        if not self.written(self.item).is_whole:
            # What is not written yet is waited for.
            return
        if self.index == len(self.items) - 1:
            self.action_play()
        else:
            self._show(self.index + 1)
