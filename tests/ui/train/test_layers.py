"""The heat strip of the layers: what a cell stands for, and the way from keys to readings."""

import math

import pytest
from lab_harness import MakeApp, press, shown, until
from streams import (
    healthy_run,
    layer_names,
    layers_event,
    make_run,
    run_with_ill_layers,
    step_event,
)

from shakespeare_tui.runs.folder import RunFolder
from shakespeare_tui.runs.history import RunHistory
from shakespeare_tui.ui.themes import HEAT_LEVELS, THEMES, heat_colors
from shakespeare_tui.ui.train.layers import LayersPane, Look, draw_strip, make_strip, rows_of
from shakespeare_tui.ui.train.screen import TrainScreen

PLAIN = Look()


def drawn(events, span=(1, 100), width=16, height=20, **choices) -> list[str]:
    strip = make_strip(events, span, max(2, width - 6), height - 2, **choices)
    return draw_strip(strip, PLAIN, width, height).text().splitlines()


def test_each_layer_has_a_row_where_there_is_room():
    rows, merged = rows_of(layer_names(12), 26)
    assert merged == ""
    assert [row.layers for row in rows] == [(layer,) for layer in layer_names(12)]
    assert [row.label for row in (rows[0], rows[1], rows[-2], rows[-1])] == [
        "embed",
        "attn 1",
        "ffn 12",
        "head",
    ]


@pytest.mark.parametrize(("most", "count", "said"), [(25, 14, "a block"), (5, 5, "4 blocks")])
def test_where_there_is_less_room_blocks_share_rows_and_none_is_lost(most, count, said):
    rows, merged = rows_of(layer_names(12), most)
    assert len(rows) == count <= most
    assert merged.startswith(f"{said} a row")
    assert [layer for row in rows for layer in row.layers] == layer_names(12)


@pytest.mark.parametrize("most", range(1, 30))
@pytest.mark.parametrize("blocks", [1, 2, 5, 30])
def test_rows_fit_whatever_the_room(most, blocks):
    rows, _ = rows_of(layer_names(blocks), most)
    assert len(rows) <= max(most, 3)
    assert all(len(row.label) <= 6 for row in rows)


def test_a_measurement_stands_until_the_next_and_the_last_until_now():
    # A thousand times as large from step 41 on; the columns are ten steps each.
    events = [layers_event(step, dict.fromkeys(layer_names(4), 1.0)) for step in (1, 21)]
    events += [layers_event(41, dict.fromkeys(layer_names(4), 1000.0))]
    for row in drawn(events, last_step=71)[1:5]:
        cells = row[6:].rstrip()
        assert len(cells) == 8
        assert len(set(cells[:4])) == len(set(cells[4:])) == 1
        assert cells[0] != cells[4]


def test_what_is_beyond_the_span_is_not_drawn_but_its_beginning_is_known():
    events = [layers_event(step) for step in (1, 150, 250)]
    assert len(drawn(events, span=(101, 200), last_step=300)[1]) == 16
    assert drawn(events[1:], span=(101, 200), last_step=300)[1][6:10].strip() == ""


def test_a_silent_layer_of_several_is_the_one_that_shows():
    quiet = {"blocks.2.attention": 1e-9}
    events = [layers_event(step, quiet if step > 50 else {}, blocks=6) for step in (1, 21, 61)]
    rows = drawn(events, height=6, last_step=100)
    assert len(rows) == 6
    assert "." not in rows[1][6:] and "." not in rows[3][6:] and "." not in rows[4][6:]
    assert rows[2].startswith("1–3") and rows[2].endswith(".")


def test_updates_have_a_scale_of_their_own_around_a_thousandth():
    strip = make_strip([layers_event(1, update_ratios={"head": 1e-3})], (1, 100), 10, 20)
    assert strip.scale.ends != ("1e-5", "0.1")
    strip = make_strip([layers_event(1)], (1, 100), 10, 20, is_updates=True)
    assert strip.scale.ends == ("1e-5", "0.1")
    assert strip.scale.levels(strip.cells * 0 - 3)[0, 0] == HEAT_LEVELS // 2


@pytest.mark.parametrize("value", [None, math.nan, math.inf, -1.0, 0.0])
def test_odd_figures_and_other_layers_do_no_harm(value):
    events = [layers_event(1), layers_event(2, blocks=2), layers_event(3, {"head": value})]
    for is_updates in (False, True):
        assert drawn(events, is_updates=is_updates, is_log_steps=True, last_step=9)
    assert "".join(drawn([], last_step=9)) == ""


@pytest.mark.parametrize("size", [(1, 1), (7, 3), (300, 90)])
def test_any_size_can_be_drawn(size):
    drawn([layers_event(1), layers_event(90)], (1, 100), *size, last_step=100)


@pytest.mark.parametrize("theme", THEMES, ids=lambda theme: theme.name)
def test_the_levels_have_colours_of_their_own(theme):
    colours = heat_colors(theme)
    assert len(colours) == len(set(colours)) == HEAT_LEVELS


def test_a_history_goes_back_and_stays_small():
    history = RunHistory()
    history.extend([layers_event(step) for step in range(1, 5001)])
    assert len(history.layers) <= 1000
    assert history.layers[0].step == 1 and history.layers[-1].step == 5000
    twin = history.copy()
    history.apply(step_event(6000))
    history.apply(step_event(4990))
    assert history.layers[-1].step == 4989
    history.apply(layers_event(4000))
    assert [event.step for event in history.layers][-2:] == [3985, 4000]
    assert twin.layers[-1].step == 5000


async def test_from_key_to_reading(make_app: MakeApp, runs_root) -> None:
    make_run(runs_root, "ill-1", run_with_ill_layers(600))
    app = make_app("train")
    async with app.run_test(size=(80, 24)) as pilot:
        screen = app.screen
        assert isinstance(screen, TrainScreen)
        screen.open_run(RunFolder(runs_root / "ill-1"))
        await until(lambda: screen.has_class("-replay"))
        await press(pilot, "h")
        assert isinstance(app.focused, LayersPane)
        await until(lambda: "gradient norm" in shown(app))
        await press(pilot, "u")
        await until(lambda: "update / weight" in shown(app))
        await press(pilot, "m", "left", "down", "left")
        words = "step580block1attentiongradient3.2e-4update/weight3.2e-7"
        await until(lambda: words in "".join(shown(app).split()))
        await press(pilot, "escape")
        await until(lambda: "update / weight" in shown(app))
        await pilot.resize_terminal(140, 45)
        await until(lambda: app.focused is not None and app.focused.id == "layers")
        await press(pilot, "m", "home")
        await until(lambda: "step1embedding" in "".join(shown(app).split()))


async def test_a_run_without_measurements_says_how_to_get_them(make_app, runs_root) -> None:
    make_run(runs_root, "plain-1", healthy_run(30))
    app = make_app("train")
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        app.screen.open_run(RunFolder(runs_root / "plain-1"))
        await until(lambda: app.screen.has_class("-replay"))
        await press(pilot, "h")
        await until(lambda: "logging.layers_every" in shown(app))
