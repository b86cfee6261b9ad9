"""``bench``: turns, ratios, the plain loop that it compares with, and the command."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from real_cli import CommandLine

from shakespeare_tui.bench.decoding import STRATEGIES
from shakespeare_tui.bench.figures import Figures, Watcher
from shakespeare_tui.bench.plain import PlainLoop, exact_loss
from shakespeare_tui.cli.bench import PARTS
from shakespeare_tui.config.load import load_config
from shakespeare_tui.errors import CancelledError, never
from shakespeare_tui.sampling import parse_strategy


def test_contenders_take_turns_and_are_told() -> None:
    lines: list[str] = []
    order: list[str] = []

    def measured(name: str) -> float:
        order.append(name)
        return float(len(order))

    contenders = {"a": lambda: measured("a"), "b": lambda: measured("b")}
    samples = Watcher(lines.append, never).in_turn("race", contenders, 2)
    assert order == ["a", "b", "a", "b"]
    assert samples == {"a": (1.0, 3.0), "b": (2.0, 4.0)}
    assert lines[-1] == "race: b, round 2 of 2"


def test_a_watcher_calls_it_off_between_two_measurements() -> None:
    polls = iter([False, True])
    watcher = Watcher(lambda line: None, lambda: next(polls))
    with pytest.raises(CancelledError):
        watcher.in_turn("race", {"a": lambda: 1.0, "b": lambda: 1.0}, 1)


@pytest.mark.parametrize(("is_rate", "ratio"), [(True, 2.0), (False, 0.5)])
def test_ratios_say_how_many_times_better(is_rate: bool, ratio: float) -> None:
    samples = {"plain": (1.0, 9.0, 3.0), "ours": (6.0,)}
    figures = Figures("race", "ms", samples, ("plain", "missing"), is_rate=is_rate)
    assert figures.ratio("ours", "plain") == ratio
    found = json.loads(json.dumps(figures.as_json()))["contenders"]
    assert found["plain"] == {
        "median": 3.0,
        "least": 1.0,
        "most": 9.0,
        "samples": [1.0, 9.0, 3.0],
        "ratios": {},
    }
    assert found["ours"]["ratios"] == {"plain": ratio}


def test_the_plain_loop_learns_and_its_loss_is_of_every_token_but_the_first() -> None:
    config = load_config("nanogpt-cpu", ["model.d_model=16", "model.n_layers=1"])
    text = torch.arange(5_000) % 7
    loop = PlainLoop(config, text, 7)
    ids = text[:150].numpy().astype(np.int64)
    context = config.model.max_seq_len
    with torch.no_grad():
        losses = [
            F.cross_entropy(loop.model(window[None, :-1])[0], window[1:], reduction="none")
            for window in (
                text[start : min(start + context, 149) + 1] for start in (0, context, 2 * context)
            )
        ]
    before = exact_loss(loop.model, ids)
    assert before == pytest.approx(torch.cat(losses).mean().item(), abs=1e-6)
    for _ in range(30):
        loop.step()
    assert exact_loss(loop.model, ids) < 0.9 * before


def test_the_strategies_that_are_measured_can_be_read() -> None:
    for strategy in STRATEGIES:
        assert parse_strategy(strategy).text


def test_unknown_parts_are_refused(cli: CommandLine) -> None:
    outcome = cli("bench", "speed")
    assert outcome.code == 2
    assert "there is no part 'speed'; there are ceilings, start, training, loss" in outcome.err
    both = cli("bench", "ceilings", "--run", "mine")
    assert both.code == 2 and "leave out one" in both.err
    elsewhere = cli("bench", "loss", "--streams", "8")
    assert elsewhere.code == 2 and "--streams chooses within one part" in elsewhere.err
    several = cli("bench", "beside", "memory", "--config", "quick")
    assert several.code == 2 and "bench training, beside or memory" in several.err


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("part", PARTS)
def test_every_part_measures(part: str, cli: CommandLine) -> None:
    outcome = cli("bench", part, "--json")
    assert outcome.code == 0, outcome.err
    found = json.loads(outcome.out)
    assert "torch" in found["machine"]["versions"]
    for figures in found["parts"][part]:
        for contender in figures["contenders"].values():
            assert 0 <= contender["least"] <= contender["median"] <= contender["most"] > 0
