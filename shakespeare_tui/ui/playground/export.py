"""Written texts as files: plain text, JSON and Markdown, told apart by the file's ending."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Input, Static, TextArea

from shakespeare_tui.errors import RunFailedError, UserError
from shakespeare_tui.files import read_bounded, reason, write_output_file
from shakespeare_tui.ui.lab_screen import Dialog
from shakespeare_tui.ui.widgets.choice_dialog import FRAME

if TYPE_CHECKING:
    from shakespeare_tui.measures import Measures
    from shakespeare_tui.ui.app import LabApp

SUFFIXES = (".txt", ".md", ".json")


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


def export_texts(path: Path, texts: Sequence[WrittenText]) -> None:
    """Write texts in the format that the file's ending names; an existing file is replaced.

    Raises:
        UserError: The ending is unknown, or the file must not be written.
        RunFailedError: It cannot be.
    """
    formats = {".txt": plain_text, ".md": markdown_text, ".json": json_text}
    make = formats.get(path.suffix.lower())
    if make is None:
        raise UserError(f"{path.name}: the ending must be .txt, .md or .json")
    write_output_file(path, make(texts))


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


_MOST_BYTES = 1_000_000


class OwnTextDialog(Dialog[str | None]):
    """A field for a text and a line for a file; the result is the text, None where it was left."""

    DEFAULT_CSS: ClassVar[str] = (
        FRAME.format(name="OwnTextDialog", width=76)
        + """
    OwnTextDialog TextArea { height: 12; border: none; padding: 0; background: $panel; }
    """
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Cancel", priority=True, id="own_text.leave"),
        Binding("ctrl+s,f2", "take", "Score it", priority=True, id="own_text.take"),
        Binding("tab", "next", "To the path", priority=True, show=False, id="own_text.next"),
    ]

    def compose(self) -> ComposeResult:
        with Vertical() as frame:
            frame.border_title = Content("Paste a text")
            frame.border_subtitle = Content("ctrl+s scores it · tab goes to the path · esc closes")
            yield TextArea()
            yield Input(placeholder="or the path of a text file, then enter", compact=True)
            yield Static("", markup=False)

    def on_mount(self) -> None:
        self.query_one(TextArea).focus()

    def action_next(self) -> None:
        """From the text to the file and back."""
        is_text = self.query_one(TextArea).has_focus
        (self.query_one(Input) if is_text else self.query_one(TextArea)).focus()

    def action_take(self) -> None:
        """Take the text, or the file where there is none."""
        text = self.query_one(TextArea).text
        if len(text) > 1:
            self.dismiss(text)
        elif self.query_one(Input).value.strip():
            self._take_file()
        else:
            self._tell("type or paste at least two characters, or name a file")

    @on(Input.Submitted)
    def _take_file(self) -> None:
        path = Path(self.query_one(Input).value.strip()).expanduser()
        try:
            text = read_bounded(path, _MOST_BYTES).decode()
        except UnicodeDecodeError:
            self._tell(f"{path} is not a UTF-8 text")
        except (OSError, ValueError) as error:
            self._tell(f"{path}: {reason(error)}; take a part of a longer text")
        else:
            self.dismiss(text)

    def _tell(self, text: str) -> None:
        self.query_one(Static).update(Content.styled(text, "$error"))

    def action_leave(self) -> None:
        """Take nothing."""
        self.dismiss(None)
