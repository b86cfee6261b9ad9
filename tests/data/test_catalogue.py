"""Corpora of several files, out of archives and Parquet files, from a server on this machine."""

import hashlib
import http.server
import io
import sys
import threading
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from shakespeare_tui.data.available import available_corpora
from shakespeare_tui.data.catalogue import (
    CATALOGUE,
    ArchiveSource,
    CorpusEntry,
    CorpusFile,
    ParquetSource,
    Source,
    UrlSource,
)
from shakespeare_tui.data.download import FetchFailedError, cached_path, fetch, fetch_files
from shakespeare_tui.data.source import TextSource, locate_corpus, open_corpus
from shakespeare_tui.errors import UserError

TRAIN = "".join(f" \n = Article {i} = \n \n It has <unk> words . \n" for i in range(3000)).encode()
VALIDATION = b" \n = Another one = \n \n It is kept apart . \n"


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves the files of the server; ``/moved/`` sends on, ``/breaks/`` sends half of them."""

    server: Any

    def do_GET(self) -> None:
        self.server.requests.append((self.path, self.headers.get("Range")))
        manner, _, name = self.path[1:].partition("/")
        body = self.server.files.get(name)
        if body is None:
            self.send_error(404)
        elif manner == "moved":
            self.send_response(302)
            self.send_header("Location", f"/good/{name}")
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            start = int((self.headers.get("Range") or "bytes=0-")[len("bytes=") : -1])
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
            if manner != "unsized":
                self.send_header("Content-Length", str(len(body) - start))
            self.end_headers()
            end = len(body) // 2 if manner == "breaks" else len(body)
            self.wfile.write(body[start:end])

    def log_message(self, *arguments: object) -> None:
        pass


class Server(http.server.ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[tuple[str, str | None]] = []
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
            file.writestr("wiki/train.raw", TRAIN)
            file.writestr("wiki/valid.raw", VALIDATION)
        self.files = {
            "train.txt": TRAIN,
            "valid.txt": VALIDATION,
            "wiki.zip": archive.getvalue(),
        }

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{path}"

    def archive(self, path: str, member: str) -> ArchiveSource:
        content = self.files["wiki.zip"]
        return ArchiveSource(self.url(path), member, len(content), digest(content))

    @property
    def paths(self) -> list[str]:
        return [path for path, _ in self.requests]


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("SHAKESPEARE_TUI_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    server = Server()
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
    yield server
    server.shutdown()
    server.server_close()


def named(monkeypatch, train: Source, *validation: Source, is_known: bool = True) -> CorpusEntry:
    """A corpus of the catalogue, with what is known of its texts or without."""
    entry = CorpusEntry("wiki", "Articles", "CC0-1.0", sources=(train,))
    if is_known:
        entry = replace(entry, size_bytes=len(TRAIN), sha256=digest(TRAIN))
    if validation:
        size, sha256 = (len(VALIDATION), digest(VALIDATION)) if is_known else (None, None)
        kept_apart = CorpusFile("wiki.validation.txt", size, sha256, validation)
        entry = replace(entry, validation=kept_apart)
    monkeypatch.setitem(CATALOGUE, entry.name, entry)
    return entry


def text_of(source: TextSource | None) -> bytes:
    assert source is not None
    return "".join(source.iter_text()).encode()


def left_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if not path.name.endswith(".lock")}


class TestValidationOfItsOwn:
    def test_both_texts_are_fetched_and_found(self, server, monkeypatch):
        entry = named(
            monkeypatch,
            UrlSource(server.url("good/train.txt")),
            UrlSource(server.url("moved/valid.txt")),
        )
        source = open_corpus("wiki")
        assert text_of(source) == TRAIN
        assert text_of(source.validation) == VALIDATION
        assert left_in(cached_path(entry).parent) == {"wiki.txt", "wiki.validation.txt"}
        assert source.sha256() not in (digest(TRAIN), digest(VALIDATION))
        assert text_of(locate_corpus("wiki")) == TRAIN

    def test_a_corpus_with_half_of_its_texts_is_not_at_hand(self, server, monkeypatch):
        urls = [UrlSource(server.url(f"good/{name}.txt")) for name in ("train", "valid")]
        entry = named(monkeypatch, *urls)
        fetch(entry)
        cached_path(entry).with_name("wiki.validation.txt").write_text("of another kind")
        assert locate_corpus("wiki") is None
        assert text_of(open_corpus("wiki").validation) == VALIDATION
        assert server.paths == ["/good/train.txt", "/good/valid.txt", "/good/valid.txt"]

    def test_files_in_data_come_first(self, server, monkeypatch):
        urls = [UrlSource(server.url(f"gone/{name}")) for name in ("a", "b")]
        named(monkeypatch, *urls)
        Path("data").mkdir()
        Path("data/wiki.txt").write_bytes(TRAIN)
        Path("data/wiki.validation.txt").write_bytes(VALIDATION)
        source = open_corpus("wiki")
        assert source.validation is not None
        assert source.validation.paths == (Path("data/wiki.validation.txt"),)
        assert not server.requests
        assert {item.spec for item in available_corpora()} == set(CATALOGUE)
        Path("data/wiki.validation.txt").write_bytes(TRAIN)
        with pytest.raises(UserError, match=r"data/wiki\.validation\.txt is not wiki\.validation"):
            locate_corpus("wiki")

    def test_the_missing_text_is_named(self, server, monkeypatch):
        named(
            monkeypatch, UrlSource(server.url("good/train.txt")), UrlSource(server.url("good/no"))
        )
        with pytest.raises(FetchFailedError, match=r"wiki\.validation cannot be fetched .*404"):
            open_corpus("wiki")


class TestArchives:
    def test_one_download_serves_both_texts(self, server, monkeypatch):
        members = [
            server.archive("moved/wiki.zip", f"wiki/{name}.raw") for name in ("train", "valid")
        ]
        entry = named(monkeypatch, *members, is_known=False)
        source = open_corpus("wiki")
        assert (text_of(source), text_of(source.validation)) == (TRAIN, VALIDATION)
        assert server.paths == ["/moved/wiki.zip", "/good/wiki.zip"]
        assert {name for name in left_in(cached_path(entry).parent) if name[0] == "."} == set()

    def test_a_broken_download_is_taken_up(self, server, monkeypatch):
        named(monkeypatch, server.archive("breaks/wiki.zip", "wiki/train.raw"))
        with pytest.raises(FetchFailedError, match="connection ended after"):
            open_corpus("wiki")
        named(monkeypatch, server.archive("good/wiki.zip", "wiki/train.raw"))
        assert text_of(open_corpus("wiki")) == TRAIN
        half = len(server.files["wiki.zip"]) // 2
        assert server.requests[1:] == [("/good/wiki.zip", f"bytes={half}-")]

    @pytest.mark.parametrize(
        ("spoil", "member", "reason"),
        [
            (lambda archive: bytes(len(archive)), "wiki/train.raw", "wrong content, SHA-256"),
            (lambda archive: archive[:-1], "wiki/train.raw", "bytes to send, not"),
            (lambda archive: archive, "wiki/absent.raw", "has no wiki/absent.raw"),
            (lambda archive: archive, "wiki/valid.raw", "bytes, not"),
        ],
    )
    def test_what_is_not_the_archive_or_has_not_the_text(
        self, server, monkeypatch, spoil, member, reason
    ):
        entry = named(monkeypatch, server.archive("good/wiki.zip", member))
        server.files["wiki.zip"] = spoil(server.files["wiki.zip"])
        with pytest.raises(FetchFailedError, match=reason):
            open_corpus("wiki")
        assert not cached_path(entry).exists()


class TestWithoutAKnownDigest:
    def test_the_first_download_counts(self, server, monkeypatch):
        entry = named(monkeypatch, UrlSource(server.url("unsized/train.txt")), is_known=False)
        path = fetch(entry)
        assert path.read_bytes() == TRAIN
        pin = path.with_name("wiki.txt.sha256")
        assert pin.read_text() == f"{digest(TRAIN)}  wiki.txt\n"
        assert text_of(locate_corpus("wiki")) == TRAIN
        (item,) = [item for item in available_corpora() if item.spec == "wiki"]
        assert item.status == "verified"
        path.write_bytes(TRAIN[:-1] + b"!")
        assert locate_corpus("wiki") is None
        server.files["train.txt"] = VALIDATION
        assert text_of(open_corpus("wiki")) == VALIDATION

    def test_a_broken_download_is_not_taken_for_the_text(self, server, monkeypatch):
        named(monkeypatch, UrlSource(server.url("breaks/train.txt")), is_known=False)
        with pytest.raises(FetchFailedError, match="connection ended after"):
            open_corpus("wiki")
        server.files["train.txt"] = VALIDATION
        named(monkeypatch, UrlSource(server.url("good/train.txt")), is_known=False)
        assert text_of(open_corpus("wiki")) == VALIDATION
        assert server.requests[-1] == ("/good/train.txt", None)

    def test_what_was_put_into_data_is_ones_own(self, server, monkeypatch):
        named(monkeypatch, UrlSource(server.url("gone/x")), is_known=False)
        Path("data").mkdir()
        Path("data/wiki.txt").write_bytes(TRAIN)
        (item,) = [item for item in available_corpora() if item.spec == "wiki"]
        assert item.status == "own"


class TestParquet:
    def parquet(self, lines: list[str]) -> bytes:
        pyarrow = pytest.importorskip("pyarrow")
        parquet = pytest.importorskip("pyarrow.parquet")
        table = pyarrow.table({"text": lines, "number": list(range(len(lines)))})
        file = io.BytesIO()
        parquet.write_table(table, file, row_group_size=500)
        return file.getvalue()

    def test_rows_are_the_lines_of_the_release(self, server, monkeypatch):
        """The hub's rows of WikiText lack the text of blank lines."""
        rows = [line if line.strip() else "" for line in TRAIN.decode().splitlines(keepends=True)]
        server.files["1.parquet"] = self.parquet(rows[:5000])
        server.files["2.parquet"] = self.parquet(rows[5000:])
        urls = (server.url("moved/1.parquet"), server.url("good/2.parquet"))
        entry = named(monkeypatch, ParquetSource(urls, empty=" \n"))
        assert text_of(open_corpus("wiki")) == TRAIN
        assert left_in(cached_path(entry).parent) == {"wiki.txt"}

    @pytest.mark.parametrize(
        ("column", "cut", "reason"),
        [("words", None, "no column 'words'"), ("text", 30, "cannot be read: ")],
    )
    def test_what_has_no_such_texts(self, server, monkeypatch, column, cut, reason):
        server.files["1.parquet"] = self.parquet(["a"])[:cut]
        entry = named(monkeypatch, ParquetSource((server.url("good/1.parquet"),), column))
        with pytest.raises(FetchFailedError, match=reason) as error:
            open_corpus("wiki")
        assert "\n" not in str(error.value)
        assert not cached_path(entry).exists()

    def test_without_pyarrow_one_line_says_what_to_install(self, server, monkeypatch):
        monkeypatch.setitem(sys.modules, "pyarrow", None)
        named(monkeypatch, ParquetSource((server.url("good/1.parquet"),)))
        with pytest.raises(FetchFailedError, match=r"pip install 'shakespeare-tui\[parquet\]'"):
            open_corpus("wiki")
        assert not server.requests


def test_what_the_catalogue_knows_is_whole() -> None:
    for entry in CATALOGUE.values():
        for file in entry.files if entry.sources else ():
            assert file.sources
            assert file.sha256 is None or len(file.sha256) == 64
            assert file.size_bytes or entry.about_bytes
            for source in file.sources:
                urls = getattr(source, "urls", None) or [getattr(source, "url", "https://")]
                assert all(url.startswith("https://") for url in urls)


class TestModels:
    def test_a_named_model_is_fetched_once_and_verified(self, server, tmp_path):
        source = UrlSource(server.url("good/train.txt"))
        good = CorpusFile("m.gguf", len(TRAIN), digest(TRAIN), (source,))
        for _ in range(2):
            assert (fetch_files("small", [good]) / "m.gguf").read_bytes() == TRAIN
        assert server.paths == ["/good/train.txt"]
        other = replace(good, name="x.gguf", sha256="0" * 64)
        with pytest.raises(FetchFailedError, match="wrong content"):
            fetch_files("small", [other])
        assert not (tmp_path / "cache" / "models" / "small" / "x.gguf").exists()
