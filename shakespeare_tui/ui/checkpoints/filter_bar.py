"""The line that narrows a list as one types: a query, and how much is left or what is wrong."""

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.message import Message
from textual.widgets import Input, Static

from shakespeare_tui.errors import UserError
from shakespeare_tui.runs.compare.query import Query, parse_query


class FilterBar(Vertical):
    """A field for a query, told at once; of a wrong one, what stands before the wrong term.

    Args:
        example: What may be written, shown while the field is empty.
    """

    DEFAULT_CSS: ClassVar[str] = """
    FilterBar { height: auto; padding: 0 1; background: $panel; }
    FilterBar > Horizontal { height: 1; }
    FilterBar #filter-label { width: auto; color: $text-muted; }
    FilterBar Input { width: 1fr; min-width: 20; margin: 0 1; background: $panel; }
    FilterBar #filter-note { width: auto; color: $text-muted; }
    FilterBar > #filter-error { height: auto; color: $error; display: none; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down", "leave", "To the list", show=False, id="filter.down"),
        Binding("escape", "leave", "To the list", id="filter.leave"),
    ]

    class Changed(Message):
        """Another query is in force."""

        def __init__(self, query: Query) -> None:
            super().__init__()
            self.query = query

    class Left(Message):
        """The field was left for the list."""

    def __init__(self, example: str) -> None:
        super().__init__()
        self._example = example
        self.error = ""

    def compose(self) -> ComposeResult:
        """Label, field, note, and below them what is wrong."""
        with Horizontal():
            yield Static("Filter /", id="filter-label", markup=False)
            yield Input(placeholder=self._example, compact=True, select_on_focus=False)
            yield Static("", id="filter-note", markup=False)
        yield Static("", id="filter-error", markup=False)

    @property
    def text(self) -> str:
        """What is written."""
        return self.query_one(Input).value

    def clear(self) -> None:
        """Take the query away."""
        self.query_one(Input).value = ""

    def edit(self) -> None:
        """Write in the field."""
        self.query_one(Input).focus()

    def tell(self, note: str) -> None:
        """Say how much is left, and what is wrong with the query."""
        self.query_one("#filter-note", Static).update(Content(note))
        line = self.query_one("#filter-error", Static)
        line.update(Content(self.error))
        line.display = bool(self.error)

    @on(Input.Changed)
    def _changed(self, event: Input.Changed) -> None:
        event.stop()
        self.error, text = "", event.value
        while True:
            try:
                query = parse_query(text)
                break
            except UserError as error:
                self.error = self.error or str(error)
                text = text.rstrip().rpartition(" ")[0]
        self.post_message(self.Changed(query))

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.action_leave()

    def action_leave(self) -> None:
        """Go to the list."""
        self.post_message(self.Left())
