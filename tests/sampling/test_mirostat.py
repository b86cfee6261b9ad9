"""Mirostat against the paper's algorithms in plain loops, and against its promise."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from sampling_oracles import VOCAB, exact_probabilities, random_logits

from shakespeare_tui.errors import UserError
from shakespeare_tui.sampling import STEP_KINDS, Sampler, parse_strategy


def zipf_k(ranked: list[float], m: int, limit: float) -> float:
    """Algorithm 1's k from probabilities in falling order, not rounded."""
    pairs = range(min(m, len(ranked)) - 1)
    times = [math.log((i + 2) / (i + 1)) for i in pairs]
    falls = [math.log(ranked[i] / ranked[i + 1]) for i in pairs]
    exponent = math.fsum(t * b for t, b in zip(times, falls, strict=True))
    exponent /= math.fsum(t * t for t in times)
    excess = exponent - 1
    try:
        return float((excess * math.exp(limit) / (1 - len(ranked) ** -excess)) ** (1 / exponent))
    except OverflowError:
        return math.inf


def soft_logits(seed: int, rows: int) -> NDArray[np.float32]:
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(rows, VOCAB)) * generator.uniform(0.5, 3, size=(rows, 1))
    return logits.astype(np.float32)


@pytest.mark.parametrize("m", [2, 20, 100])
@pytest.mark.parametrize("target", [0.35, 1.25, 2.8])
def test_first_version_follows_the_algorithm(m: int, target: float) -> None:
    streams = 12
    sampler = Sampler(parse_strategy(f"mirostat1={target},rate=0.3,m={m}"), streams, 1)
    limits = [2 * target] * streams
    tokens = np.zeros((streams, 1), dtype=np.int64)
    close_calls = 0
    for round_ in range(40):
        logits = soft_logits(round_, streams)
        exact = exact_probabilities(logits)
        probabilities = sampler.probabilities(logits, tokens)
        chosen = sampler.draw(probabilities)
        sampler.observe(chosen)
        for stream in range(streams):
            ranked = sorted(exact[stream].tolist(), reverse=True)
            k = zipf_k(ranked, m, limits[stream])
            if not (1.5 < k < VOCAB + 0.5 and abs(k - round(k)) < 1e-3):
                kept = int(min(max(k, 1), VOCAB))
                assert (probabilities[stream] > 0).sum() == kept
                assert exact[stream, chosen[stream]] >= ranked[kept - 1] - 1e-9
            else:
                close_calls += 1
            surprise = -math.log(exact[stream, chosen[stream]])
            limits[stream] -= 0.3 * (surprise - target)
        tokens = np.column_stack([tokens, chosen])
    assert close_calls < 0.05 * 40 * streams


@pytest.mark.parametrize("target", [0.35, 1.25, 2.8])
def test_second_version_follows_the_algorithm(target: float) -> None:
    streams = 12
    sampler = Sampler(parse_strategy(f"mirostat={target},rate=0.3"), streams, 1)
    limits = [2 * target] * streams
    tokens = np.zeros((streams, 1), dtype=np.int64)
    close_calls = 0
    for round_ in range(40):
        logits = random_logits(round_, streams)
        exact = exact_probabilities(logits)
        probabilities = sampler.probabilities(logits, tokens)
        chosen = sampler.draw(probabilities)
        sampler.observe(chosen)
        for stream in range(streams):
            surprises = [-math.log(p) if p else math.inf for p in exact[stream]]
            kept = [s <= limits[stream] for s in surprises]
            if not any(kept):
                kept = [s == min(surprises) for s in surprises]
            if all(abs(s - limits[stream]) > 1e-5 for s in surprises):
                total = math.fsum(p for p, stays in zip(exact[stream], kept, strict=True) if stays)
                expected = [
                    p / total if stays else 0 for p, stays in zip(exact[stream], kept, strict=True)
                ]
                np.testing.assert_allclose(probabilities[stream], expected, atol=1e-6)
            else:
                close_calls += 1
            limits[stream] -= 0.3 * (surprises[chosen[stream]] - target)
        tokens = np.column_stack([tokens, chosen])
    assert close_calls < 0.05 * 40 * streams


@pytest.mark.parametrize("name", ["mirostat", "mirostat1"])
@pytest.mark.parametrize("target", [0.83, 1.1])
def test_mean_surprise_comes_to_the_target(name: str, target: float) -> None:
    sampler = Sampler(parse_strategy(f"{name}={target}"), 8, 1)
    tokens, surprises = np.zeros((8, 1), dtype=np.int64), []
    for round_ in range(400):
        # Entropy 1.3 nats, and 0.6 if only the likeliest were taken: the target lies between.
        logits = np.random.default_rng(round_).normal(0, 4, size=(8, VOCAB)).astype(np.float32)
        chosen = sampler.choose(logits, tokens)
        surprises.append(-np.log(exact_probabilities(logits)[np.arange(8), chosen]))
        tokens = np.column_stack([tokens, chosen])
    assert np.mean(surprises[100:]) == pytest.approx(target, abs=0.04)


def bits_of_the_paper(targets: list[float]) -> list[list[int]]:
    """Mirostat 2 as the paper has it, in bits: a text by each target."""
    uniforms = np.random.Generator(np.random.Philox(key=[3, 0])).random(64)
    texts = []
    for target in targets:
        limit, text = 2 * target, []
        for place in range(60):
            (exact,) = exact_probabilities(soft_logits(place, 1))
            surprises = -np.log2(exact)
            kept = np.where(surprises <= max(limit, surprises.min()), exact, 0)
            sums = kept.cumsum()
            token = int((sums > uniforms[place] * sums[-1]).argmax())
            limit -= 0.1 * (surprises[token] - target)
            text.append(token)
        texts.append(text)
    return texts


def test_a_target_in_nats_writes_what_the_paper_writes_with_it_in_bits() -> None:
    expected = bits_of_the_paper([1.0, 1.8, 3.0])
    for bits, text in zip([1.0, 1.8, 3.0], expected, strict=True):
        sampler = Sampler(parse_strategy(f"mirostat={bits * math.log(2)}"), 1, 3)
        tokens = np.zeros((1, 1), dtype=np.int64)
        for place in range(60):
            chosen = sampler.choose(soft_logits(place, 1), tokens)
            tokens = np.column_stack([tokens, chosen])
        assert tokens[0, 1:].tolist() == text


def test_the_unit_is_named_wherever_the_target_is() -> None:
    for name in ("mirostat", "mirostat1"):
        target = STEP_KINDS[name].parameters[0]
        assert "nats per token" in target.help
        assert "nats per token" in STEP_KINDS[name].help
        assert target.range == "from 0 to 20 nats per token"
        with pytest.raises(UserError, match="from 0 to 20 nats per token, got 25"):
            parse_strategy(f"{name}=25")


@pytest.mark.parametrize("name", ["mirostat", "mirostat1"])
def test_even_and_certain_rows_leave_something(name: str) -> None:
    rows = np.zeros((4, VOCAB), dtype=np.float32)
    rows[1, 3] = 1e4
    rows[2, 1:] = -np.inf
    rows[3] = -np.log(np.arange(1, VOCAB + 1))
    for target in (0, 1, 20):
        sampler = Sampler(parse_strategy(f"{name}={target}"), 4, 1)
        tokens = np.zeros((4, 1), dtype=np.int64)
        for _ in range(200):
            with np.errstate(all="raise", under="ignore"):
                chosen = sampler.choose(rows, tokens)
            tokens = np.column_stack([tokens, chosen])
        assert (tokens[1, 1:] == 3).all()
        assert (tokens[2, 1:] == 0).all()
