"""The form: every setting as a row, edited in place, with a filter above and help below."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import ClassVar

from rich.cells import cell_len
from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.geometry import Offset
from textual.message import Message
from textual.widgets import Input, Static

from shakespeare_tui.config.draft import ConfigDraft, DraftState, effective_text
from shakespeare_tui.config.fields import (
    ConfigField,
    config_fields,
    find_field,
    section_help,
    section_types,
)
from shakespeare_tui.config.write import write_text
from shakespeare_tui.ui.config.line_list import ConfigLines, Line, Part
from shakespeare_tui.ui.widgets.inputs import OrderedInput
from shakespeare_tui.ui.widgets.text_glyphs import fitted
from shakespeare_tui.visible_text import visible

NAME_START = 3
NAME_WIDTH = max(len(field.key) for field in config_fields())
VALUE_START = NAME_START + NAME_WIDTH + 2
_RANGE_FROM_WIDTH = 64
_HELP_FROM_WIDTH = 96
# Of all columns but the last, which takes what is left.
_WIDTHS = ((12,), (16,), (18, 30))
_MESSAGE_INDENT = 5

_WORD = re.compile(r"\w+")
CHANGED, WRONG, VARIED, EMPTY = "●", "✗", "≡", "–"


def matches(field: ConfigField, words: str) -> bool:
    """Whether a setting answers to all words of a filter.

    A word counts as part of its path, as the beginning of a word of its help or of a choice, or as
    its initials: ``lr`` finds learning_rate.
    """
    initials = "".join(part[0] for part in field.key.split("_"))
    explained = f"{field.help} {' '.join(field.choices)}".lower()
    starts = _WORD.findall(explained)
    return all(
        word in field.path or word == initials or any(start.startswith(word) for start in starts)
        for word in words.lower().split()
    )


def nearest_name(paths: Sequence[str], words: str) -> str:
    """The path whose key is the filter, or begins so, or has it in it; else the first.

    Raises:
        IndexError: There are no paths.
    """
    word = words.strip().lower()
    keys = [path.partition(".")[2] for path in paths]
    for answers in (word.__eq__, lambda key: key.startswith(word), lambda key: word in key):
        for path, key in zip(paths, keys, strict=True):
            if answers(key):
                return path
    return paths[0]


def form_lines(
    state: DraftState,
    width: int,
    *,
    words: str = "",
    only_changed: bool = False,
    varied: Mapping[str, str] | None = None,
) -> Iterator[Line]:
    """All lines of the form.

    Args:
        state: The draft's present moment.
        width: Cells there are.
        words: Show only the settings that have all of them.
        only_changed: Show only what differs from the origin, is wrong or varied.
        varied: Several values of settings that an experiment is to be made of, by path.
    """
    section = ""
    varied = varied or {}
    for field in config_fields():
        is_marked = state.is_changed(field.path) or field.path in {**state.problems, **varied}
        if not matches(field, words) or (only_changed and not is_marked):
            continue
        if field.section != section:
            if section:
                yield Line(())
            section = field.section
            yield _heading(section, state, width)
        yield _row(field, state, width, varied.get(field.path, ""))
        for message in state.problems.get(field.path, ()):
            for text in wrap(message, max(10, width - _MESSAGE_INDENT)):
                yield Line(((" " * _MESSAGE_INDENT + text, "error"),), field.path)


def _heading(section: str, state: DraftState, width: int) -> Line:
    paths = [field.path for field in config_fields() if field.section == section]
    wrong = sum(path in state.problems for path in paths)
    changed = sum(state.is_changed(path) for path in paths)
    title = f" {section} "
    about = f"{section_help(section).rstrip('.')} " if width >= _RANGE_FROM_WIDTH else ""
    counts = [f"{changed} changed"] if changed else []
    counts += [f"{wrong} wrong"] if wrong else []
    tail = f" {', '.join(counts)} " if counts else ""
    rule = "─" * max(0, width - cell_len(title + about + tail))
    tail_style = "error" if wrong else "changed"
    return Line(((title, "title"), (about, "muted"), (rule, "rule"), (tail, tail_style)))


def _row(field: ConfigField, state: DraftState, width: int, varied: str) -> Line:
    is_wrong, is_changed = field.path in state.problems, state.is_changed(field.path)
    mark, mark_style = (WRONG, "error") if is_wrong else (CHANGED, "changed")
    if varied and not is_wrong:
        mark = VARIED
    elif not is_wrong and not is_changed:
        mark, mark_style = " ", ""
    cells = [(varied, "changed") if varied else value_text(field, state)]
    if is_wrong:
        cells[0] = (cells[0][0], "error")
    tier = (width >= _RANGE_FROM_WIDTH) + (width >= _HELP_FROM_WIDTH)
    was = f"was {shown(state.origin.texts[field.path])}" if is_changed else ""
    cells.append((was or (short_range(field) if tier else ""), "muted"))
    if tier == 2:
        cells.append((field.help, "muted"))
    widths = list(_WIDTHS[tier])
    widths.append(max(0, width - VALUE_START - sum(widths) - len(widths)))
    while len(cells) > 1 and cell_len(cells[0][0]) > widths[0]:
        # A long value takes the room of what would stand behind it.
        widths[:2] = [widths[0] + 1 + widths[1]]
        del cells[1]
    parts: list[Part] = [(f" {mark} ", mark_style), (f"{field.key:<{NAME_WIDTH}}  ", "")]
    for (text, style), cell_width in zip(cells, widths, strict=True):
        parts.append((fitted(text, cell_width) + " ", style))
    return Line(tuple(parts), field.path)


def value_text(field: ConfigField, state: DraftState) -> tuple[str, str]:
    """A value as the form shows it, and its style."""
    text = state.texts[field.path]
    if text:
        return shown(text), "changed" if state.is_changed(field.path) else "value"
    if field.optional and state.config is not None:
        meant = effective_text(state.config, field.path)
        return (f"({meant})" if meant else EMPTY), "muted"
    return EMPTY, "muted"


def shown(text: str) -> str:
    """A text on one line, harmless to a terminal; empty becomes a dash."""
    return visible(text) or EMPTY


def short_range(field: ConfigField) -> str:
    """The allowed values in as few words as will do."""
    if field.choices:
        return " · ".join([*field.choices, *filter(None, [field.others_help])])
    if field.kind == "boolean":
        return "true · false"
    return field.range_text


def explanation(path: str, state: DraftState) -> Content:
    """All about one setting: help, range, default and the origin's value."""
    field = find_field(path)
    assert field is not None
    facts = [short_range(field)] if short_range(field) else []
    default = shown(write_text(field, field.default))
    facts.append(f"default {default}")
    origin = shown(state.origin.texts[path])
    if origin != default:
        facts.append(f"{state.origin.name} {origin}")
    return Content.assemble(field.help, "\n", ("   ".join(facts), "$text-muted"))


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
        self.varied: Mapping[str, str] = {}

    def build_lines(self, width: int) -> Sequence[Line]:
        """The rows that the filter lets through, or a hint where there are none."""
        state = self._draft.state
        lines = list(
            form_lines(
                state,
                width,
                words=self.words,
                only_changed=self.only_changed,
                varied=self.varied,
            )
        )
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


