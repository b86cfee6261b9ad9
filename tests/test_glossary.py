"""The words of the product: what the glossary rules out occurs nowhere a user can read it."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
GLOSSARY = ROOT / "docs" / "glossary.md"
DOCUMENTS = (
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "configs").glob("*.yaml")),
)
# Where docstrings are help that users read.
DOCUMENTED = ("config/schema.py", "sampling/")


def banned() -> list[str]:
    """The words of the table's third column."""
    rows = [line.split("|") for line in GLOSSARY.read_text(encoding="utf-8").splitlines()]
    start = next(number for number, row in enumerate(rows) if set("".join(row)) == set("- "))
    cells = [row[3] for row in rows[start + 1 :] if len(row) == 5]
    return [word.strip() for cell in cells for word in cell.split(";") if word.strip()]


@cache
def texts() -> list[tuple[str, str]]:
    """Every text that users may read, on one line, with its place."""
    return [(place, " ".join(text.split())) for place, text in _texts()]


def _texts() -> Iterator[tuple[str, str]]:
    for path in DOCUMENTS:
        if path != GLOSSARY:
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                yield f"{path.relative_to(ROOT)}:{number}", line
    package = ROOT / "shakespeare_tui"
    for path in sorted(package.rglob("*.py")):
        name = path.relative_to(package).as_posix()
        tree = ast.parse(path.read_text(encoding="utf-8"))
        remarks = {
            id(node.value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        }
        for node in ast.walk(tree):
            is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
            if is_text and (id(node) not in remarks or name.startswith(DOCUMENTED)):
                yield f"{name}:{node.lineno}", node.value


def test_the_glossary_rules_words_out() -> None:
    assert len(banned()) > 30


@pytest.mark.parametrize("word", banned())
def test_no_text_uses_a_word_that_the_glossary_rules_out(word: str) -> None:
    # A word with a capital is a label: in the middle of a sentence it may mean something else.
    flags = re.IGNORECASE if word.islower() else re.NOFLAG
    pattern = re.compile(rf"(?<![\w-]){re.escape(word)}(?![\w-])", flags)
    found = [f"{place}: {text!r}" for place, text in texts() if pattern.search(text)]
    assert not found, "\n".join(found)
