"""Textual's private parts: used in one module only, and still there."""

import ast
import importlib
import inspect
import pkgutil
import re
from functools import cache

import pytest
from textual.app import App
from textual.dom import DOMNode
from textual.driver import Driver
from textual.drivers.headless_driver import HeadlessDriver
from textual.events import Key
from textual.message_pump import MessagePump
from textual.widgets import Input

from shakespeare_tui import ui
from shakespeare_tui.ui import compat

_MODULES = sorted(
    (
        importlib.import_module(found.name)
        for found in pkgutil.walk_packages(ui.__path__, f"{ui.__name__}.")
        if found.name != compat.__name__
    ),
    key=lambda module: module.__name__,
)


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


@cache
def defined(base: type) -> frozenset[str]:
    """What a class of Textual keeps to itself, attributes of its objects too."""
    names = set(vars(base)) | set(re.findall(r"self\.(_\w+)", inspect.getsource(base)))
    return frozenset(name for name in names if is_private(name))


@cache
def private_names(node_type: type) -> frozenset[str]:
    """What Textual's part of a class keeps to itself."""
    of_textual = (base for base in node_type.__mro__ if base.__module__.startswith("textual."))
    return frozenset[str]().union(*map(defined, of_textual))


def attributes(tree: ast.AST, *, of_self: bool) -> set[str]:
    """The attributes that are read or set, of ``self`` or of all else."""
    return {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and (isinstance(node.value, ast.Name) and node.value.id == "self") is of_self
    }


class TestOneModule:
    @pytest.mark.parametrize("module", _MODULES, ids=lambda module: module.__name__)
    def test_no_other_one_uses_private_parts_of_textual(self, module: object) -> None:
        assert inspect.ismodule(module)
        source = inspect.getsource(module)
        assert not re.search(r"textual(\.\w+)*\._[a-z]", source)
        tree = ast.parse(source)
        of_others = attributes(tree, of_self=False)
        assert of_others & (private_names(DOMNode) | private_names(Driver)) == set()
        for node in ast.walk(tree):
            node_type = vars(module).get(node.name) if isinstance(node, ast.ClassDef) else None
            if node_type is None or not issubclass(node_type, MessagePump | Driver):
                continue
            own = attributes(node, of_self=True) | {
                key
                for key, value in vars(node_type).items()
                if inspect.isfunction(value) and value.__module__ == module.__name__
            }
            assert own & private_names(node_type) == set(), node_type.__name__

    def test_screens_are_seen_by_the_test(self) -> None:
        assert {"_size", "_bindings"} <= private_names(Input)
        assert "_handle_exception" in private_names(App)


@compat.forgiving_while_leaving
class FailingApp(App[int]):
    is_leaving = False

    def on_mount(self) -> None:
        if self.is_leaving:
            self.exit(3)
        raise LookupError


class TestStillThere:
    async def test_a_terminal_is_understood(self) -> None:
        app = App[None]()
        async with app.run_test():
            parser = compat.terminal_parser(HeadlessDriver(app))
            keys = [event.key for event in parser.feed("a\x1b[A") if isinstance(event, Key)]
            assert keys == ["a", "up"]

    async def test_what_fails_while_leaving_does_not_count(self) -> None:
        app = FailingApp()
        app.is_leaving = True
        assert await app.run_async(headless=True) == 3
        assert app.return_code == 0

    async def test_what_fails_before_ends_the_app(self) -> None:
        app = FailingApp()
        assert await app.run_async(headless=True) is None
        assert app.return_code == 1
