"""From the Playground to files: what is exported, and the question where to."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shakespeare_tui.errors import RunFailedError, UserError
from shakespeare_tui.ui.playground.files import SUFFIXES, WrittenText, export_texts

if TYPE_CHECKING:
    from shakespeare_tui.ui.app import LabApp
    from shakespeare_tui.ui.playground.columns_strip import ColumnsStrip
    from shakespeare_tui.ui.playground.reading_view import ReadingView
    from shakespeare_tui.ui.playground.screen import PlaygroundScreen


def column_texts(strip: "ColumnsStrip", place: "PlaygroundScreen") -> list[WrittenText]:
    """The columns that have a text."""
    written = place.written
    if written is None:
        return []
    return [
        WrittenText(
            checkpoint=written.reference,
            strategy=column.written_with,
            settings=_settings(column.written_with, written.seed),
            prompt=column.stream.text[: column.stream.prompt_length],
            text=column.stream.text[column.stream.prompt_length :],
            measures=column.measures.as_json() if column.measures else {},
        )
        for column in strip.columns
        if column.stream.text
    ]


def branch_texts(view: "ReadingView", seed: int) -> list[WrittenText]:
    """The text that is read and all its branches."""
    texts = []
    for _, branch in view.branches.rows():
        scored = view.scores.get(branch.number)
        texts.append(
            WrittenText(
                checkpoint=view.reference,
                strategy=branch.strategy,
                settings=_settings(branch.strategy, seed),
                prompt=branch.text[: branch.prompt_length],
                text=branch.text[branch.prompt_length :],
                measures=scored.measures.as_json() if scored else {},
            )
        )
    return texts


def _settings(strategy: str, seed: int) -> dict[str, Any]:
    from shakespeare_tui.sampling import parse_strategy

    return {**parse_strategy(strategy).parameters, "seed": seed} if strategy else {}


def ask_path(lab: "LabApp", title: str, name: str, take: Callable[[Path], None]) -> None:
    """Ask where a file of texts goes; its ending decides the format."""
    from shakespeare_tui.ui.widgets.path_dialog import PathDialog

    dialog = PathDialog(
        f"{title} to .md, .txt or .json",
        name,
        is_saving=True,
        suffixes=(".md", *(suffix for suffix in SUFFIXES if suffix != ".md")),
        placeholder="path of a .md, .txt or .json file",
    )
    lab.push_screen(dialog, lambda path: take(path) if path is not None else None)


def ask_and_export(lab: "LabApp", texts: Sequence[WrittenText], name: str) -> None:
    """Ask for a file and write the texts."""

    def export(path: Path) -> None:
        try:
            export_texts(path, texts)
        except (UserError, RunFailedError) as error:
            lab.say(str(error), is_error=True)
        else:
            n = len(texts)
            lab.say(f"{n} text{'s are' if n > 1 else ' is'} in {path}")

    ask_path(lab, "Export", name, export)
