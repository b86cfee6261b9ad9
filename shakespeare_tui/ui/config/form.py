"""The form: every setting as a row, edited in place, with a filter above and help below."""

from dataclasses import dataclass
from typing import ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.geometry import Offset
from textual.message import Message
from textual.widgets import Input, Static

from shakespeare_tui.config.draft import ConfigDraft
from shakespeare_tui.config.fields import find_field
from shakespeare_tui.ui.config.config_form_rows import ConfigRows
from shakespeare_tui.ui.config.config_rows import VALUE_START, explanation, nearest_name
from shakespeare_tui.ui.config.line_list import ConfigLines
from shakespeare_tui.ui.widgets.inputs import FilterInput, ValueInput

_SHORTEST_EDITOR = 8
_LONGEST_EDITOR = 72


class ConfigForm(Vertical):
    """Rows, editor, filter and help of one draft.

    Args:
        draft: What is edited; call ``show_draft`` after it was changed elsewhere.
    """

    DEFAULT_CSS: ClassVar[str] = """
    ConfigForm { layers: rows editor; }
    ConfigForm Input { height: 1; border: none; padding: 0; }
    ConfigForm #config-filter { background: $panel; padding: 0 1; }
    ConfigForm #config-value {
        layer: editor;
        position: absolute;
        background: $surface;
        color: $foreground;
        display: none;
    }
    ConfigForm #config-help {
        height: 4;
        padding: 0 1;
        border-top: solid $border-blurred;
        border-title-color: $foreground;
        border-title-style: bold;
        color: $foreground;
    }
    """

    @dataclass
    class Changed(Message):
        """The draft was changed by the user; ``is_typing`` while more keys will follow."""

        is_typing: bool = False

    def __init__(self, draft: ConfigDraft, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._draft = draft
        self._edited: str | None = None
        self.rows = ConfigRows(draft)
        """The settings, a row each."""
        self._filter = FilterInput(id="config-filter", placeholder="filter settings", compact=True)
        self._value = ValueInput(self._left, id="config-value")
        self._help = Static(id="config-help", markup=False)

    def compose(self) -> ComposeResult:
        """Filter, rows and help from top to bottom; the editor floats."""
        self._filter.display = False
        yield self._filter
        yield self.rows
        yield self._help
        yield self._value

    def on_mount(self) -> None:
        """Follow the rows as they scroll away under the editor."""
        self.watch(self.rows, "scroll_y", self._place_editor, init=False)

    @property
    def cursor(self) -> str | None:
        """The setting under the cursor."""
        return self.rows.cursor

    def show_draft(self, path: str | None = None) -> None:
        """Draw the draft as it is now, with the cursor on ``path`` if that is given."""
        self.rows.rebuild()
        if path is not None:
            if path not in self.rows.keys:
                self._filter.value, self.rows.only_changed = "", False
                self._set_words("")
            self.rows.move_to(path)
        self._show_help()

    def _show_help(self) -> None:
        path = self.rows.cursor
        if path is None:
            self._help.border_title = None
            self._help.update("")
            return
        self._help.border_title = Content(path)
        self._help.update(explanation(path, self._draft.state))

    @on(ConfigLines.Moved)
    def _moved(self) -> None:
        self._show_help()

    # --- filter --------------------------------------------------------------------------------

    @on(ConfigRows.Filter)
    def _open_filter(self) -> None:
        self._filter.display = True
        self._filter.focus()

    @on(FilterInput.Done)
    def _close_filter(self) -> None:
        self._filter.display = bool(self._filter.value.strip())
        self.rows.focus()

    @on(Input.Changed, "#config-filter")
    def _filter_changed(self, event: Input.Changed) -> None:
        event.stop()
        self._set_words(self._filter.value)

    def _set_words(self, words: str) -> None:
        is_other = words != self.rows.words
        self.rows.words = words
        self.rows.rebuild()
        if is_other and words.strip() and self.rows.keys:
            self.rows.move_to(nearest_name(self.rows.keys, words))
        elif self.rows.cursor is not None:
            self.rows.move_to(self.rows.cursor)
        self._filter.display = bool(words.strip()) or self._filter.has_focus

    def clear_filter(self) -> bool:
        """Show all rows again; whether there was a filter."""
        had_filter = bool(self.rows.words) or self.rows.only_changed
        self._filter.value, self.rows.only_changed = "", False
        self._set_words("")
        return had_filter

    # --- editing -------------------------------------------------------------------------------

    @on(ConfigLines.Chosen)
    def _chosen(self, event: ConfigLines.Chosen) -> None:
        event.stop()
        self._begin(event.key)

    @on(ConfigRows.Edit)
    def _edit(self, event: ConfigRows.Edit) -> None:
        event.stop()
        self._begin(event.path)

    def _begin(self, path: str) -> None:
        if self._options(path):
            self._turn_to(path, 1)
            return
        self.rows.move_to(path)
        self._edited = path
        with self._value.prevent(Input.Changed):
            self._value.value = self._draft.text(path)
        self._value.display = True
        self._place_editor()
        self._value.focus()
        self._value.action_end()

    def _place_editor(self) -> None:
        if self._edited is None:
            return
        try:
            line = self.rows.line_of(self._edited)
        except ValueError:
            self._leave(keep=True)
            return
        y = line - self.rows.scroll_offset.y
        is_visible = 0 <= y < self.rows.size.height
        self._value.set_class(not is_visible, "-away")
        width = self.rows.scrollable_content_region.width - VALUE_START
        self._value.styles.width = max(_SHORTEST_EDITOR, min(width, _LONGEST_EDITOR))
        top = self.rows.region.y - self.region.y + y if is_visible else -1
        self._value.styles.offset = Offset(VALUE_START, top)
        self._value.visible = is_visible

    def on_resize(self) -> None:
        """Keep the editor on its row."""
        self.call_after_refresh(self._place_editor)

    @on(Input.Changed, "#config-value")
    def _typed(self, event: Input.Changed) -> None:
        event.stop()
        if self._edited is None:
            return
        # Messages of quick keys come late and out of order: what counts is what stands there.
        self._draft.type_text(self._edited, self._value.value)
        self.rows.rebuild()
        self.post_message(self.Changed(is_typing=True))

    def _left(self, keep: bool, then: int) -> None:
        if self._edited is not None:
            self._leave(keep)
            if then:
                self.rows.action_move(then)

    def _leave(self, keep: bool) -> None:
        assert self._edited is not None
        self._draft.type_text(self._edited, self._value.value)
        self._edited = None
        had_focus = self._value.has_focus
        self._value.display = False
        if keep:
            self._draft.end_typing()
        else:
            self._draft.cancel_typing()
        if had_focus:
            self.screen.set_focus(self.rows)
        self._after_change()

    def finish_typing(self) -> None:
        """Keep what is being typed, before something else changes the draft."""
        if self._edited is not None:
            self._leave(keep=True)

    @on(ConfigRows.Turn)
    def _turn(self, event: ConfigRows.Turn) -> None:
        event.stop()
        self._turn_to(event.path, event.by)

    def _turn_to(self, path: str, by: int) -> None:
        options = self._options(path)
        if not options:
            return
        text = self._draft.text(path).strip()
        place = options.index(text) + by if text in options else 0
        self._draft.set_text(path, options[place % len(options)])
        self._after_change()

    def _options(self, path: str) -> tuple[str, ...]:
        field = find_field(path)
        assert field is not None
        return ("false", "true") if field.kind == "boolean" else field.choices

    @on(ConfigRows.Reset)
    def _reset(self, event: ConfigRows.Reset) -> None:
        event.stop()
        if self._draft.reset(event.path):
            self._after_change()

    def _after_change(self) -> None:
        self.rows.rebuild()
        self._show_help()
        self.post_message(self.Changed())

    def on_key(self, event: events.Key) -> None:
        """Escape takes a filter away before it does anything else."""
        if event.key == "escape" and self.rows.has_focus and self.clear_filter():
            event.stop()
            event.prevent_default()
