"""Steps that ``transformers`` lacks, against their papers' or programs' rules in plain loops."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sampling_oracles import (
    VOCAB,
    apply,
    exact_probabilities,
    random_logits,
    random_tokens,
)

from shakespeare_tui.sampling import Sampler, SamplingContext, parse_strategy

ROWS = 400


def is_kept(text: str, logits: NDArray[np.float32]) -> NDArray[np.bool_]:
    shaped = apply(text, logits)
    kept: NDArray[np.bool_] = shaped > -np.inf
    assert np.array_equal(shaped[kept], logits[kept])
    return kept


@pytest.mark.parametrize("n", [0.0, 0.3, 1.0, 2.5])
def test_top_nsigma(n: float) -> None:
    logits = random_logits(1, ROWS)
    close_calls = 0
    for row, kept in zip(logits, is_kept(f"top_nsigma={n}", logits), strict=True):
        left = [float(each) for each in row if each > -math.inf]
        mean = math.fsum(left) / len(left)
        sigma = math.sqrt(math.fsum((each - mean) ** 2 for each in left) / len(left))
        limit = max(left) - n * sigma
        if n and any(abs(each - limit) < 1e-5 for each in left):
            close_calls += 1
            continue
        assert kept.tolist() == [each >= limit for each in row.tolist()]
    assert close_calls < ROWS / 20


@pytest.mark.parametrize("temperature", [0.3, 4.0])
def test_top_nsigma_does_not_hang_on_temperature(temperature: float) -> None:
    logits = random_logits(2, ROWS)
    warmed = apply(f"temperature={temperature}", logits)
    differs = is_kept("top_nsigma=1", logits) != is_kept("top_nsigma=1", warmed)
    assert differs.any(axis=1).mean() < 0.01


def xtc_by_the_loop(
    probabilities: list[float], threshold: float, left: list[bool]
) -> tuple[list[bool], float]:
    """Which tokens stay where it acts, and the probability of the top choice that stays."""
    ranked = sorted((p, token) for token, p in enumerate(probabilities) if left[token])
    top = [(p, token) for p, token in ranked if p >= threshold]
    if len(top) < 2:
        return list(left), 0.0
    dropped = {token for _, token in top[1:]}
    return [left[token] and token not in dropped for token in range(len(left))], top[0][0]


@pytest.mark.parametrize("threshold", [0.0, 0.02, 0.1, 0.3, 0.5])
def test_xtc(threshold: float) -> None:
    logits = random_logits(3, ROWS)
    tokens = np.zeros((ROWS, 1), dtype=np.int64)
    (step,) = parse_strategy(f"xtc=0.4,threshold={threshold}").steps
    uniforms = np.random.default_rng(1).random(ROWS)
    shaped = step.apply(logits, SamplingContext(tokens, 1, 1, lambda: uniforms))
    exact = exact_probabilities(logits)
    close_calls = 0
    for row in range(ROWS):
        if uniforms[row] >= 0.4:
            assert np.array_equal(shaped[row], logits[row])
            continue
        if (abs(exact[row] - threshold) < 1e-7).any() and threshold:
            close_calls += 1
            continue
        left = (logits[row] > -np.inf).tolist()
        expected, edge = xtc_by_the_loop(exact[row].tolist(), threshold, left)
        # Of equally unlikely top choices one stays, whichever.
        is_open = np.isclose(exact[row], edge, rtol=1e-5)
        kept = shaped[row] > -np.inf
        assert np.array_equal(kept[~is_open], np.array(expected)[~is_open])
        assert kept[is_open].sum() == np.array(expected)[is_open].sum()
    assert close_calls < ROWS / 20


def test_xtc_acts_as_often_as_it_says_and_draws_by_other_numbers() -> None:
    streams = 20_000
    logits = np.tile(np.log(np.array([[0.6, 0.3, 0.1]], dtype=np.float32)), (streams, 1))
    sampler = Sampler(parse_strategy("xtc=0.25,threshold=0.2"), streams, 3)
    tokens = np.zeros((streams, 1), dtype=np.int64)
    for _ in range(2):
        probabilities = sampler.probabilities(logits, tokens)
        acted = probabilities[:, 0] == 0
        assert abs(acted.mean() - 0.25) < 0.01
        # Acting says nothing of the number that draws: of [0, .3, .1] a quarter is the last.
        chosen = sampler.draw(probabilities)
        assert abs((chosen[acted] == 2).mean() - 0.25) < 0.02
        sampler.observe(chosen)
        tokens = np.column_stack([tokens, chosen])


@pytest.mark.parametrize("last", [0, 1, 6, 100])
@pytest.mark.parametrize("penalty", [-0.7, 0.0, 1.5])
def test_presence_and_frequency_penalties(last: int, penalty: float) -> None:
    logits, tokens = random_logits(4, ROWS), random_tokens(4, ROWS, 40, vocab=20)
    present = apply(f"presence_penalty={penalty},last={last}", logits, tokens)
    frequent = apply(f"frequency_penalty={penalty},last={last}", logits, tokens)
    for row in range(ROWS):
        counts = Counter(tokens[row].tolist()[-last:] if last else tokens[row].tolist())
        for token in range(VOCAB):
            count, logit = counts[token], logits[row, token]
            assert present[row, token] == pytest.approx(logit - penalty * (count > 0), abs=1e-5)
            assert frequent[row, token] == pytest.approx(logit - penalty * count, abs=1e-4)


@pytest.mark.parametrize(
    ("centre", "spread", "exponent"), [(0.9, 0.5, 1.0), (1.0, 0.0, 2.0), (0.4, 1.0, 0.5)]
)
def test_dynamic_temperature(centre: float, spread: float, exponent: float) -> None:
    logits = random_logits(5, ROWS)
    text = f"dynamic_temperature={centre},spread={spread},exponent={exponent}"
    shaped = apply(text, logits)
    for row, ours in zip(exact_probabilities(logits), exact_probabilities(shaped), strict=True):
        left = [p for p in row.tolist() if p > 0]
        share = 0.0
        if len(left) > 1:
            share = -math.fsum(p * math.log(p) for p in left) / math.log(len(left))
        low = max(0.0, centre - spread)
        own = low + (centre + spread - low) * share**exponent
        if own < 1e-3:
            continue
        # As powers of probabilities, which is what dividing logits means.
        warmed = [(p / max(left)) ** (1 / own) for p in row.tolist()]
        total = math.fsum(warmed)
        np.testing.assert_allclose(ours, [p / total for p in warmed], atol=2e-5)


def test_dynamic_temperature_is_bold_only_where_the_model_is_unsure() -> None:
    sure = np.array([[9.0, 0.0, 0.0, 0.0]], dtype=np.float32)
    unsure = np.array([[0.2, 0.1, 0.0, 0.0]], dtype=np.float32)
    text = "dynamic_temperature=1,spread=0.9"
    assert apply(text, sure)[0, 0] / sure[0, 0] > 2
    assert apply(text, unsure)[0, 0] / unsure[0, 0] < 0.6


def longest_repeats(text: list[int], window: int) -> dict[int, int]:
    """For each token, the longest run at the text's end that it followed within the window."""
    longest: dict[int, int] = {}
    for place in range(max(0, len(text) - window) if window else 0, len(text)):
        length = 0
        while length < place and text[place - 1 - length] == text[-1 - length]:
            length += 1
        longest[text[place]] = max(length, longest.get(text[place], 0))
    return longest


