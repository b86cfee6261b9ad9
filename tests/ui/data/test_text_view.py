"""The text view: wrapping, scrolling over rows that wrap, the split, token ids, huge texts."""

import threading
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from byte_tokenizer import ByteTokenizer
from hypothesis import given, settings
from hypothesis import strategies as st
from lab_harness import press, shown
from rich.cells import cell_len
from textual import events
from textual.app import App, ComposeResult

from shakespeare_tui.data.inspect.line_index import Row
from shakespeare_tui.data.inspect.scan import ScanState, scan_corpus
from shakespeare_tui.data.inspect.text_tokens import PlacedToken, TextTokens
from shakespeare_tui.data.source import locate_corpus
from shakespeare_tui.data.tokenizers.byte_pair import BytePairTokenizer
from shakespeare_tui.data.tokenizers.tokenizer import CharTokenizer, Tokenizer
from shakespeare_tui.data.tokenizers.word import WordTokenizer
from shakespeare_tui.ui.data.text_view import (
    ScreenLine,
    TextLayout,
    TextView,
    end_place,
    moved_place,
)
from shakespeare_tui.ui.widgets.text_glyphs import glyph, glyphs, wrap

WIDTH, HEIGHT = 60, 12
words = st.lists(
    st.sampled_from(["to", "be ", " ", "question", "é", "中文", "🎭", "a\u0301", "\t", "x" * 30])
).map("".join)


class TestWrapping:
    @given(text=words, ends=st.booleans(), width=st.integers(2, 40))
    @settings(deadline=None)
    def test_spans_cover_the_line_and_fit(self, text: str, ends: bool, width: int) -> None:
        line = text + "\n" * ends
        spans = wrap(line, width)
        assert spans[0][0] == 0 and spans[-1][1] == len(line)
        assert all(a[1] == b[0] for a, b in pairwise(spans))
        for start, stop in spans:
            assert cell_len(glyphs(line[start:stop]).rstrip(" ")) <= width
            assert line[start:stop].rstrip("\n") or len(spans) == 1

    def test_words_stay_whole_where_they_fit(self) -> None:
        line = "To be, or not to be, that is the question"
        pieces = [line[a:b] for a, b in wrap(line, 12)]
        assert pieces == ["To be, or ", "not to be, ", "that is the ", "question"]
        assert [b - a for a, b in wrap("x" * 25, 10)] == [10, 10, 5]

    @pytest.mark.parametrize("character", ["\x1b", "\x00", "\x9b", "\u202e", "\u200d", "\ufe0f"])
    def test_nothing_that_steers_a_terminal_is_shown(self, character: str) -> None:
        assert all(shown.isprintable() for shown in glyph(character))
        assert character not in glyphs(f"a{character}b\n")


def characters_of(row: Row) -> list[PlacedToken]:
    places = enumerate(row.text, row.start)
    return [PlacedToken(ord(letter), place, place + 1, letter) for place, letter in places]


def rows_of(texts: list[str]) -> list[Row]:
    rows, start = [], 0
    for number, text in enumerate(texts):
        rows.append(Row(number, start, number, True, text))
        start += len(text)
    return rows


class TestPlaces:
    @given(
        texts=st.lists(words.map(lambda text: text + "\n"), min_size=1, max_size=30),
        height=st.integers(1, 12),
        moves=st.lists(st.integers(-40, 40), max_size=20),
        split=st.integers(0, 300),
        id_cells=st.sampled_from([0, 4]),
    )
    @settings(deadline=None, max_examples=150)
    def test_scrolling_is_as_if_all_lines_were_in_memory(
        self, texts: list[str], height: int, moves: list[int], split: int, id_cells: int
    ) -> None:
        rows = rows_of(texts)
        layout = TextLayout(16, split, id_cells, characters_of)
        places = [(row.number, n) for row in rows for n in range(len(layout.lines(row)))]

        def read(first: int, stop: int) -> list[Row]:
            return rows[max(0, first) : max(0, stop)]

        end = end_place(read, layout, len(rows), height)
        assert places.index(end) == max(0, len(places) - height)
        place = (0, 0)
        for move in moves:
            expected = places.index(place) + move
            moved = moved_place(read, layout, place, move)
            if expected >= len(places):
                assert moved is None
            else:
                assert moved == places[max(0, expected)]
                place = moved or place

    @given(
        texts=st.lists(words.map(lambda text: text + "\n"), min_size=1), split=st.integers(0, 99)
    )
    @settings(deadline=None)
    def test_the_split_stands_before_the_first_validation_character(
        self, texts: list[str], split: int
    ) -> None:
        layout = TextLayout(20, split)
        lines: list[ScreenLine] = [line for row in rows_of(texts) for line in layout.lines(row)]
        total = sum(map(len, texts))
        marks = [n for n, line in enumerate(lines) if line.kind == "split"]
        assert len(marks) == (split < total)
        for line in lines:
            if line.kind == "text":
                assert line.is_validation == (line.row.start + line.start >= split)
                assert line.row.start + line.stop <= split or line.is_validation
        for n in marks:
            after = lines[n + 1]
            assert after.row.start + after.start == split


