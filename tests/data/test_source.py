import hashlib
import os
from pathlib import Path

import pytest

from shakespeare_tui.data.catalogue import CATALOGUE, CorpusEntry, UrlSource
from shakespeare_tui.data.source import locate_corpus, open_corpus
from shakespeare_tui.errors import UserError


@pytest.fixture(autouse=True)
def working_folder(tmp_path, monkeypatch):
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("SHAKESPEARE_TUI_CACHE", str(tmp_path / "cache"))
    return folder


@pytest.fixture
def unreachable_entry(monkeypatch):
    entry = CorpusEntry(
        name="far_away",
        title="Far away",
        licence="CC0-1.0",
        size_bytes=5,
        sha256=hashlib.sha256(b"hello").hexdigest(),
        # Port 9 of the own machine refuses connections at once.
        sources=(UrlSource("http://127.0.0.1:9/far_away.txt"),),
    )
    monkeypatch.setitem(CATALOGUE, entry.name, entry)
    monkeypatch.setenv("no_proxy", "*")
    return entry


def text_of(spec: str, chunk_bytes: int = 1 << 20) -> str:
    source = locate_corpus(spec)
    assert source is not None
    return "".join(source.iter_text(chunk_bytes))


@pytest.mark.parametrize("chunk_bytes", [1, 2, 3, 7, 1 << 20])
def test_text_is_the_same_whatever_the_chunks(working_folder, chunk_bytes):
    text = "Ümläut 中文 🎭\r\nno newline at the end\r"
    Path("a.txt").write_bytes(text.encode())
    assert text_of("a.txt", chunk_bytes) == text


def test_pieces_are_bounded_and_not_empty(working_folder):
    Path("a.txt").write_bytes("é中🎭".encode() * 100)
    source = locate_corpus("a.txt")
    pieces = list(source.iter_text(chunk_bytes=16))
    assert all(0 < len(piece.encode()) <= 16 + 3 for piece in pieces)


def test_byte_order_mark_is_dropped_only_at_the_start(working_folder):
    Path("a.txt").write_bytes("\ufeffone\ufefftwo".encode())
    assert text_of("a.txt", 1) == "one\ufefftwo"


def test_folder_is_read_in_sorted_order_and_files_do_not_run_together(working_folder):
    Path("plays/b").mkdir(parents=True)
    Path("plays/.git").mkdir()
    Path("plays/b/2.txt").write_text("two")
    Path("plays/a.txt").write_text("one")
    Path("plays/c.MD").write_text("three\n")
    Path("plays/d.txt").write_text("")
    Path("plays/e.txt").write_text("four")
    Path("plays/ignored.bin").write_bytes(b"\0")
    Path("plays/.hidden.txt").write_text("hidden")
    Path("plays/.git/x.txt").write_text("hidden")
    source = locate_corpus("plays")
    assert "".join(source.iter_text(1)) == "one\ntwo\nthree\nfour"
    assert source.name == "plays"
    assert [path.name for path in source.paths] == ["a.txt", "2.txt", "c.MD", "d.txt", "e.txt"]


def test_digest_of_a_file_covers_its_very_bytes(working_folder):
    content = "\ufeffé\r\n".encode() * 1000
    Path("a.txt").write_bytes(content)
    assert locate_corpus("a.txt").sha256() == hashlib.sha256(content).hexdigest()


def test_digest_of_a_folder_is_that_of_its_joined_text(working_folder):
    Path("f").mkdir()
    Path("f/a.txt").write_text("one")
    Path("f/b.txt").write_text("two")
    assert locate_corpus("f").sha256() == hashlib.sha256(b"one\ntwo").hexdigest()


def test_reading_reports_bytes(working_folder):
    Path("a.txt").write_text("x" * 100)
    reported = []
    source = locate_corpus("a.txt")
    list(source.iter_text(40, report=lambda done, total: reported.append((done, total))))
    assert reported[0] == (40, 100)
    assert reported[-1] == (100, 100)


@pytest.mark.parametrize("chunk_bytes", [1, 3, 1 << 20])
@pytest.mark.parametrize(
    ("content", "byte", "offset"),
    [
        ("é".encode() * 3 + b"\xff more", "0xff", "6"),
        (b"\xef\xbb\xbfab\xe4\xb8", "0xe4", "5"),  # ends inside a character
        (b"latin \xe9t\xe9", "0xe9", "6"),
        ("text".encode("utf-16"), "0xff", "0"),
        (b"text\0", "NUL", "4"),
    ],
)
def test_what_is_not_utf8_is_named_with_its_offset(
    working_folder, content, byte, offset, chunk_bytes
):
    Path("bad.txt").write_bytes(content)
    with pytest.raises(UserError) as error:
        text_of("bad.txt", chunk_bytes)
    message = str(error.value)
    assert "bad.txt" in message
    assert byte in message
    assert f"offset {offset};" in message


