"""Strategies as text: reading, writing, editing, and every message for a mistake."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shakespeare_tui.errors import UserError
from shakespeare_tui.sampling import (
    CLASSIC,
    STEP_KINDS,
    Parameter,
    Step,
    StepKind,
    Strategy,
    parse_strategies,
    parse_strategy,
    strategy_from_flags,
)
from shakespeare_tui.visible_text import is_harmless


def values_of(parameter: Parameter) -> st.SearchStrategy[int | float]:
    if parameter.type is int:
        return st.integers(int(parameter.low), int(parameter.high))
    return st.floats(parameter.low, parameter.high, exclude_min=parameter.excludes_low)


def steps_of(kind: StepKind) -> st.SearchStrategy[Step]:
    return st.builds(kind.make, **{each.name: values_of(each) for each in kind.parameters})


@st.composite
def any_strategies(draw: st.DrawFn) -> Strategy:
    kinds = draw(st.lists(st.sampled_from(list(STEP_KINDS.values())), min_size=1, unique=True))
    methods = [kind for kind in kinds if kind.method][:1]
    shaping = [kind for kind in kinds if not kind.method]
    return Strategy(tuple(draw(steps_of(kind)) for kind in shaping + methods))


@given(any_strategies())
def test_text_reads_back_as_the_same_strategy(strategy: Strategy) -> None:
    again = parse_strategy(strategy.text)
    assert again == strategy
    assert again.text == strategy.text
    assert again.parameters == strategy.parameters
    json.dumps(strategy.parameters, allow_nan=False)


@pytest.mark.parametrize("name", sorted(STEP_KINDS))
def test_every_step_can_be_written_alone_and_says_what_it_is(name: str) -> None:
    kind = STEP_KINDS[name]
    strategy = parse_strategy(name)
    assert strategy.steps == (kind.make(),)
    assert kind.name == name
    assert kind.title
    assert kind.help.endswith(".")
    for parameter in kind.parameters:
        assert parameter.help.endswith(".")
        assert parameter.check(parameter.default, name) == parameter.default
        assert 0 < parameter.nudge <= parameter.high - parameter.low


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("temperature=0.80  top_k=20", "temperature=0.8 top_k=20"),
        ("Top-K=5", "top_k=5"),
        ("temperature=1.0", "temperature=1"),
        ("temperature", "temperature=0.8"),
        ("temperature,temperature=2", "temperature=2"),
        ("top_k,k=7", "top_k=7"),
        ("top_k=1e1", "top_k=10"),
        ("repetition_penalty=1.2,last=0", "repetition_penalty=1.2"),
        ("repetition_penalty=1.2,last=32", "repetition_penalty=1.2,last=32"),
        ("beam=4,length_penalty=1", "beam=4"),
        ("beam=4,length_penalty=0.5 temperature=2", "temperature=2 beam=4,length_penalty=0.5"),
        ("greedy repetition_penalty=1.3", "repetition_penalty=1.3 greedy"),
    ],
)
def test_text_is_canonical(written: str, canonical: str) -> None:
    assert parse_strategy(written).text == canonical


def test_order_is_kept() -> None:
    one, other = (
        parse_strategy("min_p=0.1 temperature=1.2"),
        parse_strategy("temperature=1.2 min_p=0.1"),
    )
    assert [step.kind.name for step in one.steps] == ["min_p", "temperature"]
    assert one != other


def test_method_is_told_apart_from_shaping() -> None:
    assert parse_strategy("top_k=3").method == "sample"
    beam = parse_strategy("beam=3 temperature=0.7")
    assert beam.method == "beam"
    assert [step.text for step in beam.shaping] == ["temperature=0.7"]
    assert parse_strategy("contrastive=5,alpha=0.2").parameters == {
        "contrastive": 5,
        "contrastive.alpha": 0.2,
    }
    assert parse_strategy("greedy").parameters == {"greedy": True}


def test_classic_is_the_six() -> None:
    assert [strategy.text for strategy in CLASSIC] == [
        "greedy",
        "temperature=0.5",
        "temperature=0.8",
        "temperature=1.2",
        "top_k=20",
        "top_p=0.95",
    ]
    assert parse_strategies("classic") == CLASSIC
    assert parse_strategies(" greedy; top_k=3 top_p=0.5 ;") == (
        parse_strategy("greedy"),
        parse_strategy("top_k=3 top_p=0.5"),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the strategy is empty; write for example temperature=0.8 top_k=20"),
        ("  ", "the strategy is empty; write for example temperature=0.8 top_k=20"),
        ("temprature=1", "unknown sampling step temprature; did you mean temperature?"),
        ("temp=1", "unknown sampling step temp; did you mean temperature?"),
        ("=1", "unknown sampling step ''; there are "),
        ("qqqq", "unknown sampling step qqqq; there are beam"),
        ("classic", "classic names six strategies; give it where several can stand"),
        ("temperature=hot", "temperature must be a number from 0 to 1000, got 'hot'"),
        ("temperature=-0.1", "temperature must be a number from 0 to 1000, got -0.1"),
        ("temperature=nan", "temperature must be a number from 0 to 1000, got nan"),
        ("temperature=inf", "temperature must be a number from 0 to 1000, got inf"),
        ("temperature=", "temperature must be a number from 0 to 1000, got ''"),
        ("top_k=0", "top_k's k must be a whole number from 1 to 1000000, got 0"),
        ("top_k=2.5", "top_k's k must be a whole number from 1 to 1000000, got 2.5"),
        ("top_p=0", "top_p's p must be a number above 0 and at most 1, got 0"),
        ("top_p=1.1", "top_p's p must be a number above 0 and at most 1, got 1.1"),
        ("beam=4,length=1", "beam has no length; did you mean length_penalty?"),
        ("beam=4,zzz=1", "beam has no zzz; it has width and length_penalty"),
        ("beam=4,width=5", "beam is given width twice; keep one of them"),
        (
            "beam=4,length_penalty=11",
            "beam's length_penalty must be a number from -10 to 10, got 11",
        ),
        ("beam=4,length_penalty", "beam's length_penalty must be a number from -10 to 10, got ''"),
        ("greedy=1", "greedy takes no values; write it alone"),
        ("greedy,x=1", "greedy takes no values; write it alone"),
        ("greedy beam=2", "greedy and beam exclude each other; keep one of them"),
        ("top_k=3 temperature=1 top_k=4", "top_k is there twice; keep one of them"),
    ],
)
def test_mistakes_are_named(text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_strategy(text)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused_in_one_line(text: str) -> None:
    try:
        parse_strategy(text)
    except UserError as error:
        assert all(map(is_harmless, str(error)))


def test_no_strategies_is_a_mistake() -> None:
    with pytest.raises(UserError, match="no strategies given"):
        parse_strategies(" ; ")


def test_values_are_edited_in_place() -> None:
    strategy = parse_strategy("repetition_penalty=1.2 temperature=0.8 top_k=20")
    hotter = strategy.with_value("temperature", "temperature", 1.1)
    assert hotter.text == "repetition_penalty=1.2 temperature=1.1 top_k=20"
    assert strategy.text == "repetition_penalty=1.2 temperature=0.8 top_k=20"
    assert strategy.with_value("top_k", "top_k", 3.0).parameters["top_k"] == 3
    assert strategy.with_value("repetition_penalty", "last", 9).text.startswith(
        "repetition_penalty=1.2,last=9 "
    )


@pytest.mark.parametrize(
    ("name", "parameter", "value", "message"),
    [
        (
            "top_q",
            "k",
            3,
            "top_q is not in the strategy temperature=0.8 top_k=20; did you mean top_k?",
        ),
        ("top_k", "q", 3, "top_k has no q; it has k"),
        ("top_k", "k", 0, "top_k's k must be a whole number from 1 to 1000000, got 0"),
        ("temperature", "temperature", math.nan, "temperature must be a number from 0 to 1000"),
        (
            "temperature",
            "temperature",
            True,
            "temperature must be a number from 0 to 1000, got true",
        ),
    ],
)
def test_edits_are_checked(name: str, parameter: str, value: float, message: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_strategy("temperature=0.8 top_k=20").with_value(name, parameter, value)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        ({"temperature": 0.8}, "temperature=0.8"),
        ({"temperature": 1.0}, "temperature=1"),
        ({"temperature": 0}, "greedy"),
        ({"temperature": 0, "top_k": 5, "top_p": 0.5}, "greedy"),
        ({"temperature": 0, "repetition_penalty": 1.5}, "repetition_penalty=1.5 greedy"),
        (
            {"temperature": 0.5, "top_k": 5, "top_p": 0.9, "repetition_penalty": 1.5},
            "repetition_penalty=1.5 temperature=0.5 top_k=5 top_p=0.9",
        ),
    ],
)
def test_flags_become_a_strategy(flags: dict[str, float], text: str) -> None:
    assert strategy_from_flags(**flags).text == text  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", -0.1),
        ("temperature", math.nan),
        ("temperature", math.inf),
        ("top_k", -1),
        ("top_p", 0.0),
        ("top_p", 1.1),
        ("top_p", math.nan),
        ("repetition_penalty", 0.0),
        ("repetition_penalty", math.inf),
    ],
)
@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_flags_out_of_range_are_refused_by_name(
    name: str, value: float, temperature: float
) -> None:
    with pytest.raises(UserError, match=name):
        strategy_from_flags(**{"temperature": temperature, name: value})  # type: ignore[arg-type]
