"""Run the program as a user does: in this process, or as a process that signals can end."""

import contextlib
import io
import itertools
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from shakespeare_tui.cli.main import main

TINY = (
    "--config=tiny",
    "--corpus=sample",
    "--set=model.d_model=16",
    "--set=model.n_heads=2",
    "--set=model.d_ff=32",
    "--set=model.n_layers=1",
    "--set=model.max_seq_len=16",
    "--set=training.batch_size=4",
    "--set=training.precision=float32",
    "--set=training.eval_every=10",
    "--set=sampling.every=10",
    "--set=sampling.max_tokens=8",
)
"""Arguments of a run that takes milliseconds a step; later ones win."""


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


CommandLine = Callable[..., Outcome]


def run_in_process(capfd: pytest.CaptureFixture[str], arguments: Sequence[str]) -> Outcome:
    capfd.readouterr()
    try:
        code = main(list(arguments))
    except SystemExit as ending:  # the argument parser's way out
        code = int(ending.code or 0)
    captured = capfd.readouterr()
    return Outcome(code, captured.out, captured.err)


# A server that has loaded torch once and forks: a fresh process each, without seconds of imports.
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(
    # What the first step of an optimiser imports, too.
    [
        "shakespeare_tui.training.loop",
        "shakespeare_tui.training.torch_state",
        "shakespeare_tui.cli.train_console",
        "torch._dynamo",
        "real_cli",
    ]
)
_started: list["CliProcess"] = []
_numbers = itertools.count()


class CliProcess:
    """One run of the program in a process of its own; ``stdout`` and ``stderr`` go to files.

    Args:
        arguments: The command line.
        folder: Where the outputs go.
        largest_file_bytes: A write past it fails as on a full disk.
        memory_bytes: Most that may be allocated.
        prepare: Called in the process before the program begins.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        folder: Path,
        *,
        largest_file_bytes: int | None = None,
        memory_bytes: int | None = None,
        prepare: Callable[[], object] | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        number = next(_numbers)
        self._out, self._err = folder / f"{number}.out", folder / f"{number}.err"
        limits = {"RLIMIT_FSIZE": largest_file_bytes, "RLIMIT_AS": memory_bytes}
        self._process = _context.Process(
            target=_main,
            args=(
                list(arguments),
                {k: v for k, v in os.environ.items() if not k.startswith("PYTEST")},
                os.getcwd(),
                (self._out, self._err),
                {name: value for name, value in limits.items() if value is not None},
                prepare,
            ),
        )
        self._process.start()
        _started.append(self)

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        return self._process.is_alive()

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def kill(self) -> Outcome:
        """``kill -9``."""
        self._process.kill()
        return self.wait()

    def wait(self, seconds: float = 60.0) -> Outcome:
        """Wait for the end; a code below 0 is the signal that ended the process."""
        self._process.join(seconds)
        code = self._process.exitcode
        if code is None:
            self._process.kill()
            self._process.join()
            raise AssertionError(f"still running after {seconds} s")
        out, err = (p.read_text() if p.exists() else "" for p in (self._out, self._err))
        return Outcome(code, out, err)


def end_processes() -> None:
    while _started:
        process = _started.pop()
        if process.is_alive:
            process.kill()


def _main(
    arguments: list[str],
    environment: dict[str, str],
    folder: str,
    outputs: tuple[Path, Path],
    limits: dict[str, int],
    prepare: Callable[[], object] | None,
) -> None:
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for descriptor, path in zip((1, 2), outputs, strict=True):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, descriptor)
    sys.stdout = io.TextIOWrapper(os.fdopen(1, "wb", closefd=False), encoding="utf-8")
    sys.stderr = io.TextIOWrapper(
        os.fdopen(2, "wb", closefd=False), encoding="utf-8", line_buffering=True
    )
    # Python's own settings, which a server may have changed.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    if limits:
        import resource

        # A write past the limit then fails as on a full disk, instead of ending the process.
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        for name, value in limits.items():
            resource.setrlimit(getattr(resource, name), (value, value))
    if prepare is not None:
        prepare()
    code = 1
    try:
        code = main(arguments)
    except SystemExit as ending:
        code = int(ending.code or 0)
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
    if limits:
        # Without the interpreter's own end: a tool that measures coverage would want to write, too.
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def wait_until(
    condition: Callable[[], Any],
    what: str,
    seconds: float = 30.0,
    process: CliProcess | None = None,
) -> None:
    """Poll until ``condition`` holds.

    Raises:
        AssertionError: It took too long, or ``process`` ended before.
    """
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds} s for {what}"
        assert process is None or process.is_alive, f"{what}: the program ended: {process.wait()}"
        time.sleep(0.005)
