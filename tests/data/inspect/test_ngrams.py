import math
from collections import Counter, defaultdict

import numpy as np
import pytest

from shakespeare_tui.data.inspect.ngrams import (
    baselines,
    capped_split,
    ngram_loss,
    ngram_probabilities,
)
from shakespeare_tui.data.source import locate_corpus


class KneserNey:
    """Interpolated modified Kneser–Ney, written down recursively with dictionaries."""

    def __init__(self, train: list[int], vocab_size: int, order: int):
        self.vocab_size = vocab_size
        self.counts: dict[int, Counter] = {}
        grams = {
            k: Counter(tuple(train[i : i + k]) for i in range(len(train) - k + 1))
            for k in range(1, order + 1)
        }
        for k in range(1, order):
            self.counts[k] = Counter(gram[1:] for gram in grams[k + 1])
        self.counts[order] = grams[order]
        self.followers: dict[int, dict[tuple, Counter]] = {}
        self.discounts = {}
        for k, counts in self.counts.items():
            self.followers[k] = defaultdict(Counter)
            for gram, count in counts.items():
                self.followers[k][gram[:-1]][gram[-1]] = count
            self.discounts[k] = self.find_discounts(Counter(counts.values()))

    @staticmethod
    def find_discounts(n: Counter) -> tuple[float, float, float]:
        fallback = (0.5, 1.0, 1.5)
        if not all(n[i] for i in (1, 2, 3, 4)):
            return fallback
        y = n[1] / (n[1] + 2 * n[2])
        found = tuple(i - (i + 1) * y * n[i + 1] / n[i] for i in (1, 2, 3))
        return found if all(0 < d <= i for i, d in enumerate(found, 1)) else fallback

    def probability(self, context: tuple, token: int) -> float:
        """Of ``token`` after ``context`` of any length below the order."""
        k = len(context) + 1
        lower = self.probability(context[1:], token) if context else 1 / self.vocab_size
        followers = self.followers[k].get(context)
        if not followers:
            return lower
        total = sum(followers.values())
        off = [self.discounts[k][min(count, 3) - 1] for count in followers.values()]
        count = followers[token]
        kept = count - self.discounts[k][min(count, 3) - 1] if count else 0
        return kept / total + sum(off) / total * lower


def text_like_tokens(n: int, vocab_size: int, seed: int) -> np.ndarray:
    """Tokens in which some follow others much more often, as letters do."""
    rng = np.random.default_rng(seed)
    table = rng.dirichlet(np.full(vocab_size, 0.2), size=(vocab_size, vocab_size))
    tokens = [0, 1 % vocab_size]
    for _ in range(n - 2):
        tokens.append(int(rng.choice(vocab_size, p=table[tokens[-2], tokens[-1]])))
    return np.array(tokens)


@pytest.mark.parametrize("order", [3, 4, 5])
@pytest.mark.parametrize(("n", "vocab_size"), [(60, 4), (1500, 12), (1500, 40)])
def test_kneser_ney_equals_the_slow_definition(n, vocab_size, order):
    tokens = text_like_tokens(n, vocab_size, seed=n + vocab_size)
    split = int(0.9 * n)
    model = KneserNey(tokens[:split].tolist(), vocab_size, order)
    expected = [
        model.probability(tuple(tokens[i - order + 1 : i].tolist()), int(tokens[i]))
        for i in range(split, n)
    ]
    found = ngram_probabilities(tokens[:split], tokens[split:], vocab_size, order)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    loss = ngram_loss(tokens[:split], tokens[split:], vocab_size, order)
    assert loss == pytest.approx(-sum(map(math.log, expected)) / len(expected))


@pytest.mark.parametrize("order", [1, 2, 3, 5])
@pytest.mark.parametrize("context", [[0, 1, 2, 3], [5, 5, 5, 5], [0, 0, 6, 7]])
def test_probabilities_of_all_continuations_add_up_to_one(order, context):
    vocab_size = 8
    # The last token is in the vocabulary but not in the training part.
    train = text_like_tokens(800, vocab_size - 1, seed=3)
    total = sum(
        ngram_probabilities(train, np.array([*context, token]), vocab_size, order)[-1]
        for token in range(vocab_size)
    )
    assert total == pytest.approx(1, abs=1e-12)


def test_unigram_and_bigram_are_additively_smoothed():
    train, val = np.array([0, 1, 0, 1, 0, 2]), np.array([0, 1, 3])
    unigram = [3.01 / 6.04, 2.01 / 6.04, 0.01 / 6.04]
    np.testing.assert_allclose(ngram_probabilities(train, val, 4, 1), unigram)
    # After 2 nothing was seen; after 0: 1 twice and 2 once; after 1: 0 twice.
    bigram = [0.01 / 0.04, 2.01 / 3.04, 0.01 / 2.04]
    np.testing.assert_allclose(ngram_probabilities(train, val, 4, 2), bigram)


def test_order_of_random_tokens_tells_nothing():
    tokens = np.random.default_rng(0).integers(0, 16, 30_000)
    losses = baselines(tokens[:27_000], tokens[27_000:], 16)
    assert losses["uniform"] == math.log(16)
    assert losses["unigram"] == pytest.approx(math.log(16), abs=0.01)
    assert losses["5-gram"] > losses["unigram"] - 0.01


def test_large_vocabulary_and_small_dtype():
    rng = np.random.default_rng(0)
    tokens = (rng.zipf(1.3, 50_000) % 60_000).astype(np.uint16)
    losses = baselines(tokens[:45_000], tokens[45_000:], 60_000)
    assert all(math.isfinite(loss) for loss in losses.values())
    assert losses["unigram"] < losses["uniform"]
    assert losses["5-gram"] < losses["uniform"]


def test_one_token_repeated_costs_nothing_and_never_less():
    losses = baselines(np.zeros(90, np.uint8), np.zeros(10, np.uint8), 1)
    assert [f"{loss:.4f}" for loss in losses.values()] == ["0.0000"] * 4


def test_long_corpora_are_measured_around_the_split():
    tokens = text_like_tokens(3000, 6, seed=1)
    train, val = tokens[:2400], tokens[2400:]
    near = baselines(train[-800:], val[:200], 6)
    assert baselines(train, val, 6, max_tokens=1000) == near


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ((900, 100), (900, 100)),
        ((9000, 1000), (900, 100)),
        ((10**9, 1), (999, 1)),
        ((10, 10**6), (10, 990)),
        ((10**6, 10**6), (500, 500)),
        ((10**6, 10**7), (500, 500)),
        ((5000, 0), (1000, 0)),
    ],
)
def test_capped_split(sizes, expected):
    assert capped_split(*sizes, max_tokens=1000) == expected


@pytest.mark.parametrize(
    ("n_train", "n_val", "order"), [(0, 5, 1), (4, 5, 5), (5, 0, 1), (5, 5, 0)]
)
def test_too_little_to_measure(n_train, n_val, order):
    with pytest.raises(ValueError, match="too few|at least 1"):
        ngram_loss(np.zeros(n_train, int), np.zeros(n_val, int), 2, order)


def test_tiny_shakespeare():
    source = locate_corpus("tiny_shakespeare")
    if source is None:
        pytest.skip("needs Tiny Shakespeare at hand")
    codes = np.frombuffer("".join(source.iter_text()).encode(), np.uint8)
    _, tokens = np.unique(codes, return_inverse=True)
    split = int(0.9 * len(tokens))
    losses = baselines(tokens[:split], tokens[split:], 65)
    assert round(losses["unigram"], 3) == 3.347
    assert round(losses["bigram"], 3) == 2.488
    assert losses["5-gram"] < 1.6
