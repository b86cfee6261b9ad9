"""Open the lab: prepare the terminal, run the app, wait for the trainer, say how to go on."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from shakespeare_tui.cli.console import say

if TYPE_CHECKING:
    import asyncio

    from shakespeare_tui.ui.app import LabApp
    from shakespeare_tui.ui.engine.training import TrainingController

_POLL_SECONDS = 0.1
_MOST_LOADING_SECONDS = 1.0


def is_terminal() -> bool:
    """Whether there is a terminal, or a browser, to open the lab in: keys and a screen."""
    if "TEXTUAL_DRIVER" in os.environ:  # textual-serve draws in a browser
        return True
    return (
        sys.stdin.isatty()
        and (sys.stdout.isatty() or sys.stderr.isatty())
        and os.environ.get("TERM") != "dumb"
    )


def open_lab(
    start_mode: str = "data",
    opening: "Callable[[LabApp], object] | None" = None,
    *,
    experiment: str = "",
) -> int:
    """Run the lab in this terminal and return the exit code.

    Args:
        start_mode: The screen to open.
        opening: Called once, after the first paint.
        experiment: That which it is opened for; its failure is the lab's.
    """
    import asyncio

    # A thread that writes comes back for Python's lock between its compiled calls, and would wait
    # for ten times as long each time, by Python's own, while the screen is drawn.
    sys.setswitchinterval(5e-4)
    # Milliseconds in which more may follow an escape, read when Textual is imported; its own 100
    # are felt. What a terminal sends as one sequence arrives within a few.
    os.environ.setdefault("ESCDELAY", "25")
    from shakespeare_tui.ui.app import LabApp
    from shakespeare_tui.ui.quitting import ABANDONED
    from shakespeare_tui.ui.services import real_services
    from shakespeare_tui.ui.settings import Settings
    from shakespeare_tui.ui.terminal import TerminalGuard, log_path

    settings, services, guard = Settings.load(), real_services(), TerminalGuard()
    app = LabApp(
        settings=settings, services=services, start_mode=start_mode, opening=opening, guard=guard
    )
    if not (sys.stdout.encoding or "").lower().replace("-", "").startswith("utf8"):
        app.looks.use_ascii(True)
    loop = asyncio.new_event_loop()
    guard.on_lost = lambda: loop.call_soon_threadsafe(app.leaving.leave_now)
    try:
        with guard.closed(), app.collection.in_charge():
            _leave_on_signals(loop, app)
            result = app.run(loop=loop)
    finally:
        # With the loop go its signal handlers: from here on, Ctrl-C interrupts the wait.
        loop.close()
        with _told_once():
            is_saved = not app.leaving.is_given_up and _is_saved(services.training)
    code = result if result is not None else (app.return_code or 0)
    if result is None and code:
        say(f"the lab crashed; the error is at the end of {log_path()}")
    for name in services.children.in_training:
        say(f"{name} goes on being trained; shakespeare-tui experiment stop {name} saves and stops")
    if not is_saved:
        say("left without saving; what was learned since the last save is lost")
        code = ABANDONED
    elif opening is not None:
        has_failed = services.training.state == "failed" or services.children.has_failed(experiment)
        code = code or (1 if has_failed else 0)
    return _end(code)


def _leave_on_signals(loop: "asyncio.AbstractEventLoop", app: "LabApp") -> None:
    for name in ("SIGTERM", "SIGHUP", "SIGINT"):
        # Windows has neither all of these nor handlers on its loop.
        with contextlib.suppress(NotImplementedError, AttributeError):
            loop.add_signal_handler(getattr(signal, name), app.leaving.leave_now)


@contextlib.contextmanager
def _told_once() -> Iterator[None]:
    """Who was told to end, and saves, need not be told again: a closed window hangs up twice."""
    numbers = [signal.SIGTERM]
    if sys.platform != "win32":
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _is_saved(training: "TrainingController") -> bool:
    """Wait until the run is saved, and say how to go on; False where a Ctrl-C gave up."""
    # The terminal may be gone: there is nobody to tell then, but the run is saved all the same.
    with contextlib.suppress(OSError):
        if training.is_alive and not training.is_loading:
            say(f"saving {training.run_name or 'the run'}; press Ctrl-C to leave without")
    try:
        training.ask_to_stop("interrupted")
        waited = 0.0
        while not training.join(_POLL_SECONDS):
            training.drain()
            waited += _POLL_SECONDS
            if training.is_loading and waited >= _MOST_LOADING_SECONDS:
                # A library that is still loading: nothing there is worth a wait.
                return True
    except KeyboardInterrupt:
        return False
    training.drain()
    with contextlib.suppress(OSError):
        if training.state == "failed":
            say(f"failed: {training.message}")
        elif training.stopped_at is not None:
            say(
                f"{training.run_name} is saved at step {training.stopped_at:,}; go on with: "
                f"shakespeare-tui train --resume {training.run_name}"
            )
    return True


def _end(code: int) -> int:
    """Return ``code``, or leave at once where a thread would keep the process alive."""
    rest = [thread for thread in threading.enumerate() if thread is not threading.main_thread()]
    if rest:
        # A download that hangs, a library that is still loading: nothing there is worth a wait.
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
    return code
