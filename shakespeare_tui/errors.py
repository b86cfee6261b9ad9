"""What goes wrong: by the user's input, at work, or because the user cancelled it."""

from collections.abc import Callable


class UserError(Exception):
    """What the user gave is wrong; the message is complete, one line a problem, fix included.

    The command line prints it without a traceback and exits with 2; screens show it in place.
    """


class RunFailedError(Exception):
    """The work was well formed but could not be completed (disk full, training diverged).

    The command line prints it without a traceback and exits with 1.
    """


class CancelledError(Exception):
    """The user cancelled a long operation; nothing partial is left behind."""


def check_cancelled(cancelled: Callable[[], bool], what: str) -> None:
    """Give up where ``cancelled`` says so: to be called between pieces of long work.

    Raises:
        CancelledError: ``what``, such as "loading", was cancelled.
    """
    if cancelled():
        raise CancelledError(f"{what} was cancelled")


def never() -> bool:
    """The answer of what cannot be cancelled."""
    return False
