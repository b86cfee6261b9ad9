"""Each step that ``transformers`` has too against its processor, on thousands of random rows."""

import numpy as np
import pytest
from numpy.typing import NDArray
from sampling_oracles import (
    CLOSE,
    VOCAB,
    apply,
    assert_same_but,
    exact_probabilities,
    processors,
    random_logits,
    random_tokens,
    their,
)

seeds = pytest.mark.parametrize("seed", [1, 2, 3])


@seeds
@pytest.mark.parametrize("temperature", [0.05, 0.8, 1.0, 3.7, 100.0])
def test_temperature(seed: int, temperature: float) -> None:
    logits = random_logits(seed)
    theirs = their(processors().TemperatureLogitsWarper(temperature), logits)
    np.testing.assert_allclose(apply(f"temperature={temperature}", logits), theirs, rtol=1e-6)


@seeds
@pytest.mark.parametrize("k", [1, 2, 7, 20, 64, 65, 66, 1000])
def test_top_k(seed: int, k: int) -> None:
    logits = random_logits(seed)
    theirs = their(processors().TopKLogitsWarper(k), logits)
    assert np.array_equal(apply(f"top_k={k}", logits), theirs)


@seeds
@pytest.mark.parametrize("p", [0.01, 0.3, 0.9, 0.95, 0.999])
def test_top_p(seed: int, p: float) -> None:
    logits = random_logits(seed)
    ordered = -np.sort(-exact_probabilities(logits), axis=1)
    is_close_call = (abs(ordered.cumsum(axis=1) - p) < CLOSE).any(axis=1)
    theirs = their(processors().TopPLogitsWarper(p), logits)
    # Of equal logits at the edge, which go is open there: compare the values that stay.
    ours = apply(f"top_p={p}", logits)
    assert_same_but(np.sort(ours, axis=1), np.sort(theirs, axis=1), is_close_call)


@seeds
def test_top_p_keeps_the_lower_ids_of_equals(seed: int) -> None:
    logits = random_logits(seed)
    is_kept = apply("top_p=0.7", logits) > -np.inf
    edge = np.where(is_kept, logits, np.inf).min(axis=1, keepdims=True)
    for kept, equal in zip(is_kept, logits == edge, strict=True):
        among = kept[equal]
        assert among[: among.sum()].all()


@seeds
def test_top_p_of_one_keeps_all(seed: int) -> None:
    logits = random_logits(seed)
    assert np.array_equal(apply("top_p=1", logits), logits)


@seeds
@pytest.mark.parametrize("share", [0.0, 0.02, 0.1, 0.5, 1.0])
def test_min_p(seed: int, share: float) -> None:
    logits = random_logits(seed)
    exact = exact_probabilities(logits)
    top = exact.max(axis=1, keepdims=True)
    is_close_call = (abs(exact / top - share) < CLOSE).any(axis=1) & (0 < share < 1)
    theirs = their(processors().MinPLogitsWarper(share), logits)
    assert_same_but(apply(f"min_p={share}", logits), theirs, is_close_call)


@seeds
@pytest.mark.parametrize("penalty", [0.5, 1.0, 1.2, 7.0])
@pytest.mark.parametrize("length", [1, 5, 300])
def test_repetition_penalty(seed: int, penalty: float, length: int) -> None:
    logits = random_logits(seed, rows=500)
    tokens = random_tokens(seed, 500, length)
    theirs = their(processors().RepetitionPenaltyLogitsProcessor(penalty), logits, tokens)
    ours = apply(f"repetition_penalty={penalty}", logits, tokens)
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)


@pytest.mark.parametrize("last", [1, 4, 50])
def test_repetition_penalty_of_the_last_tokens(last: int) -> None:
    logits, tokens = random_logits(4, rows=500), random_tokens(4, 500, 20)
    theirs = their(processors().RepetitionPenaltyLogitsProcessor(1.3), logits, tokens[:, -last:])
    ours = apply(f"repetition_penalty=1.3,last={last}", logits, tokens)
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)


@seeds
def test_greedy_leaves_the_first_of_the_likeliest(seed: int) -> None:
    logits = random_logits(seed)
    for text in ("greedy", "temperature=0"):
        is_kept = apply(text, logits) > -np.inf
        assert (is_kept.sum(axis=1) == 1).all()
        assert np.array_equal(is_kept.argmax(axis=1), logits.argmax(axis=1))


@pytest.mark.parametrize("text", ["beam=4", "contrastive=6"])
def test_searches_leave_the_logits_to_the_engine(text: str) -> None:
    logits = random_logits(1)
    assert np.array_equal(apply(text, logits), logits)


