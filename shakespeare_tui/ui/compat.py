"""What the lab uses of Textual's private parts; nothing else in it touches any.

Written for the version that ``pyproject.toml`` pins. When that moves, check what each function
names; ``tests/ui/test_compat.py`` fails where one of them no longer does its work.
"""

import logging
from typing import TYPE_CHECKING, Any, TypeVar

from textual.app import App

if TYPE_CHECKING:
    from textual._xterm_parser import XTermParser
    from textual.driver import Driver

_log = logging.getLogger(__name__)
_AppType = TypeVar("_AppType", bound=type[App[Any]])


def terminal_parser(driver: "Driver") -> "XTermParser":
    """A parser from what a terminal sends to events.

    Textual makes one inside of ``LinuxDriver.run_input_thread``, with no way to change how long
    that waits. Check that method, the parser's ``feed`` and ``tick``, and ``Driver._debug``.
    """
    from textual._xterm_parser import XTermParser

    return XTermParser(driver._debug)


def forgiving_while_leaving(app_type: _AppType) -> _AppType:
    """Decorate an app so that errors after ``exit`` are logged and change nothing.

    While leaving, screens are taken apart, some before they were whole: what cannot find its
    widgets then is no reason to end otherwise than asked. Check that unhandled errors still come to
    ``App._handle_exception``, and that ``return_code`` is None until the app exits.
    """
    usual = app_type._handle_exception

    def handle(app: App[Any], error: Exception) -> None:
        if app.return_code is None:
            usual(app, error)
        else:
            _log.debug("while leaving", exc_info=error)

    app_type._handle_exception = handle  # type: ignore[method-assign, assignment]
    return app_type
