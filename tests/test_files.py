"""Files and folders are the old version or the new, whatever happens in between."""

import contextlib
import errno
import os
import resource
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from shakespeare_tui.files import (
    atomic_folder,
    atomic_writer,
    write_atomically,
    write_json_atomically,
)


class InterruptedHalfwayError(Exception):
    pass


@pytest.mark.parametrize("error", [InterruptedHalfwayError, KeyboardInterrupt, SystemExit])
def test_an_error_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, error: type[BaseException]
) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"old")
    with pytest.raises(error), atomic_writer(path) as file:
        file.write(b"half of the new")
        file.flush()
        assert path.read_bytes() == b"old"
        raise error
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_makes_no_file_where_none_was(tmp_path: Path) -> None:
    with pytest.raises(InterruptedHalfwayError), atomic_writer(tmp_path / "new") as file:
        file.write(b"half")
        raise InterruptedHalfwayError
    assert list(tmp_path.iterdir()) == []


def test_the_new_file_takes_the_place_of_the_old(tmp_path: Path) -> None:
    path = tmp_path / "made" / "on" / "the way" / "notes.txt"
    for content in ("first", "second, longer", "ünïcode\n", b"\x00bytes", ""):
        write_atomically(path, content)
        expected = content.encode() if isinstance(content, str) else content
        assert path.read_bytes() == expected
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")
@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_the_umask_says_who_can_read_what_was_written(umask: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        write_atomically(tmp_path / "file", "x")
        with atomic_folder(tmp_path / "folder") as folder:
            (folder / "figures").write_text("x")
            os.close(os.open(folder / "weights", os.O_CREAT | os.O_WRONLY, 0o600))
    finally:
        os.umask(before)
    modes = {
        path.name: stat.S_IMODE(path.stat().st_mode)
        for path in tmp_path.rglob("*")
        if path.is_file()
    }
    assert modes == dict.fromkeys(("file", "figures", "weights"), 0o666 & ~umask)
    assert stat.S_IMODE((tmp_path / "folder").stat().st_mode) == 0o777 & ~umask


def test_a_file_that_is_replaced_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text("old")
    path.chmod(0o600)
    write_atomically(path, "new")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_json_is_readable_and_never_nan(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    write_json_atomically(path, {"loss": 1.5, "text": "ROMÉO"})
    assert path.read_text(encoding="utf-8") == '{\n  "loss": 1.5,\n  "text": "ROMÉO"\n}\n'
    for bad in (float("nan"), float("inf"), object()):
        with pytest.raises((ValueError, TypeError)):
            write_json_atomically(path, {"loss": bad})
    assert "1.5" in path.read_text(encoding="utf-8")
    assert list(tmp_path.iterdir()) == [path]


@contextlib.contextmanager
def small_files() -> Iterator[None]:
    """The system refuses files of more than 4,096 bytes, as a full disk would.

    Only for the block: the limit holds for the whole process, so also for the file that the test
    run's own report may go to.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)


def test_when_the_system_refuses_to_write_the_old_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    write_atomically(path, b"old")
    with small_files():
        with pytest.raises(OSError):
            write_atomically(path, bytes(100_000))
        with pytest.raises(OSError), atomic_folder(tmp_path / "step-8") as folder:
            (folder / "state").write_bytes(bytes(100_000))
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_in_the_way_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "kept").write_text("mine")
    with pytest.raises(OSError):
        write_atomically(tmp_path / "taken", "x")
    with pytest.raises(OSError), atomic_folder(tmp_path / "taken") as folder:
        (folder / "new").write_text("x")
    assert [p.relative_to(tmp_path) for p in tmp_path.rglob("*")] == [
        Path("taken"),
        Path("taken/kept"),
    ]


def test_a_killed_writer_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"old")
    program = (
        "import os, pathlib, signal, sys\n"
        "from shakespeare_tui.files import atomic_writer\n"
        "with atomic_writer(pathlib.Path(sys.argv[1])) as file:\n"
        "    file.write(b'half')\n"
        "    file.flush()\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run([sys.executable, "-c", program, str(path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert path.read_bytes() == b"old"
    # What it left behind does not stand in the way of the next one.
    write_atomically(path, "new")
    assert path.read_bytes() == b"new"


def test_readers_see_one_version_or_the_other(tmp_path: Path) -> None:
    path = tmp_path / "last.json"
    versions = {bytes([letter]) * 50_000 for letter in b"ab"}
    write_atomically(path, next(iter(versions)))
    is_done = threading.Event()

    def write() -> None:
        for _ in range(20):
            for version in versions:
                write_atomically(path, version)
        is_done.set()

    writer = threading.Thread(target=write)
    writer.start()
    seen = set()
    while not is_done.is_set():
        seen.add(path.read_bytes())
    writer.join()
    assert seen <= versions


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "step-4"
    with atomic_folder(folder) as temporary:
        (temporary / "deep").mkdir()
        (temporary / "deep" / "weights").write_bytes(b"w")
        (temporary / "info.json").write_text("{}")
        assert not folder.exists()
        assert temporary.parent == folder.parent
    assert (folder / "deep" / "weights").read_bytes() == b"w"
    assert (folder / "info.json").read_text() == "{}"
    assert list(folder.parent.iterdir()) == [folder]


@pytest.mark.parametrize("error", [InterruptedHalfwayError, KeyboardInterrupt])
def test_an_error_leaves_no_folder(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), atomic_folder(tmp_path / "step-4") as temporary:
        (temporary / "weights").write_bytes(b"half")
        raise error
    assert list(tmp_path.iterdir()) == []


def test_unfinished_files_are_hidden(tmp_path: Path) -> None:
    with atomic_writer(tmp_path / "weights"), atomic_folder(tmp_path / "step-4"):
        unfinished = [path.name for path in tmp_path.iterdir()]
        assert len(unfinished) == 2
        assert all(name.startswith(".") for name in unfinished)


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP, errno.EACCES, errno.EIO])
def test_a_mount_that_syncs_no_folders(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync = os.fsync

    def refuse_folders(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(code, os.strerror(code))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", refuse_folders)
    if code == errno.EIO:  # a disk that fails is no mount that refuses
        with pytest.raises(OSError, match=os.strerror(code)):
            write_atomically(tmp_path / "file", b"content")
        return
    write_atomically(tmp_path / "file", b"content")
    with atomic_folder(tmp_path / "step-4") as temporary:
        (temporary / "weights").write_bytes(b"w")
    assert (tmp_path / "file").read_bytes() == b"content"
    assert (tmp_path / "step-4" / "weights").read_bytes() == b"w"
