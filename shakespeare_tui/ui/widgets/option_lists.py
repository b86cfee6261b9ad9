"""Option lists that hold still while they have no room to be in."""

from textual.widgets import OptionList, SelectionList
from textual.widgets.selection_list import SelectionType


class Options(OptionList):
    """Textual pages by lines that it lays out only where there is room, and fails elsewhere."""

    def action_page_up(self) -> None:
        """Move the cursor up one page."""
        if self.scrollable_content_region:
            super().action_page_up()  # type: ignore[no-untyped-call]

    def action_page_down(self) -> None:
        """Move the cursor down one page."""
        if self.scrollable_content_region:
            super().action_page_down()  # type: ignore[no-untyped-call]


class Selections(SelectionList[SelectionType], Options):
    """The same where several may be chosen; styles come from the first base."""
