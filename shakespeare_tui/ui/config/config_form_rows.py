"""The rows of the form and the keys that work on them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.message import Message

from shakespeare_tui.config.draft import ConfigDraft
from shakespeare_tui.config.fields import section_types
from shakespeare_tui.ui.config.config_rows import form_lines
from shakespeare_tui.ui.config.line_list import ConfigLines, Line


class ConfigRows(ConfigLines):
    """The rows of the form."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "edit", "Edit", id="config.edit"),
        Binding("space,right,l", "turn(1)", "Next choice", show=False, id="config.next_choice"),
        Binding("left,h", "turn(-1)", "Previous choice", show=False, id="config.previous_choice"),
        Binding("r,backspace", "reset", "Reset", show=False, id="config.reset"),
        Binding(
            "right_square_bracket,shift+down",
            "section(1)",
            "Next section",
            show=False,
            id="config.next_section",
        ),
        Binding(
            "left_square_bracket,shift+up",
            "section(-1)",
            "Previous section",
            show=False,
            id="config.previous_section",
        ),
        Binding("n", "problem(1)", "Next error", show=False, id="config.next_mistake"),
        Binding("N", "problem(-1)", "Previous error", show=False, id="config.last_mistake"),
        Binding("slash", "filter", "Filter", key_display="/", id="config.filter"),
        Binding("c", "only_changed", "Changes only", show=False, id="config.only_changed"),
    ]

    @dataclass
    class Edit(Message):
        """The row under the cursor is to be edited."""

        path: str

    @dataclass
    class Turn(Message):
        """The row under the cursor is to take its next value, or the one before."""

        path: str
        by: int

    @dataclass
    class Reset(Message):
        """The row under the cursor is to have the origin's value."""

        path: str

    class Filter(Message):
        """The user wants to filter."""

    def __init__(self, draft: ConfigDraft) -> None:
        super().__init__(id="config-rows")
        self._draft = draft
        self.words = ""
        self.only_changed = False

    def build_lines(self, width: int) -> Sequence[Line]:
        """The rows that the filter lets through, or a hint where there are none."""
        state = self._draft.state
        lines = list(form_lines(state, width, words=self.words, only_changed=self.only_changed))
        if lines:
            return lines
        if self.words:
            return [Line(((f" nothing matches “{self.words}”; esc shows all", "muted"),))]
        return [Line(((f" the same as {state.origin.name}; c shows all", "muted"),))]

    def action_edit(self) -> None:
        """Edit the row."""
        if self.cursor is not None:
            self.post_message(self.Edit(self.cursor))

    def action_turn(self, by: int) -> None:
        """Take the next choice."""
        if self.cursor is not None:
            self.post_message(self.Turn(self.cursor, by))

    def action_reset(self) -> None:
        """Take the origin's value."""
        if self.cursor is not None:
            self.post_message(self.Reset(self.cursor))

    def action_filter(self) -> None:
        """Type a filter."""
        self.post_message(self.Filter())

    def action_only_changed(self) -> None:
        """Show only what differs from the origin, or all again."""
        self.only_changed = not self.only_changed
        self.rebuild()

    def action_section(self, by: int) -> None:
        """Go to the beginning of the next section, or of the one before."""
        if self.cursor is None:
            return
        firsts: dict[str, str] = {}
        for key in self.keys:
            firsts.setdefault(key.partition(".")[0], key)
        sections = [name for name in section_types() if name in firsts]
        here = self.cursor.partition(".")[0]
        if by < 0 and self.cursor != firsts[here]:
            by = 0
        place = max(0, min(sections.index(here) + by, len(sections) - 1))
        self.move_to(firsts[sections[place]])

    def action_problem(self, by: int) -> None:
        """Go to the next mistake, round and round."""
        wrong = [key for key in self.keys if key in self._draft.problems]
        if not wrong or self.cursor is None:
            return
        here = self.keys.index(self.cursor)
        places = [self.keys.index(key) for key in wrong]
        if by > 0:
            place = next((place for place in places if place > here), places[0])
        else:
            place = next((place for place in reversed(places) if place < here), places[-1])
        self.move_to(self.keys[place])
