"""The chart as a picture: curves, gaps, axes, reference lines, marks, and how fast it is drawn."""

import math
import time
from dataclasses import replace

import numpy as np
import pytest
from rich.style import Style
from streams import BASELINES, busy_run, command, healthy_run, long_run, step_event

from shakespeare_tui.runs.events import EvalCompleted, RunStarted
from shakespeare_tui.runs.history import RunHistory
from shakespeare_tui.runs.losses import QUANTITIES
from shakespeare_tui.ui.widgets.loss_chart import (
    ASCII,
    LossSpec,
    Overlay,
    Viewport,
    draw_loss,
    last_place,
    legend,
    place_text,
    places_of,
    reading,
    stable_slots,
    step_at,
)
from shakespeare_tui.ui.widgets.plot import BRAILLE, Canvas, Curve, draw_curves


def curve(x, y, mark="*", is_line=True, style=None) -> Curve:
    return Curve(np.array(x, float), np.array(y, float), style or Style(), mark, is_line)


def history_of(events) -> RunHistory:
    history = RunHistory()
    history.extend(events)
    return history


def said(groups) -> str:
    """What a line above the chart says."""
    return "  ".join("".join(text for text, _ in group) for group in groups)


def picture(history: RunHistory, width=80, height=20, **choices) -> str:
    spec = LossSpec(
        history=history,
        span=choices.pop("span", (1, max(10, history.last_step))),
        smoothing_steps=choices.pop("smoothing_steps", 25),
        marks=choices.pop("marks", ASCII),
        **choices,
    )
    return draw_loss(spec, width, height).canvas.text()


class TestCurves:
    def test_points_are_where_they_belong(self):
        drawn = draw_curves([curve([0, 4, 9.9], [0, 2.5, 4.9], is_line=False)], 10, 5)
        assert drawn.text().splitlines() == ["         *", "", "    *", "", "*"]

    def test_a_line_joins_its_points_without_holes(self):
        drawn = draw_curves([curve([0, 9], [0, 4])], 10, 5)
        assert sorted(
            (column, row)
            for row in range(5)
            for column in range(10)
            if drawn.characters[row][column] == "*"
        ) == sorted((column, 4 - round(column * 4 / 9)) for column in range(10))

    def test_a_gap_interrupts_the_line(self):
        drawn = draw_curves([curve([0, 3, 5, 6, 9], [1, 1, math.nan, 1, 1])], 10, 3)
        assert drawn.text().splitlines()[1] == "****  ****"

    def test_braille_has_eight_dots_a_cell(self):
        drawn = draw_curves([curve([0.1, 0.6], [0.1, 0.9], BRAILLE, is_line=False)], 2, 2)
        assert drawn.characters[1][0] == chr(0x2800 + 0x40 + 0x08)

    def test_values_far_outside_are_cut_off(self):
        # Cell by cell the way there would take years.
        drawn = draw_curves([curve([0, 5, 9], [1, 1e30, 1])], 10, 3)
        assert drawn.text().count("*") > 4

    def test_the_last_curve_lies_on_top(self):
        red, blue = Style(color="red"), Style(color="blue")
        drawn = draw_curves(
            [curve([0, 9], [1, 1], style=red), curve([4], [1], "o", False, blue)], 10, 3
        )
        assert drawn.text().splitlines()[1] == "****o*****"
        assert drawn.styles[1][4] == blue
        assert drawn.styles[1][5] == red

    def test_nothing_to_draw_is_an_empty_canvas(self):
        assert draw_curves([curve([0, 1], [math.nan, math.nan])], 10, 3).text().strip() == ""
        assert draw_curves([], 1, 1).text().strip() == ""


class TestCanvas:
    def test_what_lies_outside_is_left_out(self):
        canvas = Canvas(4, 1)
        canvas.write(-1, 0, "abcdefgh")
        canvas.write(0, 5, "no")
        assert canvas.text() == "bcde"

    def test_a_copy_is_independent(self):
        canvas = Canvas(3, 1)
        canvas.copy().write(0, 0, "x")
        assert canvas.text() == ""

    def test_strips_hold_every_cell(self):
        canvas = Canvas(6, 2)
        canvas.write(1, 0, "ab", Style(bold=True))
        assert [strip.text for strip in canvas.strips()] == [" ab   ", "      "]


