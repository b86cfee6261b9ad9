"""The small language that narrows the list of checkpoints: ``val<1.6 d_model=384 corpus:tiny``.

Terms are separated by blanks, and all must hold; ``or`` separates alternatives, of which one must.
A term is ``NAME OPERATOR VALUE`` without blanks, or a word, which must occur in the run's name,
note or corpus. ``-`` before a term negates it, quotes keep blanks together. Operators:
``<  <=  >  >=  =  !=``, and ``:`` for "contains". Names are those of the columns and settings, in
capitals or not.
"""

import math
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass

from shakespeare_tui.config.problems import nearest
from shakespeare_tui.errors import UserError
from shakespeare_tui.runs.compare.items import (
    FIGURES,
    CheckpointItem,
    Figure,
    FigureKind,
    Value,
    config_figures,
)

_TERMS = re.compile(r'(?:[^\s"]|"[^"]*"?)+')
_TERM = re.compile(r"([A-Za-z_][A-Za-z0-9_.]*)(<=|>=|!=|<|>|=|:)(.*)", re.DOTALL)
_NUMBER = re.compile(r"([-+]?(?:\d[\d_]*)?(?:\.(\d*))?(?:[eE][-+]?\d+)?)([A-Za-zµ%]*)")
_OTHER_NAMES = {
    "perplexity": "ppl",
    "val_loss": "val",
    "loss": "val",
    "bits_per_byte": "bits",
    "train_loss": "train",
    "parameters": "params",
    "name": "run",
    "from": "parent",
    "rating": "elo",
    "mark": "is",
    "perpl": "ppl",
    "acc": "accuracy",
    "lr": "learning_rate",
    "batch": "batch_size",
    "layers": "n_layers",
    "heads": "n_heads",
    "width": "d_model",
    "context": "max_seq_len",
}
_ALTERNATIVE, _JUNCTIONS = "or", ("or", "and")
_SCALES: dict[FigureKind, dict[str, float]] = {
    "share": {"": 1, "%": 0.01},
    "count": {"": 1, "k": 1e3, "m": 1e6, "g": 1e9, "b": 1e9},
    "bytes": {"": 1, "b": 1, "k": 1e3, "kb": 1e3, "m": 1e6, "mb": 1e6, "g": 1e9, "gb": 1e9},
    "age": {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800},
}
_ORDERS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_MARKS = ("best", "last", "damaged")

Test = Callable[[CheckpointItem, float], bool]


@dataclass(frozen=True)
class Query:
    """A condition on checkpoints; ``reads_configs`` tells whether it needs the runs' settings."""

    text: str
    alternatives: tuple[tuple[Test, ...], ...] = ((),)
    reads_configs: bool = False

    def matches(self, item: CheckpointItem, now: float) -> bool:
        """Whether a checkpoint is to be shown; ``now`` in Unix seconds."""
        return any(all(test(item, now) for test in tests) for tests in self.alternatives)


def parse_query(text: str) -> Query:
    """Read a query; blank text lets everything through.

    Raises:
        UserError: What is wrong with the first term that is, in one line.
    """
    alternatives: list[list[Test]] = [[]]
    reads_configs = False
    junction = ""
    for term in _TERMS.findall(text):
        if term.lower() in _JUNCTIONS:
            if junction or not alternatives[-1]:
                raise UserError(f"{term} needs a condition before it, such as val<2")
            junction = term
            if term.lower() == _ALTERNATIVE:
                alternatives.append([])
            continue
        is_turned = term[0] in "-!" and len(term) > 1
        test, is_config = _term(term[1:] if is_turned else term)
        reads_configs |= is_config
        alternatives[-1].append(_turned(test) if is_turned else test)
        junction = ""
    if junction:
        raise UserError(f"{junction} needs a condition after it, such as val<2")
    return Query(text, tuple(map(tuple, alternatives)), reads_configs)


def sort_name(name: str) -> str:
    """The figure of ``FIGURES`` that a name means, for sorting.

    Raises:
        UserError: There is none.
    """
    known = _OTHER_NAMES.get(name.lower(), name.lower())
    if known in FIGURES:
        return known
    found = nearest(name, [*FIGURES, *_OTHER_NAMES])
    hint = f"did you mean {found}?" if found else f"there are {', '.join(FIGURES)}"
    raise UserError(f"nothing to sort by is called {name}; {hint}")


def without_begun_name(text: str) -> str | None:
    """A query without its last word, where that may be the beginning of a name still being typed.

    Returns:
        None where the query does not end so.
    """
    terms = _TERMS.findall(text)
    if not terms or text[-1].isspace() or not terms[-1].lstrip("-!").isidentifier():
        return None
    begun = terms[-1].lstrip("-!").lower()
    names = (*FIGURES, *config_figures(), *_OTHER_NAMES)
    is_name = any(name.startswith(begun) for name in names)
    return text[: len(text) - len(terms[-1])] if is_name else None


