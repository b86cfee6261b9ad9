"""The line in which a column's strategy is written, checked as one types."""

from typing import TYPE_CHECKING, ClassVar

from textual import events, on
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import Input

from shakespeare_tui.errors import UserError
from shakespeare_tui.ui.widgets.inputs import OrderedInput

if TYPE_CHECKING:
    from shakespeare_tui.sampling import Strategy


class StrategyField(OrderedInput):
    """A strategy as text; ``problem`` says what is wrong with it, ``hint`` what it does."""

    DEFAULT_CSS: ClassVar[str] = """
    StrategyField { width: 1fr; background: $surface; }
    StrategyField:focus { background: $panel; }
    StrategyField.-wrong { color: $error; text-style: bold; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "submit", "Write", key_display="enter", id="strategy.write"),
        Binding("escape", "leave", "Unfocus", id="strategy.leave"),
        Binding("down,up", "leave", "Unfocus", show=False, id="strategy.leave_down"),
    ]

    class Told(Message):
        """The strategy, the place in it, or the focus changed: there is another hint."""

    class Left(Message):
        """The line is done with."""

    def __init__(self, strategy: str) -> None:
        super().__init__(
            strategy, compact=True, select_on_focus=False, placeholder="temperature=0.8"
        )
        self.problem = ""
        self._check()

    @property
    def strategy(self) -> "Strategy | None":
        """The strategy; None while it cannot be read."""
        from shakespeare_tui.sampling import parse_strategy

        try:
            return parse_strategy(self.value)
        except UserError:
            return None

    def write(self, strategy: str) -> None:
        """Put another strategy into the line, the cursor behind it."""
        self.value = strategy
        self.cursor_position = len(strategy)
        self._check()

    def _check(self) -> None:
        from shakespeare_tui.sampling import parse_strategy

        try:
            parse_strategy(self.value)
            self.problem = ""
        except UserError as error:
            self.problem = str(error)
        self.set_class(bool(self.problem), "-wrong")

    @property
    def hint(self) -> str:
        """What the step under the cursor does, and the range of its values."""
        from shakespeare_tui.sampling import STEP_KINDS

        before = self.value[: self.cursor_position]
        start = before.rfind(" ") + 1
        word = self.value[start:].split(" ")[0].partition("=")[0].partition(",")[0]
        kind = STEP_KINDS.get(word.lower().replace("-", "_"))
        if kind is None:
            return "steps from left to right, temperature=0.8 top_k=20 · f2 lists them"
        first = kind.parameters[0] if kind.parameters else None
        return f"{kind.title}: {kind.help}" + (f" {first.name} {first.range}." if first else "")

    def on_mount(self) -> None:
        """Tell the hint anew where the cursor moves within the line."""
        self.watch(self, "selection", self._moved)

    def _moved(self) -> None:
        if self.has_focus:
            self.post_message(self.Told())

    @on(Input.Changed)
    def _changed(self, event: Input.Changed) -> None:
        self._check()
        self.post_message(self.Told())

    def on_focus(self, event: events.Focus) -> None:
        """Tell the hint."""
        self.post_message(self.Told())

    def on_blur(self, event: events.Blur) -> None:
        """Take the hint away."""
        self.post_message(self.Told())

    def action_leave(self) -> None:
        """Back to the text."""
        self.post_message(self.Left())