class TestLossPicture:
    def test_reference_lines_carry_their_names_and_values(self):
        text = picture(history_of(healthy_run(600)))
        for name, loss in BASELINES.items():
            assert f"{name} {loss:.2f}" in text

    def test_marks_stand_at_their_steps(self):
        history = history_of(busy_run(1000))
        drawn = draw_loss(LossSpec(history, (1, 1000), 25, marks=ASCII), 106, 20)
        rail = "".join(drawn.canvas.characters[-2])
        column = {step: drawn.left + drawn.steps.cell(step) for step in (400, 500, 700)}
        assert rail[column[400]] == ">"
        assert rail[column[500]] == "C"
        assert rail[column[700]] == "!"

    def test_losses_that_are_not_finite_never_set_the_axis(self):
        events = [*healthy_run(300)]
        odd = [step_event(301, math.inf), step_event(302, math.nan), step_event(303, 2.0)]
        assert picture(history_of(events), span=(1, 303)) != ""
        text = picture(history_of(events + odd), span=(1, 303))
        assert "4.0" in text
        assert "inf" not in text
        assert "nan" not in text

    def test_a_lone_spike_does_not_flatten_the_curve(self):
        events = [*healthy_run(1000), step_event(1001, 1e6)]
        assert "4.0" in picture(history_of(events))

    def test_a_run_without_steps_shows_its_reference_lines(self):
        text = picture(history_of([next(healthy_run(1))]))
        assert "bigram 2.49" in text

    def test_no_baselines_and_equal_losses_do_no_harm(self):
        start = RunStarted(run="a", config={}, parameters=1, device="cpu", vocab_size=2)
        history = history_of([start, *(step_event(step, 2.0) for step in range(1, 50))])
        assert "2." in picture(history)

    @pytest.mark.parametrize("losses", [[0.0], [0.0, 1e-9, 0.3], [2.0, 0.0, 300.0], []])
    @pytest.mark.parametrize("baseline", [0.0, 1.5])
    @pytest.mark.parametrize("is_log", [False, True])
    def test_losses_and_baselines_of_zero_are_drawn(self, losses, baseline, is_log):
        baselines = {"uniform": baseline, "unigram": 0.0}
        start = RunStarted(
            run="a", config={}, parameters=1, device="cpu", vocab_size=1, baselines=baselines
        )
        steps = [step_event(n + 1, loss) for n, loss in enumerate(losses * 20)]
        text = picture(history_of([start, *steps]), is_log_steps=is_log, is_log_loss=is_log)
        assert ("*" in text) == bool(losses)
        assert "nan" not in text and "inf" not in text

    def test_a_loss_that_shot_up_has_whole_ticks_in_one_format(self):
        start = RunStarted(run="a", config={}, parameters=1, device="cpu", vocab_size=0)
        history = history_of([start, *(step_event(n, 1.2 * 1.04**n) for n in range(1, 112))])
        rows = picture(history, is_log_loss=True).splitlines()
        ticks = [row.split("┤")[0].strip() for row in rows if "┤" in row]
        assert ticks == ["100.0", "50.0", "20.0", "10.0", "5.0", "2.0"]

    @pytest.mark.parametrize("size", [(1, 1), (3, 2), (20, 5), (400, 100)])
    def test_any_size_can_be_drawn(self, size):
        history = history_of(busy_run(300))
        for is_log in (False, True):
            picture(history, *size, is_log_steps=is_log, is_log_loss=is_log)

    def test_a_logarithmic_axis_gives_the_first_steps_room(self):
        history = history_of(healthy_run(1000))
        spec = LossSpec(history, (1, 1000), 1, is_log_steps=True, marks=ASCII)
        drawn = draw_loss(spec, 96, 20)
        assert drawn.steps.cell(10) == 30
        assert drawn.steps.cell(100) == 60

    def test_overlays_are_drawn_with_marks_of_their_own(self):
        history = history_of(healthy_run(100))
        other = history_of(
            [next(healthy_run(1)), *(step_event(step, 3.0) for step in range(1, 101))]
        )
        overlays = [Overlay("other", other, Style(), "+")]
        assert "+" not in picture(history)
        assert "+" in picture(history, overlays=overlays)

    def test_runs_of_other_tokenizers_are_drawn_in_bits_per_byte(self):
        def history(vocab_size: int, size: float, loss: float) -> RunHistory:
            started, *_ = healthy_run(1)
            kind = replace(started, vocab_size=vocab_size, bytes_per_token=size, baselines={})
            return history_of([kind, *(step_event(s, loss) for s in range(1, 101))])

        characters, pairs = history(65, 1.0, 1.5), history(512, 2.0, 3.0)
        spec = LossSpec(
            history=characters,
            span=(1, 100),
            smoothing_steps=1,
            overlays=[Overlay("pairs", pairs, Style(), "+")],
            marks=ASCII,
        )
        said = "".join(text for group in legend(spec) for text, _ in group)
        assert "bits per byte" in said
        read = "".join(text for group in reading(spec, 100, 100, 100) for text, _ in group)
        # Both lose as many bits on as much text.
        assert read.count("2.1640") == 2
        alone = replace(spec, overlays=[])
        assert "1.5000" in "".join(t for g in reading(alone, 100, 100, 100) for t, _ in g)
        unknown = replace(spec, overlays=[Overlay("old", history(512, 0.0, 3.0), Style(), "+")])
        assert "+" not in draw_loss(unknown, 80, 20).canvas.text()

    def test_perplexities_are_the_exponentials_of_the_losses(self):
        history = history_of(healthy_run(600))
        spec = LossSpec(history, (1, 600), 25, quantity="perplexity", marks=ASCII)
        text = draw_loss(spec, 80, 20).canvas.text()
        for name in ("uniform", "unigram", "bigram"):
            assert f"{name} {math.exp(BASELINES[name]):.2f}" in text
        assert "perplexity" in said(legend(spec))
        val = history.series("val_loss").last()
        read = said(reading(spec, 600, 600, 600))
        assert f"val ~{math.exp(val):.2f}" in read and "accuracy ~55.0%" in read

    def test_accuracy_is_drawn_of_evaluations_alone_and_against_no_baseline(self):
        history = history_of(healthy_run(1000))
        history.apply(
            EvalCompleted(step=1000, train_loss=1.5, val_loss=1.6, protocol="exact", accuracy=0.75)
        )
        other = [
            replace(event, accuracy=0.6) if isinstance(event, EvalCompleted) else event
            for event in healthy_run(500)
        ]
        overlays = [Overlay("other", history_of(other), Style(), "+")]
        spec = LossSpec(history, (1, 1000), 25, quantity="accuracy", marks=ASCII)
        drawn = draw_loss(spec, 96, 20)
        rows = drawn.canvas.text().splitlines()
        dots = [row for row in rows if "o" in row]
        assert len(dots) == 1 and dots[0].count("o") == 4  # the same 55 % at each evaluation
        assert sum("O" in row for row in rows) == 1
        assert not any(name in drawn.canvas.text() for name in BASELINES)
        ticks = [float(row.split("┤")[0]) for row in rows if "┤" in row]
        assert ticks[0] > 70 and ticks[-1] < 60
        assert "accuracy in %" in said(legend(spec))
        assert said(reading(spec, 1000, 1000, 1000)).count("accuracy ~55.0%") == 1
        beside = replace(spec, overlays=overlays)
        assert "+" in draw_loss(beside, 96, 20).canvas.text()
        assert "other 60.0%" in said(reading(beside, 1000, 1000, 1000))
        # Of another tokenizer's tokens, it is another figure.
        started, *rest = other
        apart = history_of([replace(started, vocab_size=512), *rest])
        beside = replace(spec, overlays=[Overlay("other", apart, Style(), "+")])
        assert "+" not in draw_loss(beside, 96, 20).canvas.text()

    @pytest.mark.parametrize("quantity", QUANTITIES)
    def test_a_run_without_evaluations_or_accuracies_is_drawn(self, quantity):
        start = RunStarted(run="a", config={}, parameters=1, device="cpu", vocab_size=5)
        old = EvalCompleted(step=20, train_loss=2.0, val_loss=2.0, protocol="subset")
        events = [start, *(step_event(n, 2.0) for n in range(1, 21)), old]
        for count in (1, 21, 22):
            for is_log in (False, True):
                text = picture(history_of(events[:count]), quantity=quantity, is_log_loss=is_log)
                assert "nan" not in text and "┤" in text

    def test_a_run_of_very_many_steps_is_drawn_as_fast_as_a_short_one(self):
        def seconds(history: RunHistory) -> float:
            best = math.inf
            for _ in range(5):
                started = time.thread_time()  # of the processor: others may want it, too
                picture(history, 120, 40)
                best = min(best, time.thread_time() - started)
            return best

        short, long = history_of(long_run(200)), history_of(long_run(120_000))
        # Six hundred times the steps.
        assert seconds(long) < 6 * seconds(short)


