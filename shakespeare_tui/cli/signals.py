"""What ends a program in order: Ctrl-C, SIGTERM, a hang-up."""

import contextlib
import signal
import sys
from collections.abc import Callable, Iterator
from types import FrameType

from shakespeare_tui.cli.console import discard, say


@contextlib.contextmanager
def signals_stop(stop: Callable[[], None], words: str) -> Iterator[list[int]]:
    """Turn the first Ctrl-C, SIGTERM or hang-up into an orderly stop; a second Ctrl-C abandons it.

    After a hang-up nothing is printed to the terminal that is gone. Where hang-ups are ignored
    (nohup), they stay so.

    Args:
        stop: Asks for the stop; called at each signal.
        words: Said at the first.

    Yields:
        A list that holds the signals received.
    """
    received: list[int] = []

    def act(number: int, frame: FrameType | None) -> None:
        stop()
        if received and number == signal.SIGINT:
            raise KeyboardInterrupt
        received.append(number)
        if number == hang_up:
            for stream in terminals:
                discard(stream)
        say(words)

    hang_up = getattr(signal, "SIGHUP", None)
    # Asked now: a terminal that is gone does not say that it was one.
    terminals = [stream for stream in (sys.stdout, sys.stderr) if stream.isatty()]
    before = {number: signal.signal(number, act) for number in stopping_signals()}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def stopping_signals() -> list[signal.Signals]:
    """Ctrl-C, SIGTERM and, unless it is ignored (nohup), a hang-up."""
    numbers = [signal.SIGINT, signal.SIGTERM]
    hang_up = getattr(signal, "SIGHUP", None)
    if hang_up is not None and signal.getsignal(hang_up) != signal.SIG_IGN:
        numbers.append(hang_up)
    return numbers