class ValueInput(OrderedInput):
    """The field in which a value is typed, laid over its row; not displayed when nothing is.

    Args:
        leave: Called when typing is over, with whether to keep what was typed and by how many rows
            to move on.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave(False, 0)", "Cancel", id="config.cancel"),
        Binding("enter", "leave(True, 0)", "Done", id="config.done"),
        Binding("down,tab", "leave(True, 1)", "Done, next", show=False, id="config.done_down"),
        Binding(
            "up,shift+tab", "leave(True, -1)", "Done, previous", show=False, id="config.done_up"
        ),
    ]

    def __init__(self, leave: Callable[[bool, int], None], *, id: str) -> None:  # noqa: A002
        super().__init__(id=id, compact=True)
        self._leave = leave

    async def on_key(self, event: events.Key) -> None:
        """Pass on what was typed before the focus had moved to the rows."""
        if not self.display:
            event.stop()
            event.prevent_default()
            self.app.post_message(events.Key(event.key, event.character))

    def action_leave(self, keep: bool, then: int) -> None:
        """End typing."""
        self._leave(keep, then)

    def on_blur(self) -> None:
        """A click elsewhere keeps what was typed."""
        if self.display:
            self._leave(True, 0)


class FilterInput(OrderedInput):
    """The field in which a filter is typed."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "clear", "Show all", id="config.show_all"),
        Binding("enter,down,tab", "done", "To the rows", id="config.to_rows"),
    ]

    class Done(Message):
        """The focus goes to the rows."""

    def action_clear(self) -> None:
        """Show all rows."""
        self.value = ""
        self.post_message(self.Done())

    def action_done(self) -> None:
        """Keep the filter."""
        self.post_message(self.Done())


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