@pytest.mark.parametrize("temperature", [5e-324, 1e-46, 1e-38, 1e-20, 1e-7, 1e-6, 1e-4])
def test_low_temperatures_approach_greedy(temperature: float) -> None:
    logits = np.round(random_logits(1))
    probabilities = exact_probabilities(apply(f"temperature={temperature!r}", logits))
    is_best = logits == logits.max(axis=1, keepdims=True)
    assert (probabilities[~is_best] < 1e-6).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)


@pytest.mark.parametrize("seed", range(3))
def test_what_is_dropped_stays_dropped(seed: int) -> None:
    logits = random_logits(seed)
    tokens: NDArray[np.int64] = random_tokens(seed, len(logits), 9)
    for text in ("temperature=0.5", "top_k=9", "top_p=0.9", "min_p=0.1", "repetition_penalty=2"):
        shaped = apply(text, logits, tokens)
        assert (shaped[logits == -np.inf] == -np.inf).all()
        assert (shaped.max(axis=1) > -np.inf).all()
        assert shaped.shape == (len(logits), VOCAB)


@seeds
@pytest.mark.parametrize("mass", [0.05, 0.5, 0.9, 0.99])
def test_typical(seed: int, mass: float) -> None:
    logits = random_logits(seed)
    exact = exact_probabilities(logits)
    with np.errstate(divide="ignore", invalid="ignore"):
        surprise = -np.log(exact)
        distance = abs(surprise - np.nansum(exact * surprise, axis=1, keepdims=True))
    order = distance.argsort(axis=1)
    reached = np.take_along_axis(exact, order, axis=1).cumsum(axis=1)
    is_close_call = (abs(reached - mass) < CLOSE).any(axis=1)
    # Two tokens on either side of the entropy may be equally far from it, to within rounding; in
    # rows on a grid they are so in truth, and then both stay or both go.
    last = np.minimum((reached < mass).sum(axis=1), VOCAB - 1)
    limit = np.take_along_axis(distance, order[np.arange(len(order)), last][:, None], axis=1)
    with np.errstate(invalid="ignore"):
        gap = abs(distance - limit)
    is_close_call |= ((gap < 1e-5) & (logits != np.where(gap == 0, logits, np.nan))).any(axis=1)
    theirs = their(processors().TypicalLogitsWarper(mass), logits)
    assert_same_but(apply(f"typical={mass}", logits), theirs, is_close_call)


@seeds
@pytest.mark.parametrize("epsilon", [1e-4, 0.01, 0.2, 0.9])
def test_epsilon(seed: int, epsilon: float) -> None:
    logits = random_logits(seed)
    is_close_call = (abs(exact_probabilities(logits) - epsilon) < CLOSE * epsilon).any(axis=1)
    theirs = their(processors().EpsilonLogitsWarper(epsilon), logits)
    assert_same_but(apply(f"epsilon={epsilon}", logits), theirs, is_close_call)


@seeds
@pytest.mark.parametrize("epsilon", [1e-4, 0.01, 0.2, 0.9])
def test_eta(seed: int, epsilon: float) -> None:
    logits = random_logits(seed)
    exact = exact_probabilities(logits)
    with np.errstate(divide="ignore", invalid="ignore"):
        entropy = -np.nansum(exact * np.log(exact), axis=1, keepdims=True)
    least = np.minimum(epsilon, np.sqrt(epsilon) * np.exp(-entropy))
    is_close_call = (abs(exact / least - 1) < 1e-5).any(axis=1)
    theirs = their(processors().EtaLogitsWarper(epsilon), logits)
    assert_same_but(apply(f"eta={epsilon}", logits), theirs, is_close_call)


@seeds
@pytest.mark.parametrize("n", [1, 2, 3, 5, 40])
@pytest.mark.parametrize("vocab", [2, 5, 65])
def test_no_repeat_ngram(seed: int, n: int, vocab: int) -> None:
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(60, vocab)).astype(np.float32)
    for length in (1, 2, n, 30):
        tokens = random_tokens(seed + length, 60, length, vocab)
        theirs = their(processors().NoRepeatNGramLogitsProcessor(n), logits, tokens)
        # Where theirs leaves nothing, ours leaves all.
        is_empty = (theirs == -np.inf).all(axis=1)
        theirs[is_empty] = logits[is_empty]
        assert np.array_equal(apply(f"no_repeat_ngram={n}", logits, tokens), theirs)
