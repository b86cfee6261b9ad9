"""Where training on the screens reaches the engine: off the UI thread, in functions."""

import gc
import importlib.util
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from shakespeare_tui.errors import CancelledError, RunFailedError, UserError
from shakespeare_tui.machine import has_torch, map_torch
from shakespeare_tui.training.request import TrainingRequest
from shakespeare_tui.ui.advice_in_keys import in_lab
from shakespeare_tui.ui.engine.channel import Ended, Noticed, Opened, Progressed, TrainingChannel

if TYPE_CHECKING:
    from shakespeare_tui.runs.history import RunHistory
    from shakespeare_tui.training.session import Session

_log = logging.getLogger(__name__)


def preload(screens: Sequence[str]) -> None:
    """Import what a person will ask for next: configs, the screens, and torch with the engine."""
    for module in ("config.load", *(f"ui.{mode}.screen" for mode in screens)):
        importlib.import_module(f"shakespeare_tui.{module}")
    preload_torch()


def preload_torch() -> None:
    """Import torch, where it is, and what training and generating need; a second or two."""
    map_torch()
    importlib.import_module("shakespeare_tui.training.loop")
    library = "torch" if has_torch() else "numpy"
    importlib.import_module(f"shakespeare_tui.training.{library}_state")
    # What was imported stays for good. The garbage collector would look through half a million such
    # objects again and again, 0.1 to 0.4 s each time, in which no key is answered.
    gc.freeze()


def train(request: TrainingRequest, channel: TrainingChannel) -> None:
    """Train to the end; runs in the trainer thread and sends ``Ended`` as its last message."""
    ended = Ended(error="the trainer crashed; see the lab's log")
    try:
        _train(request, channel)
        ended = Ended()
    except CancelledError:
        ended = Ended(is_cancelled=True)
    except (UserError, RunFailedError) as error:
        ended = Ended(error=in_lab(str(error)))
    except OSError as error:
        ended = Ended(error=f"{error.filename or 'a file'}: {error.strerror or error}")
    except BaseException:
        _log.exception("the trainer crashed")
        raise
    finally:
        channel.send(ended)


def _train(request: TrainingRequest, channel: TrainingChannel) -> None:
    if channel.stop.is_set():
        raise CancelledError("the start was cancelled")
    preload_torch()
    from shakespeare_tui.runs.commands import CommandInbox
    from shakespeare_tui.training.loop import run_training
    from shakespeare_tui.training.session import Hooks, open_session

    def report(what: str, done: int, total: int | None) -> None:
        if channel.stop.is_set():
            raise CancelledError("the start was cancelled")
        channel.send(Progressed(what, done, total))

    hooks = Hooks(
        report=report,
        notice=lambda text: channel.send(Noticed(text)),
        confirm=channel.ask,
        cancelled=channel.stop,
    )
    with open_session(request, hooks) as session:
        if session.is_new and channel.stop.is_set():
            raise CancelledError("the start was cancelled")
        history = None if session.is_new else _read_history(session)
        channel.send(Opened(session.run.name, session.run.path, history))
        inbox = CommandInbox(session.run.commands_path)
        channel.attach(inbox)
        run_training(session, inbox, channel.send)


def _read_history(session: "Session") -> "RunHistory":
    from shakespeare_tui.runs.event_log import read_events
    from shakespeare_tui.runs.history import RunHistory

    history = RunHistory()
    history.extend(read_events(session.run.events_path))
    history.set_config(session.config.model_dump(mode="json"))
    return history
