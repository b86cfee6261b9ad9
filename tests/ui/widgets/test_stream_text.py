"""Lines of a growing text: however it came, they are those of the whole text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from textual.app import App

from shakespeare_tui.ui.widgets.stream_text import StreamLines, StreamText

TEXTS = st.text(st.sampled_from("ab \n中é"), max_size=60)


def spans(lines: StreamLines) -> list[tuple[int, int]]:
    return [lines.span(number) for number in range(len(lines))]


@given(st.lists(TEXTS, max_size=8), st.integers(1, 12))
def test_appending_breaks_lines_as_the_whole_text_does(pieces: list[str], width: int) -> None:
    growing, whole = StreamLines(width), StreamLines(width)
    for piece in pieces:
        growing.append(piece)
    whole.set_text("".join(pieces))
    assert growing.text == whole.text
    assert spans(growing) == spans(whole)


@given(TEXTS, st.integers(1, 12))
def test_lines_cover_the_text_and_every_place_is_found_again(text: str, width: int) -> None:
    lines = StreamLines(width)
    lines.set_text(text)
    assert "".join(text[a:b] for a, b in spans(lines)) == text
    for position in range(len(text)):
        line = lines.line_of(position)
        start, stop = lines.span(line)
        assert start <= position < stop
        if text[position] != "\n":
            assert lines.position_at(line, lines.column_of(position)) == position


class OneText(App[None]):
    def compose(self):
        yield StreamText()


@pytest.mark.parametrize("n_lines", [11, 12, 13])
async def test_the_bar_is_there_where_a_text_does_not_fit_however_it_was_before(
    n_lines: int,
) -> None:
    app = OneText()
    async with app.run_test(size=(10, 12)) as pilot:
        stream = app.query_one(StreamText)
        stream.begin("\n".join(["fifteen letters"] * n_lines), 0)
        await pilot.pause()
        assert len(stream.lines) == 2 * n_lines and stream.show_vertical_scrollbar
        await pilot.resize_terminal(40, 12)
        await pilot.pause()
        assert len(stream.lines) == n_lines
        assert stream.show_vertical_scrollbar == (n_lines > 12)
