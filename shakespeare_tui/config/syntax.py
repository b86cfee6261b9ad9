"""Read YAML into a plain tree that knows its lines, and refuse what a config has no use for.

Nothing is ever constructed from tags, and anchors, aliases and deep nesting are refused, so that a
hostile file can neither run code nor grow in memory.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NoReturn

import yaml

from shakespeare_tui.config.problems import ConfigError, Problem, show_name

_DEEPEST = 8
_NULLS = {"", "~", "null", "Null", "NULL"}

# What the parser says, and what it means to somebody who wrote a config.
_EXPLANATIONS = (
    ("character '\\t' that cannot start", "a tab; use spaces"),
    ("mapping values are not allowed", "unexpected ':'; check the indentation, or quote the text"),
    ("could not find expected ':'", "a key needs a ':' and a space after it"),
    ("expected <block end>", "the indentation does not fit the lines above"),
    ("expected ',' or ']'", "the list is not closed; a ',' or ']' is missing"),
    ("expected ',' or '}'", "the mapping is not closed; a ',' or '}' is missing"),
    ("unexpected end of stream", "the quoted text is not closed"),
    ("unknown escape character", "unknown escape after '\\'; use single quotes or double the '\\'"),
    ("sequence entries are not allowed", "a '-' list must start on its own line"),
    ("expected the node content", "a value is missing, or a bracket or comma is too many"),
    ("cannot start any token", "this character cannot start a value; put the value in quotes"),
)


@dataclass(frozen=True)
class Scalar:
    """A single value as written; None for an empty or ``null`` one."""

    text: str | None
    line: int
    is_quoted: bool = False


@dataclass(frozen=True)
class Sequence:
    """A list."""

    items: tuple["Node", ...]
    line: int


@dataclass(frozen=True)
class Entry:
    """A key with its value."""

    key: str
    node: "Node"
    line: int


@dataclass(frozen=True)
class Mapping:
    """Keys with values, in order; a key may occur more than once."""

    entries: tuple[Entry, ...]
    line: int


Node = Scalar | Sequence | Mapping


# Presets and the configs of runs are read again and again; to parse one takes 20 ms.
@lru_cache(maxsize=64)
def read_tree(text: str, source: str, *, lines: bool = True) -> Node:
    """Parse one YAML document; an empty one is an empty scalar.

    Args:
        text: The document.
        source: Its name in messages.
        lines: Whether messages give the line.

    Raises:
        ConfigError: It is not YAML, or uses tags, anchors, or several documents.
    """
    return _Reader(text, source, lines).document()


def plain(node: Node) -> Any:
    """The node as Python values: None, str, list and dict."""
    if isinstance(node, Scalar):
        return node.text
    if isinstance(node, Sequence):
        return [plain(item) for item in node.items]
    return {entry.key: plain(entry.node) for entry in node.entries}


class _Reader:
    """Build the tree from the parser's events."""

    def __init__(self, text: str, source: str, lines: bool) -> None:
        self._text = text
        self._source = source
        self._lines = lines
        self._events: Iterator[Any] = iter(())

    def document(self) -> Node:
        """The one document of the text."""
        # Events are taken one by one, so that what is refused ends the parsing there and then.
        self._events = yaml.parse(self._text, Loader=yaml.SafeLoader)
        try:
            return self._only_document()
        except yaml.reader.ReaderError as error:
            line = self._text.count("\n", 0, error.position) + 1
            self._refuse(line, f"the character U+{error.character:04X} is not allowed in YAML")
        except yaml.MarkedYAMLError as error:
            self._refuse_syntax(error)

    def _only_document(self) -> Node:
        found: Node | None = None
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                if found is not None:
                    self._refuse(_line(event), "a second document starts here; remove the '---'")
                found = self._node(next(self._events), 0)
        return found or Scalar(None, 1)

    def _node(self, event: Any, depth: int) -> Node:
        line = _line(event)
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            self._refuse(line, "anchors (&) and aliases (*) are not allowed; write the value out")
        if event.tag is not None:
            tag = show_name(event.tag.replace("tag:yaml.org,2002:", "!!"))
            self._refuse(line, f"the tag {tag} is not allowed; write the plain value")
        if depth > _DEEPEST:
            self._refuse(line, "too many levels; a config is sections with keys")
        if isinstance(event, yaml.ScalarEvent):
            is_quoted = event.style is not None
            is_empty = not is_quoted and event.value in _NULLS
            return Scalar(None if is_empty else event.value, line, is_quoted)
        if isinstance(event, yaml.SequenceStartEvent):
            items = []
            while not isinstance(inner := next(self._events), yaml.SequenceEndEvent):
                items.append(self._node(inner, depth + 1))
            return Sequence(tuple(items), line)
        entries = []
        while not isinstance(inner := next(self._events), yaml.MappingEndEvent):
            key = self._node(inner, depth + 1)
            if not isinstance(key, Scalar):
                self._refuse(key.line, "a key must be a plain word")
            value = self._node(next(self._events), depth + 1)
            entries.append(Entry(key.text or "", value, key.line))
        return Mapping(tuple(entries), line)

    def _refuse_syntax(self, error: yaml.MarkedYAMLError) -> NoReturn:
        problem = error.problem or "not valid YAML"
        mark = error.problem_mark or error.context_mark
        # Where something was opened and never closed, the parser stops far below it.
        if error.context_mark and ("expected ':'" in problem or "end of stream" in problem):
            mark = error.context_mark
        line = mark.line + 1 if mark else 1
        rows = self._text.splitlines()
        row = rows[line - 1] if line <= len(rows) else ""
        above = rows[line - 2].strip() if line > 1 else ""
        if "\t" in row[: len(row) - len(row.lstrip())]:
            self._refuse(line, "a tab in the indentation; use spaces")
        if "mapping values" in problem and above and not re.search(r":(\s|$)|^#", above):
            self._refuse(line - 1, "a key needs a ':' and a space after it")
        for theirs, ours in _EXPLANATIONS:
            if theirs in problem:
                problem = ours
                break
        if error.context_mark and "not closed" in problem and self._lines:
            problem += f" (opened on line {error.context_mark.line + 1})"
        self._refuse(line, problem)

    def _refuse(self, line: int, message: str) -> NoReturn:
        raise ConfigError([Problem(self._source, line if self._lines else None, "", message)])


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1
