"""The measures under a column: whole at every width a column can have."""

import pytest

from shakespeare_tui.measures import measure_text
from shakespeare_tui.ui.playground.columns_strip import SHOWN, measure_lines

LOOP = "ROMEO:\n" + "the the the the the\n" * 20


@pytest.mark.parametrize("width", [29, 31, 36, 40, 45, 60])
def test_no_value_is_cut_off(width: int) -> None:
    measures = measure_text(LOOP, None).with_surprise(0.94)
    text = measure_lines(measures, frozenset(SHOWN), width).plain
    assert "100%" in text
    assert "0.94" in text
    assert all(len(line) <= width for line in text.splitlines())
    assert text.count("★") == len(SHOWN)
