"""A program on a pseudo-terminal: keys in, what it draws out (POSIX)."""

import contextlib
import fcntl
import io
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Mapping, Sequence

_ESCAPES = re.compile(
    r"\x1b\[[0-9;?=<>:$]*[A-Za-z`~]"  # control sequences
    r"|\x1b[\]P_^][^\x07\x1b]*(?:\x07|\x1b\\)"  # strings: titles, clipboard
    r"|\x1b[()][A-Z0-9]|\x1b[=>78cM]"
)
# What may be sent from the first to the last of the words that are waited for.
_LONGEST_DRAWN = 200_000


class PseudoTerminal:
    """Runs a program on a terminal of its own.

    Args:
        command: Program and arguments.
        environment: Added to this process's.
        columns: Width in cells.
        rows: Height in cells.
        folder: Where the program runs.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        columns: int = 80,
        rows: int = 24,
        folder: str | os.PathLike[str] | None = None,
    ) -> None:
        self.started = time.perf_counter()
        self._master, slave = pty.openpty()
        self.resize(columns, rows, tell=False)
        variables = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor"}
        variables.pop("NO_COLOR", None)
        self.process = subprocess.Popen(
            command,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**variables, **(environment or {})},
            cwd=folder,
            preexec_fn=_take_terminal,
        )
        os.close(slave)
        self._condition = threading.Condition()
        self._raw = io.StringIO()
        self._last_arrival = self.started
        self._seen = 0
        self._is_closed = False
        self._is_hung_up = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        pending = b""
        while not self._is_hung_up:
            if not select.select([self._master], [], [], 0.05)[0]:
                continue
            try:
                data = os.read(self._master, 65536)
            except OSError:
                data = b""
            now = time.perf_counter()
            with self._condition:
                if not data:
                    self._is_closed = True
                    self._condition.notify_all()
                    return
                text = (pending + data).decode("utf-8", "ignore")
                # A character cut in two is drawn with the next read.
                pending = b"" if len(text.encode()) == len(pending + data) else _tail(data)
                self._raw.seek(0, io.SEEK_END)
                self._raw.write(text)
                self._last_arrival = now
                self._condition.notify_all()

    @property
    def text(self) -> str:
        """Everything drawn so far, without colours and cursor movements."""
        return _ESCAPES.sub("", self.raw)

    @property
    def raw(self) -> str:
        """Everything that was sent to the terminal."""
        with self._condition:
            return self._raw.getvalue()

    def wait_for_end(self, seconds: float = 5.0) -> None:
        """Wait until all that an ended program has drawn is there."""
        with self._condition:
            self._condition.wait_for(lambda: self._is_closed, seconds)

    def mark(self) -> None:
        """Let ``wait_for`` look only at what is drawn from now on."""
        with self._condition:
            self._seen = self._raw.seek(0, io.SEEK_END)

    def send(self, keys: str) -> float:
        """Type; the time at which it was done."""
        os.write(self._master, keys.encode())
        return time.perf_counter()

    def pause(self, seconds: float) -> None:
        """Let the program go on for a while."""
        time.sleep(seconds)

    def press(self, keys: str, wait_for: str, seconds: float = 60.0) -> float:
        """Type, and wait until ``wait_for`` is drawn after it; the seconds between."""
        self.mark()
        sent = self.send(keys)
        return self.wait_for(wait_for, seconds) - sent

    def wait_for(self, wanted: str, seconds: float = 60.0) -> float:
        """Wait until ``wanted`` (a regular expression) is drawn; the time at which it was.

        Raises:
            AssertionError: It was not drawn in time.
        """
        pattern = re.compile(wanted)
        deadline = time.monotonic() + seconds
        with self._condition:
            start = self._seen
            while True:
                self._raw.seek(start)
                if pattern.search(_ESCAPES.sub("", self._raw.read())):
                    return self._last_arrival
                # Whoever reads slowly holds the program up: nothing is searched twice but the end.
                start = max(start, self._raw.tell() - _LONGEST_DRAWN)
                left = deadline - time.monotonic()
                if left <= 0 or self._is_closed:
                    self._raw.seek(self._seen)
                    drawn = _ESCAPES.sub("", self._raw.read())
                    raise AssertionError(f"{wanted!r} was not drawn; drawn: {drawn[-3000:]!r}")
                self._condition.wait(left)

    def resize(self, columns: int, rows: int, *, tell: bool = True) -> None:
        """Change the terminal's size."""
        size = struct.pack("HHHH", rows, columns, 0, 0)
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, size)
        if tell:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGWINCH)

    def wait(self, seconds: float = 30.0) -> int:
        """Wait for the program to end; its exit code.

        Raises:
            AssertionError: It did not end in time.
        """
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running; drawn: {self.text[-3000:]!r}") from None

    def hang_up(self) -> None:
        """Close the terminal, as when a window is closed or a connection is lost."""
        if self._master >= 0:
            self._is_hung_up = True
            self._reader.join()
            os.close(self._master)
            self._master = -1

    def close(self) -> None:
        """End the program, however it is."""
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self.hang_up()

    def __enter__(self) -> "PseudoTerminal":
        return self

    def __exit__(self, *details: object) -> None:
        self.close()


def _take_terminal() -> None:
    """Begin a session with the terminal on descriptor 0, as a shell's window does."""
    # The tests themselves may run where hang-ups are ignored; a window's shell does not.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def _tail(data: bytes) -> bytes:
    """The beginning of a character that ``data`` ends in."""
    for length in range(1, min(4, len(data)) + 1):
        if data[-length] & 0xC0 == 0xC0:
            return data[-length:]
    return b""
