"""Keep the terminal to the screens alone: whatever else would be printed goes to a log file."""

import contextlib
import io
import logging
import os
import selectors
import sys
import threading
from codecs import getincrementaldecoder
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from textual import constants
from textual.drivers.linux_driver import LinuxDriver

from shakespeare_tui.paths import cache_folder
from shakespeare_tui.ui.compat import terminal_parser

_log = logging.getLogger(__name__)
_LARGEST_LOG_BYTES = 1_000_000


class TerminalGuard:
    """Sends file descriptors 1 and 2 to the log while the lab draws on the terminal itself.

    Libraries written in C print there without asking, which would garble the screens.

    Attributes:
        on_lost: Called, from any thread, when the terminal takes no more: its window is closed.
    """

    def __init__(self) -> None:
        self.on_lost: Callable[[], object] = lambda: None
        self._log: IO[bytes] | None = None
        self._saved: tuple[int, int] | None = None

    def _lost(self) -> None:
        self.on_lost()

    @contextlib.contextmanager
    def closed(self) -> Iterator[None]:
        """Guard the terminal for the length of the block."""
        path = log_path()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            is_long = path.is_file() and path.stat().st_size > _LARGEST_LOG_BYTES
            self._log = path.open("wb" if is_long else "ab")
        except OSError:
            self._log = open(os.devnull, "wb")  # noqa: SIM115
        sys.stdout.flush()
        sys.stderr.flush()
        self._saved = (os.dup(1), os.dup(2))
        standard = sys.__stdout__, sys.__stderr__
        # Textual draws on sys.__stderr__ and asks sys.__stdout__ for the terminal's size: give it
        # a way to the terminal that is not guarded.
        screen = _Screen(os.dup(_terminal_descriptor()), self._lost)
        try:
            with screen, _logging_to(self._log), self._log:
                sys.__stdout__ = sys.__stderr__ = screen  # type: ignore[misc]
                self._guard()
                try:
                    yield
                finally:
                    self._release()
        finally:
            sys.__stdout__, sys.__stderr__ = standard  # type: ignore[misc]
            for descriptor in self._saved:
                os.close(descriptor)
            self._log = self._saved = None

    @contextlib.contextmanager
    def opened(self) -> Iterator[None]:
        """Give the terminal back for the length of the block: an editor is to run in it."""
        if self._saved is None:
            yield
            return
        self._release()
        try:
            yield
        finally:
            self._guard()

    def _guard(self) -> None:
        assert self._log is not None
        os.dup2(self._log.fileno(), 1)
        os.dup2(self._log.fileno(), 2)

    def _release(self) -> None:
        assert self._saved is not None
        os.dup2(self._saved[0], 1)
        os.dup2(self._saved[1], 2)


class _Screen(io.TextIOWrapper):
    """The terminal as a file that never fails: a lost one swallows what is drawn."""

    def __init__(self, descriptor: int, lost: Callable[[], object]) -> None:
        super().__init__(os.fdopen(descriptor, "wb"), encoding="utf-8", errors="replace")
        self._tell_lost = lost
        self._is_lost = False

    def write(self, text: str, /) -> int:
        if not self._is_lost:
            with self._losing():
                return super().write(text)
        return len(text)

    def flush(self) -> None:
        if not self._is_lost:
            with self._losing():
                super().flush()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            super().close()

    @contextlib.contextmanager
    def _losing(self) -> Iterator[None]:
        try:
            yield
        except OSError:
            self._is_lost = True
            self._tell_lost()


def log_path() -> Path:
    """Where the lab logs what it does not show."""
    return cache_folder() / "lab.log"


def _terminal_descriptor() -> int:
    return 2 if os.isatty(2) else 1


@contextlib.contextmanager
def _logging_to(file: IO[bytes]) -> Iterator[None]:
    """Send Python's log, its warnings and what threads die of to ``file``."""
    text = os.fdopen(os.dup(file.fileno()), "w", encoding="utf-8", buffering=1)
    handler = logging.StreamHandler(text)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root, hook = logging.getLogger(), threading.excepthook

    def thread_died(arguments: threading.ExceptHookArgs) -> None:
        name = arguments.thread.name if arguments.thread else "?"
        failure = arguments.exc_value
        _log.error("thread %s died", name, exc_info=failure or True)

    root.addHandler(handler)
    logging.captureWarnings(True)
    threading.excepthook = thread_died
    try:
        yield
    finally:
        threading.excepthook = hook
        logging.captureWarnings(False)
        root.removeHandler(handler)
        text.close()


_ESCAPE = "\x1b"
_SECONDS_BETWEEN_LOOKS = 0.1
_MOST_BYTES = 4096


class PromptDriver(LinuxDriver):
    """Textual's driver, which looks for the end of a sequence only every 100 ms.

    An escape is a key of its own when nothing follows it for ``ESCDELAY`` milliseconds. This one
    looks again just then.
    """

    def run_input_thread(self) -> None:
        """Read until the app leaves or the terminal is gone."""
        parser = terminal_parser(self)
        decode = getincrementaldecoder("utf-8")("replace").decode
        patience = _SECONDS_BETWEEN_LOOKS
        # Of all selectors, only this one knows terminals on macOS.
        with selectors.SelectSelector() as selector:
            selector.register(self.fileno, selectors.EVENT_READ)
            while not self.exit_event.is_set():
                text = ""
                if selector.select(patience):
                    data = os.read(self.fileno, _MOST_BYTES)
                    if not data:
                        return
                    text = decode(data)
                    for message in parser.feed(text):
                        self.process_message(message)
                for message in parser.tick():
                    self.process_message(message)
                is_escape = text.endswith(_ESCAPE)
                patience = constants.ESCAPE_DELAY if is_escape else _SECONDS_BETWEEN_LOOKS
