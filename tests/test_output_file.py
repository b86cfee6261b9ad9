"""Files that the user named: links, devices, modes and what may be replaced."""

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from shakespeare_tui.errors import RunFailedError, UserError
from shakespeare_tui.files import check_output_file, write_output_file

pytestmark = pytest.mark.skipif(os.name == "nt", reason="POSIX files")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(params=[0o022, 0o077, 0o002])
def umask(request: pytest.FixtureRequest) -> int:
    before = os.umask(request.param)
    request.addfinalizer(lambda: os.umask(before))
    return int(request.param)


def test_a_new_file_gets_what_the_umask_leaves(umask: int, tmp_path: Path) -> None:
    write_output_file(tmp_path / "new.txt", "text")
    assert mode(tmp_path / "new.txt") == 0o666 & ~umask


@pytest.mark.parametrize("before", [0o600, 0o640, 0o755])
def test_a_replaced_file_keeps_its_mode(before: int, tmp_path: Path) -> None:
    path = tmp_path / "private.txt"
    path.write_text("secret")
    path.chmod(before)
    write_output_file(path, "new")
    assert (path.read_text(), mode(path)) == ("new", before)
    assert list(tmp_path.iterdir()) == [path]


def test_a_read_only_file_is_refused_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "kept.txt"
    path.write_text("kept")
    path.chmod(0o444)
    for may_replace in (False, True):
        with pytest.raises(UserError, match="read-only.*chmod u\\+w"):
            check_output_file(path, may_replace=may_replace)
    with pytest.raises(UserError, match="read-only"):
        write_output_file(path, "new")
    assert (path.read_text(), mode(path)) == ("kept", 0o444)


def test_links_are_followed(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    target, link = tmp_path / "deep" / "target.txt", tmp_path / "link.txt"
    target.write_text("old")
    target.chmod(0o600)
    link.symlink_to(target)
    write_output_file(link, "new")
    assert link.is_symlink()
    assert (target.read_text(), mode(target)) == ("new", 0o600)
    dangling = tmp_path / "dangling.txt"
    dangling.symlink_to(tmp_path / "deep" / "made.txt")
    write_output_file(dangling, "made")
    assert dangling.is_symlink()
    assert (tmp_path / "deep" / "made.txt").read_text() == "made"


def test_another_name_of_the_file_sees_the_new_text(tmp_path: Path) -> None:
    path, other = tmp_path / "a.txt", tmp_path / "b.txt"
    path.write_text("a longer text than the new one")
    other.hardlink_to(path)
    write_output_file(path, "new")
    assert other.read_text() == "new"


def test_a_fifo_is_written_into(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    check_output_file(fifo, may_replace=False)
    got: list[str] = []
    reader = threading.Thread(target=lambda: got.append(fifo.read_text()))
    reader.start()
    write_output_file(fifo, "text\n")
    reader.join()
    assert got == ["text\n"]
    assert stat.S_ISFIFO(fifo.lstat().st_mode)


def test_a_device_stays_a_device(tmp_path: Path) -> None:
    link = tmp_path / "null"
    link.symlink_to("/dev/null")
    before = os.lstat("/dev/null")
    check_output_file(link, may_replace=False)
    write_output_file(link, "text")
    assert link.is_symlink()
    assert os.lstat("/dev/null")[:2] == before[:2]
    if Path("/dev/full").exists():
        with pytest.raises(RunFailedError, match="/dev/full cannot be written: No space"):
            write_output_file(Path("/dev/full"), "text")


@pytest.mark.parametrize("redirection", ["w", "a"])
def test_stdout_by_its_name(redirection: str, tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    path.write_text("before\n")
    program = (
        "from pathlib import Path\n"
        "from shakespeare_tui.files import check_output_file, write_output_file\n"
        "check_output_file(Path('/dev/stdout'), may_replace=False)\n"
        "write_output_file(Path('/dev/stdout'), 'text\\n')\n"
    )
    with path.open(redirection) as file:
        done = subprocess.run([sys.executable, "-c", program], stdout=file)
    assert done.returncode == 0
    assert path.read_text() == ("before\ntext\n" if redirection == "a" else "text\n")


def test_what_exists_is_replaced_only_when_that_is_meant(tmp_path: Path) -> None:
    path = tmp_path / "there.txt"
    path.write_text("old")
    with pytest.raises(UserError, match=r"there\.txt exists; .*--force"):
        check_output_file(path, may_replace=False)
    check_output_file(path, may_replace=True)
    check_output_file(tmp_path / "new.txt", may_replace=False)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (".", "is a folder"),
        ("nowhere/out.txt", "there is no folder"),
        ("file/out.txt", "Not a directory"),
        ("x" * 300, "File name too long"),
        ("nul\0.txt", "cannot be written"),
        ("\x1b[31m/x", r"^[^\x1b]*there is no folder [^\x1b]*$"),
    ],
)
def test_what_cannot_be_written_is_refused_before_anything(
    name: str, words: str, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=words):
        check_output_file(tmp_path / name, may_replace=True)
