"""The fields of a sampling strategy, checked as one types."""

from pathlib import Path
from typing import Any, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.widgets import Input, Static

from shakespeare_tui.ui.generation import GenerationRequest

_FIELDS = (
    ("max_tokens", "Tokens", "400"),
    ("temperature", "Temperature", "0.8"),
    ("top_k", "Top-k", "0"),
    ("top_p", "Top-p", "1.0"),
    ("repetition_penalty", "Rep. penalty", "1.0"),
    ("seed", "Seed", "42"),
)


class StrategyForm(VerticalScroll, can_focus=False):
    """Prompt and strategy; values are remembered as ``playground.<name>``."""

    DEFAULT_CSS: ClassVar[str] = """
    StrategyForm {
        height: auto;
        border: round $border-blurred;
        border-title-color: $text-muted;
        padding: 0 1;
    }
    StrategyForm:focus-within { border: round $border; border-title-color: $foreground; }
    StrategyForm Horizontal { height: 1; }
    StrategyForm .label { width: 14; color: $text-muted; }
    StrategyForm Input { width: 1fr; }
    StrategyForm Input.-wrong { color: $error; }
    StrategyForm #problem { height: auto; color: $error; display: none; }
    StrategyForm #problem.-shown { display: block; }
    """

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._shown: dict[str, str] = {}

    def compose(self) -> ComposeResult:
        """A row for each field, and a line for what is wrong."""
        places = self.app.settings  # type: ignore[attr-defined]
        rows = (("prompt", "Prompt", "ROMEO:"), *_FIELDS)
        for name, label, default in rows:
            with Horizontal():
                yield Static(label, classes="label", markup=False)
                value = self._shown[name] = places.get(f"playground.{name}", default)
                yield Input(value, id=name, compact=True, select_on_focus=False)
        yield Static("", id="problem", markup=False)

    def on_mount(self) -> None:
        """Name the form."""
        self.border_title = "Strategy"

    @on(Input.Changed)
    def _check(self, event: Input.Changed) -> None:
        event.stop()
        problems = self._problems()
        for name, _, _ in (("prompt", "", ""), *_FIELDS):
            self.query_one(f"#{name}", Input).set_class(name in problems, "-wrong")
        line = self.query_one("#problem", Static)
        line.update(Content("\n".join(problems.values())))
        line.set_class(bool(problems), "-shown")
        if not problems and event.input.id and event.value != self._shown[event.input.id]:
            self._shown[event.input.id] = event.value
            self.app.remember(f"playground.{event.input.id}", event.value)  # type: ignore[attr-defined]

    def _read(self, name: str) -> tuple[Any, str]:
        from shakespeare_tui.core.config_fields import find_field, read_value

        field = find_field(f"sampling.{name}")
        assert field is not None
        value, found = read_value(field, self.query_one(f"#{name}", Input).value)
        return value, found[0].message if found else ""

    def _problems(self) -> dict[str, str]:
        problems = {}
        if not self.prompt:
            problems["prompt"] = "prompt: give at least one character; \\n is a new line"
        for name, label, _ in _FIELDS:
            _, problem = self._read(name)
            if problem:
                problems[name] = f"{label}: {problem}"
        return problems

    @property
    def prompt(self) -> str:
        """The prompt; a backslash and an n have become a new line."""
        return self.query_one("#prompt", Input).value.replace("\\n", "\n")

    def request(self, runs_root: Path, reference: str) -> GenerationRequest | None:
        """What to make; None, with the problem shown, where a field is wrong."""
        problems = self._problems()
        if problems:
            self.query_one(f"#{next(iter(problems))}", Input).focus()
            return None
        values = {name: self._read(name)[0] for name, _, _ in _FIELDS}
        return GenerationRequest(
            runs_root=runs_root, reference=reference, prompt=self.prompt, **values
        )

    def next_seed(self) -> None:
        """Count the seed up."""
        seed, problem = self._read("seed")
        self.query_one("#seed", Input).value = str(0 if problem else seed + 1)
