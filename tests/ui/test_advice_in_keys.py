"""Messages in the lab advise what one can do there: no commands, no options."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import shakespeare_tui
from shakespeare_tui.ui.advice_in_keys import in_lab

BY_COMMANDS = ("cli", "ui", "experiments", "report", "serve")
PACKAGE = Path(shakespeare_tui.__file__).parent
COMMAND_LINE = re.compile(r"(^|[\s(\"'])--[a-z]|shakespeare-tui [a-z]+ ")


def literals(path: Path) -> Iterator[str]:
    """Every text in a module that is no docstring; what is filled in reads X."""
    tree = ast.parse(path.read_text())
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr)
    }
    parts = {
        id(part)
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr)
        for part in node.values
    }
    for node in ast.walk(tree):
        if id(node) in docstrings or id(node) in parts:
            continue
        if isinstance(node, ast.JoinedStr):
            yield "".join(
                str(part.value) if isinstance(part, ast.Constant) else "X" for part in node.values
            )
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def test_no_message_from_below_the_screens_names_a_command_in_the_lab() -> None:
    found = 0
    for path in sorted(PACKAGE.rglob("*.py")):
        inside = path.relative_to(PACKAGE)
        # By commands only: imports, experiments, reports and the server.
        if inside.parts[0] in BY_COMMANDS or "import_model" in inside.stem:
            continue
        for text in literals(path):
            # The options that a program is called with are no message.
            if text.startswith("--") and " " not in text:
                continue
            found += bool(COMMAND_LINE.search(text))
            assert not COMMAND_LINE.search(in_lab(text)), f"{path.name}: {in_lab(text)}"
    assert found >= 10


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("tiny is not at hand; fetch it with: shakespeare-tui data fetch tiny", "(1, then f)"),
        ("it is saved: --resume quick-1", "resume quick-1 on the Checkpoints screen (5, then t)"),
        ("there is no run x; runs here: a, b", "there is no run x; runs here: a, b"),
    ],
)
def test_advice_names_the_place_and_the_key(message: str, shown: str) -> None:
    assert shown in in_lab(message)
