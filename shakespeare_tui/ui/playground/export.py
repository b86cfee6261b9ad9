"""Written texts as files: plain text, JSON and Markdown, told apart by the file's ending."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shakespeare_tui.errors import RunFailedError, UserError
from shakespeare_tui.files import write_output_file

if TYPE_CHECKING:
    from shakespeare_tui.measures import Measures
    from shakespeare_tui.ui.app import LabApp


@dataclass(frozen=True, kw_only=True)
class WrittenText:
    """One text with what it came from.

    Attributes:
        checkpoint: ``RUN@STEP``; empty where no model wrote it.
        strategy: The strategy as text; empty where no model wrote it.
        settings: Its values by name, with the seed.
        prompt: What was given.
        text: What followed.
        measures: By name, as ``Measures.as_json`` gives them; empty where nothing was measured.
    """

    checkpoint: str
    strategy: str
    settings: dict[str, Any]
    prompt: str
    text: str
    measures: dict[str, Any] = field(default_factory=dict)


def written_text(
    *,
    checkpoint: str,
    strategy: str,
    seed: int,
    text: str,
    prompt_length: int,
    measures: "Measures | None",
) -> WrittenText:
    """A text whose first ``prompt_length`` characters were given."""
    from shakespeare_tui.sampling import parse_strategy

    settings = {**parse_strategy(strategy).parameters, "seed": seed} if strategy else {}
    return WrittenText(
        checkpoint=checkpoint,
        strategy=strategy,
        settings=settings,
        prompt=text[:prompt_length],
        text=text[prompt_length:],
        measures=measures.as_json() if measures else {},
    )


def plain_text(texts: Sequence[WrittenText]) -> str:
    """One text as it is; several with a line above each that says what it is."""
    if len(texts) == 1:
        return _ended(texts[0].prompt + texts[0].text)
    parts = [f"=== {_title(each)} ===\n{_ended(each.prompt + each.text)}" for each in texts]
    return "\n".join(parts)


def json_text(texts: Sequence[WrittenText]) -> str:
    """``{"columns": [{checkpoint, strategy, settings, prompt, text, measures}, …]}``."""
    columns = [
        {
            "checkpoint": each.checkpoint,
            "strategy": each.strategy,
            "settings": each.settings,
            "prompt": each.prompt,
            "text": each.text,
            "measures": each.measures,
        }
        for each in texts
    ]
    return json.dumps({"columns": columns}, ensure_ascii=False, indent=2) + "\n"


def markdown_text(texts: Sequence[WrittenText]) -> str:
    """A section a text: the text in a fence of its own, and its single-valued measures below."""
    parts = []
    for each in texts:
        whole = each.prompt + each.text
        fence = _fence(whole)
        rows = [
            f"| {name} | {_cell(value)} |"
            for name, value in each.measures.items()
            if value is None or isinstance(value, int | float)
        ]
        table = ["", "| measure | value |", "| --- | ---: |", *rows] if rows else []
        settings = ", ".join(f"{name}={value}" for name, value in each.settings.items())
        about = ["", settings] if settings else []
        lines = [f"## {_title(each)}", *about, "", f"{fence}text", _ended(whole) + fence, *table]
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def _title(text: WrittenText) -> str:
    return " · ".join(part for part in (text.checkpoint, text.strategy) if part) or "text"


def _ended(text: str) -> str:
    return text if text.endswith("\n") else text + "\n"


def _fence(text: str) -> str:
    """Backticks that the text itself does not have so many of in a row."""
    fence = "```"
    while fence in text:
        fence += "`"
    return fence


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


_FORMATS = {".md": markdown_text, ".txt": plain_text, ".json": json_text}
"""By the ending of a file; the first is offered where none is given."""


def export_texts(path: Path, texts: Sequence[WrittenText]) -> None:
    """Write texts in the format that the file's ending names; an existing file is replaced.

    Raises:
        UserError: The ending is unknown, or the file must not be written.
        RunFailedError: It cannot be.
    """
    make = _FORMATS.get(path.suffix.lower())
    if make is None:
        raise UserError(f"{path.name}: the ending must be .txt, .md or .json")
    write_output_file(path, make(texts))


def ask_path(lab: "LabApp", title: str, name: str, take: Callable[[Path], None]) -> None:
    """Ask where a file of texts goes; its ending decides the format."""
    from shakespeare_tui.ui.widgets.path_dialog import PathDialog

    dialog = PathDialog(
        f"{title} to .md, .txt or .json",
        name,
        is_saving=True,
        suffixes=tuple(_FORMATS),
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
