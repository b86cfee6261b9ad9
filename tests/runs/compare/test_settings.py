import dataclasses

from shakespeare_tui.measures import best_measures, measure_text
from shakespeare_tui.runs.compare.settings import (
    figure_rows,
    measure_rows,
    preset_texts,
    settings_rows,
)


def test_only_settings_that_differ_from_the_first_are_rows() -> None:
    first = dict(preset_texts("quick"))
    second = first | {"model.dropout": "0.3", "model.d_ff": "", "logging.every": "7"}
    assert settings_rows([first, first]) == []
    assert settings_rows([None]) == []
    rows = {name: (values, marks) for name, values, marks in settings_rows([first, None, second])}
    assert rows["model.dropout"] == ((first["model.dropout"], "?", "0.3"), (False, False, True))
    assert "logging.every" not in rows


def test_the_best_of_each_measure_stands_out() -> None:
    varied, dull = measure_text("the king is dead", None), measure_text("no no no no no", None)
    rows = {name: (values, best) for name, values, best in measure_rows([varied, None, dull])}
    assert rows["distinct-1"] == (("100.0%", "-", "20.0%"), (True, False, False))
    assert rows["longest loop"][1] == (True, False, False)
    assert "copied" not in rows
    equal = {name: best for name, _, best in measure_rows([varied, varied])}
    assert not any(any(best) for best in equal.values())
    assert measure_rows([None]) == []


def test_a_tie_and_a_text_caught_in_a_loop_have_no_star() -> None:
    """As greedy decoding writes: it copies nothing and is well laid out, over and over."""
    plain = measure_text("the king is dead and the queen is well", None)
    tied = measure_text("the king is mad and the queen is well", None)
    loop = measure_text("the king is " * 9, None)
    assert loop.is_looping
    assert not plain.is_looping
    for name in ("distinct_1", "real_word_rate"):
        assert all(name not in names for names in best_measures([plain, tied]))
    copied = dataclasses.replace(loop, real_word_rate=1.0, distinct_1=0.0)
    other = dataclasses.replace(plain, real_word_rate=0.9)
    loops, writes = best_measures([copied, other])
    assert loops == frozenset()
    assert "real_word_rate" not in writes
    assert "distinct_1" in writes


def test_what_is_shown_alike_is_a_tie() -> None:
    one = measure_text("the king is dead", None)
    first, second = (dataclasses.replace(one, distinct_2=share) for share in (0.904, 0.901))
    assert "distinct_2" in best_measures([first, second])[0]
    shown = best_measures([first, second], lambda kind, value: f"{value or 0:.0%}")
    assert shown == [frozenset(), frozenset()]


def test_figures_are_rows_with_gaps() -> None:
    assert figure_rows([{"a": "1"}, {"a": "2", "b": "3"}]) == [
        ("a", ("1", "2"), (False, False)),
        ("b", ("-", "3"), (False, False)),
    ]
