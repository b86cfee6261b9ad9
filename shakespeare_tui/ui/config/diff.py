"""The draft beside another config: the settings that differ, and both values."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.cells import cell_len
from textual.binding import Binding, BindingType
from textual.message import Message

from shakespeare_tui.config.draft import ConfigDraft, Difference, Origin
from shakespeare_tui.ui.config.form import NAME_START, NAME_WIDTH, shown
from shakespeare_tui.ui.config.line_list import ConfigLines, Line
from shakespeare_tui.ui.widgets.text_glyphs import fitted

_ARROW = " ← "


class ConfigDiff(ConfigLines):
    """What differs between a draft and ``other``, section by section.

    Args:
        draft: Ours.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter,t", "take", "Take", id="config.take"),
        Binding("c", "choose", "Compare", id="config.compare_with"),
        Binding("escape", "close", "Back", id="config.close_diff"),
    ]

    @dataclass
    class Take(Message):
        """The setting is to have the other's value."""

        path: str
        text: str

    class Choose(Message):
        """The user wants to compare with something else."""

    class Close(Message):
        """The user wants the form back."""

    def __init__(self, draft: ConfigDraft, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._draft = draft
        self._other = draft.origin

    @property
    def other(self) -> Origin:
        """What the draft is compared with."""
        return self._other

    def compare_with(self, other: Origin) -> None:
        """Show the differences from something else."""
        self._other = other
        self.rebuild()

    @property
    def differences(self) -> tuple[Difference, ...]:
        """What differs, in the order of the declaration."""
        return self._draft.differences(self._other.config)

    def build_lines(self, width: int) -> Sequence[Line]:
        """Names, ours and theirs in columns."""
        differences = self.differences
        if not differences:
            text = f" no setting differs from {shown(self._other.name)}; c compares with another"
            return [Line(((fitted(text, width), "muted"),))]
        room = max(8, width - NAME_START - NAME_WIDTH - 2 - cell_len(_ARROW) - 1)
        longest = max(cell_len(shown(difference.ours)) for difference in differences)
        ours_width = max(cell_len("this config"), min(longest, room // 2))
        theirs_width = room - ours_width
        lead = " " * NAME_START + " " * (NAME_WIDTH + 2)
        heading = (
            (lead + fitted("this config", ours_width) + _ARROW, "muted"),
            (fitted(shown(self._other.name), theirs_width), "muted"),
        )
        lines = [Line(heading)]
        section = ""
        for difference in differences:
            field = difference.field
            if field.section != section:
                section = field.section
                title = f" {section} "
                rule = "─" * max(0, width - len(title))
                lines.append(Line(((title, "title"), (rule, "rule"))))
            is_wrong = field.path in self._draft.problems
            lines.append(
                Line(
                    (
                        (f"{'':<{NAME_START}}{field.key:<{NAME_WIDTH}}  ", ""),
                        (
                            fitted(shown(difference.ours), ours_width),
                            "error" if is_wrong else "changed",
                        ),
                        (_ARROW, "muted"),
                        (fitted(shown(difference.theirs), theirs_width), "value"),
                    ),
                    field.path,
                )
            )
        return lines

    def action_take(self) -> None:
        """Take the other's value."""
        for difference in self.differences:
            if difference.field.path == self.cursor:
                self.post_message(self.Take(difference.field.path, difference.theirs))

    def action_choose(self) -> None:
        """Choose what to compare with."""
        self.post_message(self.Choose())

    def action_close(self) -> None:
        """Go back to the form."""
        self.post_message(self.Close())
