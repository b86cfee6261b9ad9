"""How a line of the checkpoints' table reads: columns by the room there is, and their cells."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rich.cells import cell_len, set_cell_size

from shakespeare_tui.formatting import (
    format_bytes,
    format_count,
    format_duration,
    format_loss,
    perplexity,
)
from shakespeare_tui.runs.compare.differences import describe_differences, preset_of, preset_texts
from shakespeare_tui.runs.compare.items import CheckpointItem
from shakespeare_tui.runs.run_markers import one_line
from shakespeare_tui.runs.run_state import STATE_LOOKS
from shakespeare_tui.visible_text import visible

Part = tuple[str, str]
"""A text and the name of its style."""

LEAD = 3
"""Cells for the cursor, the mark, and a blank."""
_NAME_SHARE = 0.3
_SMALLEST_NAME = 14


@dataclass(frozen=True)
class TableLine:
    """One line: a run's heading, or a checkpoint."""

    kind: Literal["run", "checkpoint"]
    item: CheckpointItem

    @property
    def key(self) -> str:
        """What tells it from all other lines."""
        return f"{self.item.run.name}@" if self.kind == "run" else self.item.key


@dataclass(frozen=True)
class TableColumn:
    """A column; ``name`` is the figure that it is sorted by."""

    name: str
    title: str
    width: int
    is_right: bool = True


_FIGURES = (
    TableColumn("val", "Val", 7),
    TableColumn("train", "Train", 7),
    TableColumn("ppl", "Perpl.", 7),
    TableColumn("elo", "Elo", 8),
    TableColumn("size", "Size", 8),
    TableColumn("age", "Age", 7),
)
_WIDE_FIGURES = (
    TableColumn("gap", "Gap", 7),
    TableColumn("protocol", "Protocol", 10, False),
)


def columns_for(width: int, longest_name: int) -> tuple[TableColumn, ...]:
    """The columns that fit into ``width`` cells; the last takes what is left."""
    is_wide = width >= 120
    name = TableColumn(
        "run",
        "Checkpoint",
        max(_SMALLEST_NAME, min(longest_name, int(width * _NAME_SHARE))),
        False,
    )
    figures = list(_FIGURES)
    if is_wide:
        figures[2:2] = _WIDE_FIGURES[:1]
        figures.append(_WIDE_FIGURES[1])
    chosen, used = [name], LEAD + name.width
    for figure in figures:
        if used + 1 + figure.width <= width:
            chosen.append(figure)
            used += 1 + figure.width
    left = width - used - 1
    if left >= 4:
        chosen.append(TableColumn("about", "", left, False))
    return tuple(chosen)


def header_parts(
    columns: Sequence[TableColumn], sorted_by: str | None, is_descending: bool
) -> list[Part]:
    """The titles; the one that is sorted by has an arrow."""
    parts: list[Part] = [(" " * LEAD, "header")]
    for number, column in enumerate(columns):
        title = column.title
        is_sorted = column.name == sorted_by
        if is_sorted:
            title = f"{title}{'▼' if is_descending else '▲'}"
        text = fitted(title, column.width, is_right=column.is_right)
        parts.append((" " * (number > 0) + text, "sorted" if is_sorted else "header"))
    return parts


def line_parts(
    line: TableLine, columns: Sequence[TableColumn], *, now: float, is_grouped: bool
) -> list[Part]:
    """A line without what stands before its name."""
    width = sum(column.width + 1 for column in columns) - 1
    if line.kind == "run":
        return run_parts(line.item, width)
    item = line.item
    if item.problem is not None:
        name = _name(item, is_grouped)
        return [(fitted(f"{name}  {one_line(item.problem, 500)}", width), "damaged")]
    parts: list[Part] = []
    for number, column in enumerate(columns):
        text, style = _cell(item, column.name, now, is_grouped)
        text = fitted(text, column.width, is_right=column.is_right)
        parts.append((" " * (number > 0) + text, style))
    return parts


def run_parts(item: CheckpointItem, width: int) -> list[Part]:
    """A run's heading: its name, what became of it, where it came from, what is special in it."""
    run = item.run
    if run.info is None or (run.problem and not run.checkpoints):
        problem = one_line(run.problem or "", 500)
        return [(fitted(f"{run.name}  {problem}", width), "damaged")]
    sign, tone = STATE_LOOKS[run.state]
    facts = [format_count(run.info.parameters), run.info.corpus]
    if item.parent:
        facts.append(f"from {item.parent}")
    if item.config is not None:
        facts.append(settings_text(item))
    parts: list[Part] = [(run.name, "run")]
    if run.problem:
        parts.append((f"  {one_line(run.problem, 200)}", "damaged"))
    else:
        parts.append((f"  {sign} {run.state}", tone))
    if not run.checkpoints:
        parts.append((" · no checkpoint yet", "muted"))
    parts.append((f" · {' · '.join(facts)}", "muted"))
    if run.notes.note:
        parts.append((f"  “{one_line(run.notes.note, 200)}”", "note"))
    return cut(parts, width)


def settings_text(item: CheckpointItem) -> str:
    """The preset that the run began with, and what differs from it."""
    if item.config is None:
        return ""
    preset = preset_of(item.run.name, item.run.former_names, item.config)
    differences = describe_differences(item.config, preset_texts(preset))
    return f"{preset} {differences}".strip()


def cut(parts: Sequence[Part], width: int) -> list[Part]:
    """As much of the parts as fits, filled up with blanks."""
    cut_off: list[Part] = []
    left = width
    for text, style in ((visible(text), style) for text, style in parts):
        fits = fitted(text, left) if cell_len(text) > left else text
        cut_off.append((fits, style))
        left -= cell_len(fits)
    return [*cut_off, (" " * left, "")]


def fitted(text: str, width: int, *, is_right: bool = False) -> str:
    """``text`` in exactly ``width`` cells, with a sign where it was cut off."""
    if width <= 0:
        return ""
    text = visible(text)
    size = cell_len(text)
    if size > width:
        return set_cell_size(text, width - 1) + "…"
    return " " * (width - size) + text if is_right else text + " " * (width - size)


def _name(item: CheckpointItem, is_grouped: bool) -> str:
    checkpoint = item.checkpoint
    if checkpoint is None:
        return item.run.name
    if not is_grouped:
        return item.key
    return f"  {checkpoint.step:,}" if checkpoint.step >= 0 else f"  {checkpoint.name}"


def _cell(item: CheckpointItem, name: str, now: float, is_grouped: bool) -> Part:
    checkpoint = item.checkpoint
    if name == "run":
        return _name(item, is_grouped), "value"
    if checkpoint is None or checkpoint.info is None:
        return "", "muted"
    style = "best" if checkpoint.is_best and name == "val" else "value"
    match name:
        case "val":
            return item.loss.short if item.loss else "-", style
        case "train":
            return format_loss(item.train_loss), "value"
        case "gap":
            return format_loss(item.gap), "value"
        case "ppl":
            figure = perplexity(item.val_loss)
            return "-" if figure is None else f"{figure:.2f}", "value"
        case "elo":
            return str(item.rating) if item.rating else "-", "value" if item.rating else "muted"
        case "size":
            return format_bytes(checkpoint.size_bytes), "muted"
        case "age":
            return format_duration(now - item.time), "muted"
        case "protocol":
            return (item.loss.protocol if item.loss else "") or "-", "muted"
    marks = " ".join(["best"] * checkpoint.is_best + ["last"] * checkpoint.is_last)
    about = "" if is_grouped else settings_text(item)
    return f"{marks} {about}".strip(), "best" if checkpoint.is_best and is_grouped else "muted"