class TestViewport:
    def test_it_follows_the_run_until_told_otherwise(self):
        assert Viewport().span(500) == (1, 500)
        half = Viewport().zoomed(0.5, None, 500)
        assert half.span(500) == (251, 500)
        assert half.span(600) == (351, 600)

    def test_zooming_keeps_the_cursor_in_place(self):
        start, end = Viewport().zoomed(0.5, 200, 1000).span(1000)
        assert end - start + 1 == 500
        assert (200 - start) / (end - start) == pytest.approx(200 / 1000, abs=0.01)

    def test_zooming_out_far_enough_shows_everything(self):
        view = Viewport().zoomed(0.1, 500, 1000)
        for _ in range(6):
            view = view.zoomed(2, 500, 1000)
        assert view == Viewport()

    def test_it_never_shows_less_than_a_handful_of_steps(self):
        view = Viewport()
        for _ in range(30):
            view = view.zoomed(0.5, 3, 1000)
        start, end = view.span(1000)
        assert 1 <= start <= 3 <= end
        assert end - start >= 5

    def test_panning_stops_at_both_ends(self):
        view = Viewport().zoomed(0.1, None, 1000)
        back = view.panned(-100, 1000)
        assert back.span(1000)[0] == 1
        assert back.panned(100, 1000).span(2000)[1] == 2000

    def test_a_step_outside_is_brought_into_view(self):
        view = Viewport().zoomed(0.1, None, 1000)
        assert view.showing(5, 1000).span(1000) == (5, 104)
        assert view.showing(950, 1000) == view