class TextApp(App[None]):
    """A text view alone."""

    def __init__(self, state: ScanState, tokenizer: Tokenizer | None = None) -> None:
        super().__init__()
        self.state = state
        vocabulary = state.statistics.vocabulary
        self.tokenizer = tokenizer or CharTokenizer.from_vocabulary(vocabulary)

    def compose(self) -> ComposeResult:
        yield TextView()

    def on_mount(self) -> None:
        state = self.state
        tokens = TextTokens(state.index, self.tokenizer)
        assert state.split is not None
        view = self.query_one(TextView)
        view.show_text(state.index, split=state.split.train, tokens=tokens)
        view.focus()


Scan = Callable[[str], ScanState]


@pytest.fixture
def scan(tmp_path: Path) -> Scan:
    def make(text: str) -> ScanState:
        path = tmp_path / "text.txt"
        path.write_bytes(text.encode())
        source = locate_corpus(str(path))
        assert source is not None
        return scan_corpus(source, lambda state: None, threading.Event())

    return make


def verses(n: int) -> str:
    return "".join(f"verse {number} of the poem\n" for number in range(1, n + 1))


def text_lines(app: App[None]) -> list[str]:
    """What the view shows right of the part's mark, without the scrollbar."""
    return [line.partition("│")[2].strip() or line.strip() for line in shown(app).splitlines()]


class TestView:
    async def test_keys_lead_through_the_text_and_to_its_end(self, scan: Scan) -> None:
        app = TextApp(scan(verses(1000)))
        async with app.run_test(size=(WIDTH, HEIGHT)) as pilot:
            await pilot.pause()
            assert shown(app).splitlines()[0].split()[:1] == ["1"]
            await press(pilot, "down", "down", "pagedown")
            assert "verse 14 of the poem" in text_lines(app)[0]
            await press(pilot, "up", "pageup", "up", "up")
            assert "verse 1 of the poem" in text_lines(app)[0]
            await press(pilot, "end")
            assert "verse 1000 of the poem" in shown(app).splitlines()[-1]
            await press(pilot, "pagedown", "down")
            assert "verse 1000 of the poem" in shown(app).splitlines()[-1]
            await press(pilot, "home", "greater_than_sign")
            assert "verse 101 of the poem" in text_lines(app)[0]

    async def test_the_split_is_found_and_marked(self, scan: Scan) -> None:
        state = scan(verses(1000))
        app = TextApp(state)
        async with app.run_test(size=(WIDTH, HEIGHT)) as pilot:
            await press(pilot, "s")
            lines = shown(app).splitlines()
            (rule,) = [n for n, line in enumerate(lines) if "validation begins" in line]
            assert state.split is not None
            assert f"{state.split.train:,}" in lines[rule]
            assert all("│" in line for line in lines[:rule])
            assert all("┃" in line for line in lines[rule + 1 :])

    async def test_ids_are_those_of_the_tokenizer(self, scan: Scan) -> None:
        text = verses(100)
        app = TextApp(scan(text))
        async with app.run_test(size=(WIDTH, HEIGHT)) as pilot:
            await press(pilot, "t")
            first, second = text_lines(app)[:2]
            ids = CharTokenizer(text).encode(text).tolist()
            assert [int(word) for word in second.split()[:10]] == ids[:10]
            assert first.split()[:5] == list("verse")
            await press(pilot, "t")
            assert "verse 1 of the poem" in text_lines(app)[0]

    async def test_long_lines_scroll_line_by_line(self, scan: Scan) -> None:
        app = TextApp(scan(" ".join(f"w{n}" for n in range(3000))))
        async with app.run_test(size=(WIDTH, HEIGHT)) as pilot:
            await pilot.pause()
            seen = [text_lines(app)[0]]
            for _ in range(30):
                await press(pilot, "down")
                seen.append(text_lines(app)[0])
            found = [word for line in seen for word in line.split() if word.startswith("w")]
            # A row of the index may end within a word; nothing else is lost or comes twice.
            whole = [word for word in found if word[1:].isdigit()]
            assert whole[:200] == [f"w{n}" for n in range(200)]
            await press(pilot, "end")
            assert "w2999" in shown(app)

    async def test_the_wheel_moves_three_lines(self, scan: Scan) -> None:
        app = TextApp(scan(verses(100)))
        async with app.run_test(size=(WIDTH, HEIGHT)) as pilot:
            await pilot.pause()
            view = app.query_one(TextView)
            view.scroll_to(y=50)
            await pilot.pause()
            assert "verse 51 of the poem" in text_lines(app)[0]
            wheel = {"widget": view, "x": 5, "y": 5, "delta_x": 0, "delta_y": 0, "button": 0}
            view.post_message(events.MouseScrollDown(**wheel, shift=False, meta=False, ctrl=False))
            await pilot.pause()
            assert "verse 54 of the poem" in text_lines(app)[0]

    async def test_a_resize_keeps_the_place(self, scan: Scan) -> None:
        app = TextApp(scan(verses(100)))
        async with app.run_test(size=(WIDTH, HEIGHT)) as pilot:
            await press(pilot, *["down"] * 30)
            await pilot.resize_terminal(40, 30)
            await pilot.pause()
            assert "verse 31 of the poem" in text_lines(app)[0]

    async def test_a_file_that_goes_away_is_said_in_place(self, scan: Scan) -> None:
        state = scan(verses(20_000))
        app = TextApp(state)
        async with app.run_test(size=(WIDTH, HEIGHT)) as pilot:
            await pilot.pause()
            state.source.paths[0].unlink()
            await press(pilot, *["greater_than_sign"] * 5)
            assert "cannot read" in shown(app)

    async def test_text_is_never_markup(self, scan: Scan) -> None:
        line = "[red]x[/red] [/] [bold $accent]y[/] \\[z]"
        app = TextApp(scan(f"{line}\n" * 50))
        async with app.run_test(size=(WIDTH, HEIGHT)) as pilot:
            await pilot.pause()
            assert line in shown(app)


