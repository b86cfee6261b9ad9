"""Random logits and texts, and ``transformers``' processors to hold the steps against."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from shakespeare_tui.sampling import SamplingContext, parse_strategy

VOCAB = 65
CLOSE = 1e-6


def processors() -> Any:
    return pytest.importorskip("transformers.generation.logits_process")


def random_logits(seed: int, rows: int = 2000, vocab: int = VOCAB) -> NDArray[np.float32]:
    """Rows of every sharpness; a third have ties (a grid), a third have dropped tokens."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(rows, vocab)) * generator.uniform(0.1, 8, size=(rows, 1))
    logits[::3] = np.round(logits[::3] * 2) / 2
    is_dropped = generator.random((rows, vocab)) < generator.uniform(0, 1, size=(rows, 1))
    is_dropped[np.arange(rows), generator.integers(vocab, size=rows)] = False
    logits[1::3][is_dropped[1::3]] = -np.inf
    return logits.astype(np.float32)


def random_tokens(seed: int, rows: int, length: int, vocab: int = VOCAB) -> NDArray[np.int64]:
    return np.random.default_rng(seed).integers(vocab, size=(rows, length))


def apply(
    text: str, logits: NDArray[np.float32], tokens: NDArray[np.int64] | None = None
) -> NDArray[np.float32]:
    """What the one step of strategy ``text`` makes of ``logits``, its state fresh."""
    (step,) = parse_strategy(text).steps
    if tokens is None:
        tokens = np.zeros((len(logits), 1), dtype=np.int64)
    length = tokens.shape[1]
    before = logits.copy()
    context = SamplingContext(tokens, length, length, state=step.start(len(logits)))
    shaped = step.apply(logits, context)
    assert np.array_equal(logits, before), "a step must not write to what it is given"
    assert shaped.dtype == np.float32
    return shaped


def their(
    processor: Any, logits: NDArray[np.float32], tokens: NDArray[np.int64] | None = None
) -> NDArray[np.float32]:
    """What one of ``transformers``' processors makes of them."""
    import torch

    ids = None if tokens is None else torch.from_numpy(tokens)
    theirs: NDArray[np.float32] = processor(ids, torch.from_numpy(logits.copy())).numpy()
    return theirs


def exact_probabilities(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    exact = logits.astype(np.float64)
    powers = np.exp(exact - exact.max(axis=1, keepdims=True))
    probabilities: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return probabilities


def assert_same_but(
    ours: NDArray[np.float32], theirs: NDArray[np.float32], is_close_call: NDArray[np.bool_]
) -> None:
    """Equal in every row, except where rounding at a threshold decides; such rows are few."""
    assert is_close_call.mean() < 0.02
    assert np.array_equal(ours[~is_close_call], theirs[~is_close_call])
