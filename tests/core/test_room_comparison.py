from shakespeare_tui.core.measures import measure_text
from shakespeare_tui.core.room.comparison import figure_rows, measure_rows, settings_rows
from shakespeare_tui.core.room.differences import preset_texts


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


def test_figures_are_rows_with_gaps() -> None:
    assert figure_rows([{"a": "1"}, {"a": "2", "b": "3"}]) == [
        ("a", ("1", "2"), (False, False)),
        ("b", ("-", "3"), (False, False)),
    ]
