"""Every message of the lab is posted, and below somebody who takes it.

Found in the source: a class holds what it names, so that a screen holds its widgets and they hold
theirs; a message goes up from where it is made to whatever holds that.
"""

import ast
import importlib
import inspect
import pkgutil
import textwrap
from collections.abc import Iterator
from functools import cache

import pytest
from textual.message import Message

from shakespeare_tui import ui

_CLASSES = tuple(
    dict.fromkeys(
        found
        for module in pkgutil.walk_packages(ui.__path__, f"{ui.__name__}.")
        for found in vars(importlib.import_module(module.name)).values()
        if inspect.isclass(found) and found.__module__.startswith(ui.__name__)
    )
)
_NAMES = {found.__name__: found for found in _CLASSES}
_MESSAGES = tuple(
    dict.fromkeys(
        found
        for owner in _CLASSES
        for found in (owner, *vars(owner).values())
        if inspect.isclass(found)
        and issubclass(found, Message)
        and found.__module__.startswith(ui.__name__)
    )
)


def named(node: ast.AST, inside: type) -> object:
    """The class that ``Name``, ``self.Name`` or ``Other.Name`` stands for."""
    if isinstance(node, ast.Name):
        return _NAMES.get(node.id) or getattr(inside, node.id, None)
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        owner = inside if node.value.id == "self" else _NAMES.get(node.value.id)
        return getattr(owner, node.attr, None)
    return None


@cache
def tree(inside: type) -> ast.AST:
    return ast.parse(textwrap.dedent(inspect.getsource(inside)))


@cache
def made(inside: type) -> frozenset[object]:
    """The messages that a class makes."""
    calls = (node.func for node in ast.walk(tree(inside)) if isinstance(node, ast.Call))
    return frozenset(named(call, inside) for call in calls) & frozenset(_MESSAGES)


@cache
def taken(inside: type) -> frozenset[object]:
    """The messages that a class has a handler of."""
    by_name = {message for message in _MESSAGES if message.handler_name in vars(inside)}
    decorators = (
        decorator
        for node in ast.walk(tree(inside))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for decorator in node.decorator_list
        if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "on"
    )
    return frozenset(by_name | {named(decorator.args[0], inside) for decorator in decorators})


@cache
def held(inside: type) -> frozenset[type]:
    """The classes that a class, or what it is made of, names itself."""
    return frozenset(
        found
        for base in inside.__mro__
        if base in _CLASSES
        for node in ast.walk(tree(base))
        if isinstance(node, ast.Name) and (found := _NAMES.get(node.id)) and found is not inside
    )


def all_held(inside: type) -> set[type]:
    """A class, what it is made of, what it holds, what that holds, and so on."""
    found, waiting = set(), [inside]
    while waiting:
        found.add(now := waiting.pop())
        waiting += (held(now) | ({*now.__mro__} & {*_CLASSES})) - found
    return found


def takers(message: type[Message]) -> Iterator[type]:
    """Classes that have a handler, and those made of them."""
    for inside in _CLASSES:
        if any(message in taken(base) for base in inside.__mro__ if base in _CLASSES):
            yield inside


@pytest.mark.parametrize("message", _MESSAGES, ids=lambda message: message.__qualname__)
def test_a_message_is_posted_below_a_handler_of_it(message: type[Message]) -> None:
    makers = {inside for inside in _CLASSES if message in made(inside)}
    assert makers, "nobody posts it"
    for maker in makers:
        assert any(maker in all_held(taker) for taker in takers(message)), (
            f"nobody above {maker.__name__} takes it"
        )


def test_the_messages_are_found() -> None:
    assert len(_MESSAGES) > 10