class TestOverlayColours:
    def test_a_run_has_the_same_colour_wherever_it_is_shown(self):
        assert stable_slots(["tiny-1"], 5) == [stable_slots(["tiny-1", "quick-3"], 5)[0]]

    def test_two_runs_never_share_a_colour_while_there_are_enough(self):
        names = [f"run-{number}" for number in range(5)]
        assert sorted(stable_slots(names, 5)) == [0, 1, 2, 3, 4]

    def test_more_runs_than_colours_still_have_one_each(self):
        assert len(stable_slots([f"run-{number}" for number in range(9)], 5)) == 9


def test_commands_are_named_on_the_chart():
    history = history_of([*healthy_run(10), command(10, "AddNote", text="a\nb")])
    assert [marker.text for marker in history.markers] == ["note: a b"]


class TestAlong:
    """What the chart runs along: steps, tokens, or time."""

    def test_places_are_those_of_the_run(self):
        history = history_of(healthy_run(400, batch_size=8))
        model = history.config["model"]
        tokens = 8 * (history.config["data"]["seq_len"] or model["max_seq_len"])
        steps = np.array([1, 37, 400])
        assert places_of(history, "steps", steps).tolist() == [1, 37, 400]
        assert places_of(history, "tokens", steps).tolist() == (steps * tokens).tolist()
        assert np.allclose(places_of(history, "time", steps), 50.0 * steps)  # 0.05 s a step
        for along in ("steps", "tokens", "time"):
            for step in (1, 37, 400):
                place = float(places_of(history, along, step))
                assert step_at(history, along, place) == step
        assert step_at(history, "time", 50.0 * 401) > 400

    def test_the_whole_range_is_where_the_run_will_end(self):
        history = history_of(healthy_run(500, max_steps=2000))
        assert last_place(history, "steps") == 500
        assert last_place(history, "steps", is_whole=True) == 2000
        assert last_place(history, "time", is_whole=True) == pytest.approx(100_000, rel=0.01)
        tokens = last_place(history, "tokens")
        assert last_place(history, "tokens", is_whole=True) == 4 * tokens
        timed = history_of(healthy_run(500, minutes=1))
        assert last_place(timed, "time", is_whole=True) == 60_000
        assert last_place(timed, "steps", is_whole=True) == 1200

    def test_runs_of_other_batches_lie_where_their_tokens_do(self):
        """Of the same losses by step, those of half the batch are reached in half the tokens."""
        whole = history_of(healthy_run(400, batch_size=16))
        half = history_of(healthy_run(400, batch_size=8))
        end = last_place(whole, "tokens")
        over = Overlay("half", half, Style(), "+")
        spec = LossSpec(whole, (1, end), 25, overlays=(over,), along="tokens", marks=ASCII)
        text = draw_loss(spec, 86, 20).canvas.text()
        assert max(line.rfind("+") for line in text.splitlines()) in range(40, 48)
        said_there = said(reading(spec, end // 4, end // 4, end // 4))
        # A quarter of the tokens is step 100 of the one, and step 200 of the other.
        values = [
            history.smoothed_loss(25).window(0, at).values[-1]
            for history, at in ((whole, 100), (half, 200))
        ]
        assert f"mean {values[0]:.4f}" in said_there and f"half {values[1]:.4f}" in said_there

    def test_the_reference_says_how_far_we_lie_above_it(self):
        history, other = history_of(healthy_run(300)), history_of(healthy_run(300))
        over = Overlay("tiny-1", other, Style(), "+")
        spec = LossSpec(history, (1, 300), 25, overlays=(over,), reference="tiny-1", marks=ASCII)
        assert "tiny-1 (reference)" in said(legend(spec))
        assert "(+0.0000)" in said(reading(spec, 200, 200, 200))

    @pytest.mark.parametrize(
        ("along", "place", "text"),
        [
            ("steps", 1200, "1,200"),
            ("tokens", 500, "500"),
            ("tokens", 2_500_000, "2.5M"),
            ("time", 1, "0s"),
            ("time", 90_000, "1m 30s"),
            ("time", 120_000, "2m"),
            ("time", 250, "0.25s"),
        ],
    )
    def test_places_as_text(self, along, place, text):
        assert place_text(along, place, is_short=True) == text