def test_sample_is_shipped(working_folder):
    source = locate_corpus("sample")
    assert source.size_bytes > 10_000
    assert "".join(source.iter_text()).isascii()


def test_name_is_found_in_data_before_the_cache(working_folder, unreachable_entry, tmp_path):
    cached = tmp_path / "cache" / "corpora" / "far_away.txt"
    cached.parent.mkdir(parents=True)
    cached.write_text("hello")
    assert locate_corpus("far_away").paths == (cached,)
    Path("data").mkdir()
    Path("data/far_away.txt").write_text("hello")
    source = locate_corpus("far_away")
    assert source.paths == (Path("data/far_away.txt"),)
    assert (source.name, source.title) == ("far_away", "Far away")


def test_a_wrong_file_in_data_is_refused(working_folder, unreachable_entry):
    Path("data").mkdir()
    Path("data/far_away.txt").write_text("jello")
    with pytest.raises(UserError, match=r"SHA-256 differs.*--set data\.corpus=data/far_away\.txt"):
        locate_corpus("far_away")
    assert locate_corpus("data/far_away.txt").name == "far_away"


def test_a_damaged_cache_counts_as_not_fetched(working_folder, unreachable_entry, tmp_path):
    cached = tmp_path / "cache" / "corpora" / "far_away.txt"
    cached.parent.mkdir(parents=True)
    cached.write_text("hell")
    assert locate_corpus("far_away") is None


def test_not_fetched_yet(working_folder):
    assert locate_corpus("tiny_shakespeare") is None


def make_fifo() -> None:
    os.mkfifo("pipe.txt")


@pytest.mark.parametrize(
    ("spec", "prepare", "message"),
    [
        ("tiny_shakspeare", None, "did you mean 'tiny_shakespeare'"),
        ("Tiny-Shakespeare", None, "did you mean 'tiny_shakespeare'"),
        ("nowhere/at/all.txt", None, "known: tiny_shakespeare, sample"),
        ("", None, "known: tiny_shakespeare"),
        ("a\0b", None, "called"),
        ("x" * 5000, None, "."),
        ("empty.txt", lambda: Path("empty.txt").touch(), "empty.txt is empty"),
        ("folder", lambda: Path("folder").mkdir(), "has no text files"),
        (
            "folder",
            lambda: (Path("folder").mkdir(), Path("folder/a.txt").touch()),
            "every text file in folder is empty",
        ),
        ("pipe.txt", make_fifo, "not a regular file"),
    ],
)
def test_what_cannot_be_a_corpus_is_one_line(working_folder, spec, prepare, message):
    if prepare:
        prepare()
    with pytest.raises(UserError, match=message) as error:
        locate_corpus(spec)
    assert "\n" not in str(error.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_file(working_folder):
    path = Path("secret.txt")
    path.write_text("text")
    path.chmod(0)
    with pytest.raises(UserError, match=r"cannot read secret\.txt"):
        locate_corpus("secret.txt")


def test_file_that_vanishes_while_it_is_read(working_folder):
    path = Path("a.txt")
    path.write_text("text")
    source = locate_corpus("a.txt")
    path.unlink()
    with pytest.raises(UserError, match=r"cannot read a\.txt"):
        list(source.iter_text())


def test_offline_with_nothing_at_hand_says_what_to_do(working_folder, unreachable_entry):
    with pytest.raises(UserError) as error:
        open_corpus("far_away")
    message = str(error.value)
    assert "data/far_away.txt" in message
    assert "--set data.corpus=sample" in message
    assert "\n" not in message


def test_offline_the_sample_stands_in_where_it_may(working_folder, unreachable_entry):
    notices = []
    source = open_corpus("far_away", notice=notices.append, fallback_to_sample=True)
    assert source.name == "sample"
    assert len(notices) == 1
    assert "far_away" in notices[0]
    assert "sample" in notices[0]


def test_a_misspelt_name_is_no_reason_for_the_sample(working_folder):
    with pytest.raises(UserError, match="did you mean"):
        open_corpus("tiny_shakspeare", fallback_to_sample=True)
