"""Prompts written before: walked with up and down, kept as one line of JSON."""

import json
from collections.abc import Iterable
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.message import Message

from shakespeare_tui.files import parse_json
from shakespeare_tui.ui.widgets.inputs import OrderedInput
from shakespeare_tui.visible_text import read_line, write_line

_MOST = 50
_LONGEST_LINE = 50_000


class PromptHistory:
    """Prompts, oldest first, and where one stands among them.

    The text being written is kept while one walks, and comes back behind the newest prompt.

    Args:
        prompts: Oldest first; of equal ones the newest stays.
    """

    def __init__(self, prompts: Iterable[str] = ()) -> None:
        self._prompts: list[str] = []
        for prompt in prompts:
            self._take(prompt)
        self._place = len(self._prompts)
        self._draft = ""

    @classmethod
    def from_json(cls, text: str) -> "PromptHistory":
        """Read what ``to_json`` wrote; what cannot be read is an empty history."""
        try:
            found = parse_json(text)
        except ValueError:
            return cls()
        is_list = isinstance(found, list)
        return cls(prompt for prompt in found if isinstance(prompt, str)) if is_list else cls()

    def to_json(self) -> str:
        """The newest prompts as one line; of long ones there are fewer."""
        kept = self._prompts
        while len(line := json.dumps(kept, ensure_ascii=False)) > _LONGEST_LINE:
            kept = kept[1:]
        return line

    @property
    def prompts(self) -> tuple[str, ...]:
        """Oldest first."""
        return tuple(self._prompts)

    def add(self, prompt: str) -> None:
        """Remember a prompt as the newest; walking begins behind it."""
        self._take(prompt)
        self._place, self._draft = len(self._prompts), ""

    def _take(self, prompt: str) -> None:
        if prompt:
            self._prompts = [other for other in self._prompts if other != prompt][-_MOST + 1 :]
            self._prompts.append(prompt)

    def earlier(self, present: str) -> str | None:
        """The prompt before; None at the oldest. ``present`` is what the field holds."""
        if self._place == len(self._prompts):
            self._draft = present
            # What was sent last stands in the field still: going back means the one before.
            if self._place and self._prompts[-1] == present:
                self._place -= 1
        if self._place == 0:
            return None
        self._place -= 1
        return self._prompts[self._place]

    def later(self) -> str | None:
        """The prompt after, at last the text that was being written; None behind that."""
        if self._place == len(self._prompts):
            return None
        self._place += 1
        at_end = self._place == len(self._prompts)
        return self._draft if at_end else self._prompts[self._place]


class PromptField(OrderedInput):
    """The prompt as it is typed; up and down walk through the ones before."""

    DEFAULT_CSS: ClassVar[str] = """
    PromptField { width: 1fr; background: $surface; }
    PromptField:focus { background: $panel; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "submit", "Write", key_display="enter", id="prompt.write"),
        Binding("up", "earlier", "Previous prompt", id="prompt.earlier"),
        Binding("down", "later", "Next prompt", show=False, id="prompt.later"),
        Binding("escape", "leave", "Unfocus", id="prompt.leave"),
    ]

    class Left(Message):
        """The line is done with."""

    def __init__(self, value: str, history: PromptHistory) -> None:
        super().__init__(
            value,
            id="prompt",
            compact=True,
            select_on_focus=False,
            placeholder="at least one character; \\n is a new line",
        )
        self.history = history

    @property
    def prompt(self) -> str:
        """The prompt that was meant."""
        return read_line(self.value)

    def set_prompt(self, prompt: str) -> None:
        """Show another prompt."""
        self.value = write_line(prompt)
        self.cursor_position = len(self.value)

    def action_earlier(self) -> None:
        """The prompt before."""
        self._show(self.history.earlier(self.prompt))

    def action_later(self) -> None:
        """The prompt after."""
        self._show(self.history.later())

    def _show(self, prompt: str | None) -> None:
        if prompt is not None:
            self.set_prompt(prompt)

    def action_leave(self) -> None:
        """Back to the texts."""
        self.post_message(self.Left())
