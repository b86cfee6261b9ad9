"""What stands beside the text of the surprise view: X-ray, attention, or the tree of branches."""

from collections.abc import Callable
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message
from textual.widget import Widget

from shakespeare_tui.ui.playground.branches import BranchTree
from shakespeare_tui.ui.widgets.text_glyphs import sign

DrawPage = Callable[[int, int, bool], Content]
"""Makes the content for a width, a height, and whether the panel has the focus."""


class ReadingSide(Widget, can_focus=True):
    """A panel whose content others make; its keys move and take."""

    DEFAULT_CSS: ClassVar[str] = """
    ReadingSide {
        width: 40;
        border: round $border-blurred;
        border-title-color: $text-muted;
        border-subtitle-color: $text-muted;
        text-wrap: nowrap;
        text-overflow: clip;
    }
    ReadingSide:focus { border: round $border; border-title-color: $accent; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "take", "Take it", key_display="enter", id="side.take"),
        Binding("up", "select(-1)", "Up", show=False, id="side.up"),
        Binding("down", "select(1)", "Down", show=False, id="side.down"),
        *(
            Binding(str(n), f"number({n})", "Take by number", show=False, id=f"side.take_{n}")
            for n in range(1, 10)
        ),
    ]

    class Selected(Message):
        """Move the selection by so many rows."""

        def __init__(self, by: int) -> None:
            super().__init__()
            self.by = by

    class Taken(Message):
        """Take the selected row, or one by its number from 1."""

        def __init__(self, number: int | None = None) -> None:
            super().__init__()
            self.number = number

    def __init__(self) -> None:
        super().__init__()
        self._draw: DrawPage = lambda width, height, is_focused: Content("")

    def show(self, title: str, about: str, draw: DrawPage) -> None:
        """Show something else; ``about`` stands in the lower edge."""
        self.border_title, self.border_subtitle = Content(title), Content(about)
        self._draw = draw
        self.refresh()

    def render(self) -> Content:
        """What there is to show, for the size there is."""
        return self._draw(self.content_size.width, self.content_size.height, self.has_focus)

    def action_take(self) -> None:
        """Take the selected row."""
        self.post_message(self.Taken())

    def action_number(self, number: int) -> None:
        """Take a row by its number."""
        self.post_message(self.Taken(number))

    def action_select(self, by: int) -> None:
        """Move the selection."""
        self.post_message(self.Selected(by))


def branch_lines(tree: BranchTree, current: int, width: int, height: int, ascii: bool) -> Content:  # noqa: A002
    """A line a branch, below its parent: where it left it, and what it says there."""
    rows = tree.rows()
    place = next(i for i, (_, branch) in enumerate(rows) if branch.number == current)
    first = max(0, min(place - height // 2, len(rows) - height))
    lines = []
    for depth, branch in rows[first : first + height]:
        indent = "  " * min(depth, 6) + ("└ " if depth else "")
        where = f"at {branch.start + 1:,} " if branch.parent else ""
        start = max(0, branch.start - 2) if branch.parent else branch.prompt_length
        words = "".join(sign(c, ascii) if c == "\n" else c for c in branch.text[start : start + 40])
        is_here = branch.number == current
        text = f"{'▸' if is_here else ' '}{indent}{branch.number} {where}{words}"
        lines.append(Content.styled(text[:width], "bold $accent" if is_here else "$foreground"))
    return Content("\n").join(lines)
