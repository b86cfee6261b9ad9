"""Ask for the path of one's own text, completing it as it is typed."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from shakespeare_tui.errors import UserError
from shakespeare_tui.formatting import format_bytes
from shakespeare_tui.ui.jobs import Job, Jobs
from shakespeare_tui.ui.lab_screen import Dialog
from shakespeare_tui.ui.widgets.inputs import OrderedInput
from shakespeare_tui.ui.widgets.path_dialog import (
    PathSuggestion,
    common_start,
    complete_path,
)

_HINT = "tab completes · ↓↑ choose · enter accepts a file, or a folder of text files"


@dataclass(frozen=True)
class _Completed:
    typed: str
    suggestions: tuple[PathSuggestion, ...]


class PathField(OrderedInput):
    """The field, whose keys are obeyed in the order in which they are typed."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("tab", "screen.complete", "Complete", id="import.complete"),
        Binding("down", "screen.highlight(1)", "Next", show=False, id="import.next"),
        Binding("up", "screen.highlight(-1)", "Previous", show=False, id="import.previous"),
    ]


class CorpusImport(Dialog[str | None]):
    """A field for a path; gives the absolute path of a text that is there, or None."""

    DEFAULT_CSS: ClassVar[str] = """
    CorpusImport { align: center middle; background: $background 60%; }
    CorpusImport > Vertical {
        width: 76;
        max-width: 100%;
        height: auto;
        max-height: 100%;
        padding: 0 1;
        background: $surface;
        border: round $border;
        border-title-color: $foreground;
        border-subtitle-color: $text-muted;
    }
    CorpusImport Input { background: $panel; }
    CorpusImport OptionList {
        height: 10;
        border: none;
        margin-top: 1;
        padding: 0;
        background: $surface;
        background-tint: $foreground 0%;
    }
    CorpusImport OptionList > .option-list--option-highlighted {
        background: $block-cursor-background;
    }
    CorpusImport #import-line { height: auto; margin-top: 1; color: $text-muted; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Close", id="import.close"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._jobs = Jobs(self)
        self._found = _Completed("", ())
        self._awaited: list[Callable[[], object]] = []
        """What was asked for before the suggestions for what is typed were known."""

    def compose(self) -> ComposeResult:
        """The field, what it may become, and a line of advice."""
        with Vertical() as frame:
            frame.border_title = "Import a text"
            frame.border_subtitle = "esc closes"
            yield PathField(placeholder="path of a text file or folder", id="path", compact=True)
            suggestions = OptionList(id="suggestions")
            suggestions.can_focus = False
            yield suggestions
            yield Static(_HINT, id="import-line", markup=False)

    def on_mount(self) -> None:
        """Begin with what is in the working folder."""
        self.query_one(Input).focus()
        self._complete("")

    # --- suggestions ---------------------------------------------------------------------------

    def on_unmount(self) -> None:
        self._jobs.close()

    def _complete(self, typed: str) -> None:
        from shakespeare_tui.data.source import TEXT_SUFFIXES

        self._jobs.start(
            "complete",
            lambda job: _Completed(typed, complete_path(typed, TEXT_SUFFIXES)),
            self._show_suggestions,
        )

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        self._advise("")
        self._complete(event.value)

    def _show_suggestions(self, job: Job[_Completed]) -> None:
        # An answer that comes late is about something that is typed no more.
        if job.result is None or job.result.typed != self._field.value:
            return
        self._found = job.result
        options = self.query_one(OptionList)
        options.set_options(Option(_prompt(item)) for item in self._found.suggestions)
        options.highlighted = None
        self._act()

    def _when_found(self, act: Callable[[], object]) -> None:
        """Act as soon as the suggestions are those for what is typed."""
        self._awaited.append(act)
        self._act()

    def _act(self) -> None:
        while self._awaited and self._found.typed == self._field.value:
            self._awaited.pop(0)()

    @property
    def _field(self) -> Input:
        return self.query_one("#path", Input)

    @property
    def _highlighted(self) -> PathSuggestion | None:
        place = self.query_one(OptionList).highlighted
        suggestions = self._found.suggestions
        return None if place is None or place >= len(suggestions) else suggestions[place]

    def _type(self, text: str) -> None:
        self._field.value = text
        self._field.cursor_position = len(text)

    def action_complete(self) -> None:
        """Complete as far as there is no choice; or take what is highlighted."""
        self._when_found(self._complete_found)

    def _complete_found(self) -> None:
        chosen, found = self._highlighted, self._found
        self._type(chosen.text if chosen else common_start(found.typed, found.suggestions))

    def action_highlight(self, direction: int) -> None:
        """Choose among the suggestions while the field keeps the focus."""
        options = self.query_one(OptionList)
        if options.option_count:
            before = options.highlighted
            first = 0 if direction > 0 else options.option_count - 1
            options.highlighted = (
                first if before is None else (before + direction) % options.option_count
            )

    @on(OptionList.OptionSelected)
    def _clicked(self, event: OptionList.OptionSelected) -> None:
        self._take(self._found.suggestions[event.option_index])

    # --- the choice ----------------------------------------------------------------------------

    @on(Input.Submitted)
    def _submitted(self) -> None:
        self._when_found(self._take_found)

    def _take_found(self) -> None:
        """Take what is highlighted, what is typed in full, or the only thing it can become."""
        typed, suggestions = self._field.value.strip(), self._found.suggestions
        chosen = self._highlighted
        if chosen is None and len(suggestions) == 1 and suggestions[0].text.rstrip(os.sep) != typed:
            chosen = suggestions[0]
        if chosen is not None:
            self._take(chosen)
        elif typed:
            self._check(typed)

    def _take(self, suggestion: PathSuggestion) -> None:
        self._type(suggestion.text)
        if not suggestion.is_folder:
            self._check(suggestion.text)

    def _check(self, typed: str) -> None:
        self._jobs.start("check", lambda job: _absolute(typed), self._checked)

    def _checked(self, job: Job[str]) -> None:
        if job.result is not None:
            self.dismiss(job.result)
        else:
            self._advise(job.error)

    def _advise(self, problem: str) -> None:
        line = self.query_one("#import-line", Static)
        line.update(Content.styled(problem, "$error") if problem else _HINT)

    def action_leave(self) -> None:
        """Import nothing."""
        self.dismiss(None)


def _absolute(typed: str) -> str:
    """The absolute path of a text, never the name of a corpus from the catalogue.

    Raises:
        UserError: There is no text of that path.
    """
    from shakespeare_tui.data.source import locate_corpus

    try:
        path = str(Path(typed).expanduser().absolute())
        if not os.path.lexists(path):
            raise UserError(f"there is no file or folder {typed}; tab completes what there is")
        if _is_model(Path(path)):
            raise UserError(
                f"{typed} is a model and no text; in a shell, shakespeare-tui import {typed} makes "
                "a run of it"
            )
        locate_corpus(path)
    except (RuntimeError, ValueError) as error:
        raise UserError(f"{typed} is no path: {error}") from None
    return path


def _is_model(path: Path) -> bool:
    """Whether it is a file of weights, or a folder as the hub's."""
    weights = (".gguf", ".safetensors")
    if (path / "config.json").is_file():
        return any(file.suffix in (*weights, ".bin") for file in path.iterdir())
    return path.suffix.lower() in weights


def _prompt(item: PathSuggestion) -> Content:
    if item.is_folder:
        return Content.styled(item.text, "bold")
    size = "" if item.size_bytes is None else format_bytes(item.size_bytes)
    return Content.assemble(item.text, (f"  {size}", "$text-muted"))
