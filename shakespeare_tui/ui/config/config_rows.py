"""The form's lines: what a row says of a setting at a given width."""

import re
from collections.abc import Iterator, Sequence
from textwrap import wrap

from rich.cells import cell_len, set_cell_size
from textual.content import Content

from shakespeare_tui.config.config_draft_state import DraftState, effective_text
from shakespeare_tui.config.config_field_text import write_text
from shakespeare_tui.config.fields import ConfigField, config_fields, find_field, section_help
from shakespeare_tui.ui.config.line_list import Line, Part
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
CHANGED, WRONG, EMPTY = "●", "✗", "–"


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
    state: DraftState, width: int, *, words: str = "", only_changed: bool = False
) -> Iterator[Line]:
    """All lines of the form.

    Args:
        state: The draft's present moment.
        width: Cells there are.
        words: Show only the settings that have all of them.
        only_changed: Show only what differs from the origin or is wrong.
    """
    section = ""
    for field in config_fields():
        is_marked = state.is_changed(field.path) or field.path in state.problems
        if not matches(field, words) or (only_changed and not is_marked):
            continue
        if field.section != section:
            if section:
                yield Line(())
            section = field.section
            yield _heading(section, state, width)
        yield _row(field, state, width)
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


def _row(field: ConfigField, state: DraftState, width: int) -> Line:
    is_wrong, is_changed = field.path in state.problems, state.is_changed(field.path)
    mark, mark_style = (WRONG, "error") if is_wrong else (CHANGED, "changed")
    if not is_wrong and not is_changed:
        mark, mark_style = " ", ""
    cells = [value_text(field, state)]
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
        parts.append((fit(text, cell_width) + " ", style))
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
        return " · ".join(field.choices)
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


def fit(text: str, width: int) -> str:
    """``text`` in exactly ``width`` cells; what is cut off is told by an ellipsis."""
    text = visible(text)
    if cell_len(text) <= width or width < 1:
        return set_cell_size(text, width)
    return set_cell_size(text, width - 1) + "…"