POEM = "Où est l'été ? 中文 🎭\n\n\n  Zounds!  \n" + "To be or not to be\n" * 30 + "x" * 5000


def tokenizers() -> list[Tokenizer]:
    words = "to be or not to be the the\n"
    return [
        CharTokenizer(POEM),
        BytePairTokenizer.from_corpus(["To be or not to be\n" * 20], 288),
        WordTokenizer.from_corpus([words]),
    ]


class TestTokens:
    @pytest.mark.parametrize("tokenizer", tokenizers(), ids=lambda one: one.name)
    def test_rows_have_the_tokens_of_the_whole_text(self, scan: Scan, tokenizer: Tokenizer) -> None:
        state = scan(POEM)
        tokens = TextTokens(state.index, tokenizer)
        found = [
            token
            for row in state.index.rows(0, state.index.n_rows)
            for token in tokens.of_row(row)
            if token.start >= row.start
        ]
        assert [token.id for token in found] == tokenizer.encode(POEM).tolist()
        assert found[0].start == 0 and found[-1].stop == len(POEM)
        assert all(one.stop == other.start for one, other in pairwise(found))
        for token in found:
            said = tokenizer.token_bytes(token.id)
            text = POEM[token.start : token.stop]
            is_part = not said.isascii()  # of a character
            assert said == text.encode() or said == b" <unk>" or is_part

    async def test_the_cursor_goes_by_token_and_half_a_character_is_bytes(self, scan: Scan) -> None:
        app = TextApp(scan("the € out\n" * 40), ByteTokenizer())
        async with app.run_test(size=(WIDTH, HEIGHT)) as pilot:
            view = app.query_one(TextView)
            seen = []
            for _ in range(7):
                await pilot.press("right")
                assert view.token is not None
                seen.append((view.token.shown, view.token.start))
            euro = [("<E2>", 4), ("<82>", 5), ("<AC>", 5)]
            assert seen == [("th", 0), ("e ", 2), *euro, (" ", 5), ("ou", 6)]
            await pilot.press("left", "left", "t")
            assert "<AC>" in text_lines(app)[0]
            assert view.token is not None and view.token.shown == "<AC>"

    async def test_the_cursor_takes_the_screen_along(self, scan: Scan) -> None:
        app = TextApp(scan("a\n" * 200), ByteTokenizer())
        async with app.run_test(size=(WIDTH, HEIGHT)) as pilot:
            await pilot.press(*["right"] * (2 * HEIGHT + 1))
            view = app.query_one(TextView)
            assert view.token is not None and view.token.start == 2 * HEIGHT
            assert shown(app).splitlines()[-1].split()[0] == str(HEIGHT + 1)
            await pilot.press(*["left"] * 2 * HEIGHT)
            assert shown(app).splitlines()[0].split()[0] == "1"
            await pilot.press("end", "right")  # it is not seen any more: on to what is
            assert view.token.start > 2 * HEIGHT

    @pytest.mark.parametrize("has_ids", [False, True])
    async def test_a_click_chooses_a_token(self, scan: Scan, has_ids: bool) -> None:
        app = TextApp(scan("the € out\n" * 40), ByteTokenizer())
        async with app.run_test(size=(WIDTH, HEIGHT)) as pilot:
            view = app.query_one(TextView)
            await pilot.press(*(["t"] if has_ids else []))
            at = shown(app).splitlines()[0].index("ou")
            assert await pilot.click(TextView, offset=(at + 1, 0))
            assert view.token is not None and view.token.shown == "ou"