@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=60),
    st.sampled_from([0, 1, 5, 30]),
    st.integers(1, 6),
    st.sampled_from([1.0, 1.75, 3.0]),
)
def test_dry(text: list[int], last: int, allowed: int, base: float) -> None:
    logits = np.zeros((1, 5), dtype=np.float32)
    written = f"dry=0.8,base={base},allowed={allowed},last={last}"
    shaped = apply(written, logits, np.array([text]))
    expected = [0.0] * 5
    for token, length in longest_repeats(text, last).items():
        if length >= allowed:
            expected[token] = -0.8 * min(base ** (length - allowed), 1e20)
    np.testing.assert_allclose(shaped[0], expected, rtol=0.6 if min(expected) < -1e19 else 1e-5)


STATEFUL = [
    "repetition_penalty=1.4",
    "repetition_penalty=1.4,last=5",
    "presence_penalty=1,last=0",
    "frequency_penalty=0.3,last=7",
    "dry=0.8,allowed=2,last=12",
    "dry=0.8,allowed=2,base=3,last=0",
    "no_repeat_ngram=3",
]


@pytest.mark.parametrize("text", STATEFUL)
def test_what_is_kept_up_token_by_token_equals_reading_the_text_anew(text: str) -> None:
    generator, streams, vocab = np.random.default_rng(1), 4, 6
    running = Sampler(parse_strategy(text), streams, 2)
    tokens = generator.integers(vocab, size=(streams, 3))
    for _ in range(400):
        logits = generator.normal(size=(streams, vocab)).astype(np.float32)
        fresh = Sampler(parse_strategy(text), streams, 2).probabilities(logits, tokens)
        assert np.array_equal(running.probabilities(logits, tokens), fresh)
        chosen = generator.integers(vocab, size=streams)
        running.observe(chosen)
        tokens = np.column_stack([tokens, chosen])


@pytest.mark.parametrize("text", ["dry=0.8,allowed=3", "no_repeat_ngram=4"])
def test_loops_are_broken(text: str) -> None:
    def write(strategy: str) -> list[int]:
        sampler = Sampler(parse_strategy(strategy), 1, 1)
        tokens = np.array([[0, 1]])
        for _ in range(60):
            # The next in a circle of three is likeliest by far.
            logits = np.zeros((1, 9), dtype=np.float32)
            logits[0, (tokens[0, -1] + 1) % 3] = 6
            tokens = np.column_stack([tokens, sampler.choose(logits, tokens)])
        return tokens[0].tolist()

    circle = [place % 3 for place in range(62)]
    assert write("greedy") == circle
    assert max(longest_repeats(write(f"{text} greedy"), 0).values()) < 10
