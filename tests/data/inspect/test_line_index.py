import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shakespeare_tui.data.inspect import line_index
from shakespeare_tui.data.inspect.line_index import ByteStream, LineIndex, LineIndexBuilder
from shakespeare_tui.data.source import TextSource, locate_corpus
from shakespeare_tui.errors import UserError


def source_of(folder, *contents: bytes) -> TextSource:
    paths = []
    for number, content in enumerate(contents):
        path = folder / f"{number:03}.txt"
        path.write_bytes(content)
        paths.append(path)
    return TextSource("text", "text", tuple(paths), sum(map(len, contents)))


def index_of(
    source: TextSource, chunk_bytes: int = 1 << 20, stream: ByteStream | None = None
) -> LineIndex:
    builder = LineIndexBuilder(stream or ByteStream(source))
    for text in source.iter_text(chunk_bytes):
        builder.feed(text)
    return builder.snapshot()


def rows_by_hand(text: str, longest: int) -> list[tuple[int, int, bool, str]]:
    """(start, line, is_line_start, text) of every row, the slow and obvious way."""
    rows = []
    start = 0
    for line, piece in enumerate(text.split("\n")):
        is_last_line = start + len(piece) == len(text)
        if is_last_line and not piece:
            break
        cuts = range(0, max(1, len(piece)), longest)
        for cut in cuts:
            content = piece[cut : cut + longest]
            if cut == cuts[-1] and not is_last_line:
                content += "\n"
            rows.append((start + cut, line, cut == 0, content))
        start += len(piece) + 1
    return rows


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(line_index, "ROW_CHARACTERS", 7)
    monkeypatch.setattr(line_index, "BLOCK_CHARACTERS", 20)


texts = st.lists(
    st.sampled_from(
        ["\n", "\n", "a", "bc", "é", "中文", "🎭", "\r\n", "to be or not", "\x0b", "\u2028"]
    )
).map("".join)


@given(text=texts, chunk_bytes=st.integers(1, 64))
@settings(max_examples=150, deadline=None)
def test_rows_lines_and_characters_agree_with_a_plain_split(
    tmp_path_factory, text: str, chunk_bytes: int
):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(line_index, "ROW_CHARACTERS", 7)
        patch.setattr(line_index, "BLOCK_CHARACTERS", 20)
        source = source_of(tmp_path_factory.mktemp("text"), text.encode())
        index = index_of(source, chunk_bytes)
        expected = rows_by_hand(text, 7)
        found = index.rows(0, index.n_rows + 5)
        assert [(r.start, r.line, r.is_line_start, r.text) for r in found] == expected
        assert [row.number for row in found] == list(range(index.n_rows))
        assert index.n_characters == len(text)
        assert index.n_lines == len({line for _, line, _, _ in expected})
        for first, stop in itertools.product(range(0, index.n_rows, 3), repeat=2):
            assert index.rows(first, stop) == found[first:stop]
        for row in found:
            assert index.row_of_character(row.start) == row.number
            assert index.row_of_character(row.stop - 1) == row.number
        for start in range(0, len(text), 5):
            assert index.text(start, start + 33) == text[start : start + 33]


files = st.lists(
    st.sampled_from([b"", b"a", b"a\n", b"\xef\xbb\xbf", b"\xef\xbb\xbfa\nb", b"\n", "é".encode()]),
    max_size=5,
)


@given(contents=files)
@settings(max_examples=80, deadline=None)
def test_the_byte_stream_of_a_folder_is_the_text_as_it_is_scanned(tmp_path_factory, contents):
    source = source_of(tmp_path_factory.mktemp("files"), *contents)
    stream = ByteStream(source)
    expected = "".join(source.iter_text()).encode()
    assert stream.size == len(expected)
    assert stream.read(0, stream.size) == expected
    for start, stop in itertools.combinations(range(len(expected) + 1), 2):
        assert stream.read(start, stop) == expected[start:stop]


def test_a_snapshot_taken_while_scanning_stays_as_it_was(tmp_path, small_blocks):
    text = "".join(f"line {number} of many\n" for number in range(3000))
    source = source_of(tmp_path, text.encode())
    builder = LineIndexBuilder(ByteStream(source))
    builder.feed(text[:10_000])
    early = builder.snapshot()
    rows = early.rows(0, early.n_rows)
    builder.feed(text[10_000:])
    assert early.n_characters == 10_000
    assert "".join(row.text for row in rows) == text[:10_000]
    assert early.rows(0, early.n_rows) == rows
    whole = builder.snapshot()
    assert "".join(row.text for row in whole.rows(0, whole.n_rows)) == text


def test_the_real_blocks_find_the_last_lines_of_the_sample():
    source = locate_corpus("sample")
    text = source.paths[0].read_text("utf-8")
    index = index_of(source)
    lines = text.splitlines()
    assert index.n_lines == len(lines)
    assert [row.text.rstrip("\n") for row in index.rows(index.n_rows - 3, index.n_rows)] == (
        lines[-3:]
    )


def test_an_empty_text_has_no_rows(tmp_path):
    index = index_of(source_of(tmp_path, b""))
    assert (index.n_rows, index.n_lines, index.n_characters) == (0, 0, 0)
    assert index.rows(0, 10) == []
    assert index.row_of_character(5) == 0
    assert index.text(0, 10) == ""


class CountingBytes(ByteStream):
    """Counts the bytes that are read."""

    n_read = 0

    def read(self, start: int, stop: int) -> bytes:
        self.n_read += stop - start
        return super().read(start, stop)


def test_a_line_without_an_end_is_cut_and_little_is_read_to_find_a_place_in_it(tmp_path):
    text = "x" * 5_000_000
    source = source_of(tmp_path, text.encode())
    stream = CountingBytes(source)
    index = index_of(source, stream=stream)
    assert index.n_rows == 2500
    assert index.n_lines == 1
    stream.n_read = 0
    row = index.row_of_character(4_000_001)
    assert index.rows(row, row + 1)[0].start == 4_000_000
    assert 0 < stream.n_read < 200_000


def test_a_file_that_shrinks_or_goes_does_not_break_reading(tmp_path, small_blocks):
    source = source_of(tmp_path, b"one line\n" * 100)
    index = index_of(source)
    source.paths[0].write_bytes(b"one line\n" * 10)
    rows = index.rows(0, index.n_rows)
    assert len(rows) == index.n_rows
    assert rows[0].text == "one lin"
    again = index_of(source)
    source.paths[0].unlink()
    with pytest.raises(UserError, match="cannot read"):
        again.rows(0, 1)


def test_the_index_of_a_large_text_is_small(tmp_path):
    line = b"To be, or not to be, that is the question.\n"
    source = source_of(tmp_path, line * 200_000)
    index = index_of(source)
    assert index.n_lines == 200_000
    assert index.marks.nbytes < source.size_bytes / 500
    row = index.rows(123_456, 123_457)[0]
    assert (row.line, row.start, row.text.encode()) == (123_456, 123_456 * len(line), line)