def _turned(test: Test) -> Test:
    return lambda item, now: not test(item, now)


def _term(term: str) -> tuple[Test, bool]:
    match = _TERM.fullmatch(term)
    if match is None:
        return _word(_plain(term)), False
    name, sign, value = match[1], match[2], _plain(match[3])
    figure = _figure(name)
    if not value:
        raise UserError(f"{name}{sign} needs a value, such as {_example(figure, name)}")
    is_config = figure.kind == "config"
    if figure.kind == "text":
        return _text_test(figure, name, sign, value), is_config
    if is_config:
        return _config_test(figure, sign, value), is_config
    return _number_test(figure, name, sign, value), is_config


def _plain(text: str) -> str:
    return text.replace('"', "")


def _word(word: str) -> Test:
    word = word.lower()

    def test(item: CheckpointItem, now: float) -> bool:
        corpus = item.run.info.corpus if item.run.info else ""
        return any(word in text.lower() for text in (item.run.name, item.run.notes.note, corpus))

    return test


def _figure(name: str) -> Figure:
    written = name
    # The header of the table shortens: Perpl.
    name = name.lower().rstrip(".")
    name = _OTHER_NAMES.get(name, name)
    figures = {**config_figures(), **FIGURES}
    if name in figures:
        return figures[name]
    found = nearest(name, [*figures, *_OTHER_NAMES])
    hint = f"did you mean {found}?" if found else f"there are {', '.join(FIGURES)} and all settings"
    raise UserError(f"nothing is called {written}; {hint}")


def _example(figure: Figure, name: str) -> str:
    if name == "is":
        return "is:best"
    return f"{name}:tiny" if figure.kind == "text" else f"{name}<2"


def _text_test(figure: Figure, name: str, sign: str, value: str) -> Test:
    if sign in _ORDERS:
        raise UserError(f"{name} is a text: write {name}:{value} or {name}={value}")
    wanted = value.lower()
    if figure.name == "is" and not any(mark.startswith(wanted) for mark in _MARKS):
        raise UserError(f"is: takes best, last or damaged, not {value}")

    def test(item: CheckpointItem, now: float) -> bool:
        found = str(figure.value(item, now) or "").lower()
        if sign == ":" or figure.name == "is":
            return (wanted in found) is (sign != "!=")
        return (found == wanted) is (sign == "=")

    return test


def _config_test(figure: Figure, sign: str, value: str) -> Test:
    number = _float(value)
    if sign in _ORDERS and number is None:
        raise UserError(f"{figure.name}{sign} needs a number, not {value}")

    def test(item: CheckpointItem, now: float) -> bool:
        found = figure.value(item, now)
        if found is None:
            return False
        theirs = _float(found)
        if sign in _ORDERS:
            return theirs is not None and number is not None and _ORDERS[sign](theirs, number)
        if sign == ":" and number is None:
            return value.lower() in str(found).lower()
        if number is not None and theirs is not None:
            is_equal = math.isclose(theirs, number, rel_tol=1e-9)
        else:
            is_equal = str(found).lower() == value.lower()
        return is_equal is (sign != "!=")

    return test


def _float(value: Value) -> float | None:
    try:
        return float(value) if value is not None else None
    except ValueError:
        return None


def _number_test(figure: Figure, name: str, sign: str, value: str) -> Test:
    number, unit = _number(figure, name, sign, value)

    def test(item: CheckpointItem, now: float) -> bool:
        found = figure.value(item, now)
        if not isinstance(found, int | float):
            return False
        if sign in _ORDERS:
            return _ORDERS[sign](found, number)
        # 1.54 stands for everything that is shown so.
        is_equal = abs(found - number) <= unit / 2
        return is_equal is (sign != "!=")

    return test


def _number(figure: Figure, name: str, sign: str, value: str) -> tuple[float, float]:
    """A number as typed, and what its last digit counts; counts are taken exactly."""
    match = _NUMBER.fullmatch(value)
    scales = _SCALES.get(figure.kind, {"": 1.0})
    scale = scales.get(match[3].lower()) if match else None
    number = _float(match[1]) if match else None
    if match is None or number is None or not math.isfinite(number):
        raise UserError(f"{name}{sign} needs a number, not {value}")
    if scale is None:
        units = [unit for unit in scales if unit]
        hint = f"units are {', '.join(units)}" if units else "it has no unit"
        raise UserError(f"{value}: {match[3]} is no unit of {name}; {hint}")
    if figure.kind == "share" and number * scale > 1:
        raise UserError(f"{value}: {name} is a share of 1; write 54% or 0.54")
    digits = len(match[2] or "")
    unit = 0.0 if figure.kind == "count" else 10.0**-digits * scale
    return number * scale, unit
