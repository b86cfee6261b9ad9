"""Losses by protocol, against a loop that reads token by token."""

import math
import tracemalloc
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shakespeare_tui.config.schema import ModelConfig
from shakespeare_tui.data.tokenizers.tokenizer import TokenArray
from shakespeare_tui.errors import CancelledError, UserError
from shakespeare_tui.models.transformer import Transformer
from shakespeare_tui.training.evaluate import affordable_windows, evaluate, evaluate_nanogpt

VOCAB = 7
CONTEXT = 5


def make_model(**changes: Any) -> Transformer:
    config = ModelConfig(
        **{"d_model": 8, "n_heads": 2, "n_layers": 1, "max_seq_len": CONTEXT} | changes
    )
    model = Transformer(config, VOCAB, torch.Generator().manual_seed(0))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(20)
    return model


def text(length: int, seed: int = 0) -> TokenArray:
    return np.random.default_rng(seed).integers(0, VOCAB, length).astype(np.uint8)


@torch.no_grad()
def naive(model: Transformer, tokens: TokenArray, starts: list[int]) -> tuple[float, float, int]:
    """Loss, accuracy and count over windows that begin at ``starts``, one token at a time."""
    losses, hits = [], []
    for start in starts:
        for end in range(start + 1, min(start + CONTEXT, len(tokens) - 1) + 1):
            seen = torch.tensor([int(t) for t in tokens[start:end]])[None]
            probabilities = torch.softmax(model(seen)[0, -1].double(), -1)
            losses.append(-math.log(probabilities[int(tokens[end])]))
            hits.append(int(probabilities.argmax()) == int(tokens[end]))
    return sum(losses) / len(losses), sum(hits) / len(hits), len(losses)


@settings(max_examples=30)
@given(st.integers(2, 60), st.integers(0, 5))
def test_exact_reads_every_token_but_the_first_once(length: int, seed: int) -> None:
    model, tokens = make_model(), text(length, seed)
    result = evaluate(model, tokens)
    loss, accuracy, count = naive(model, tokens, list(range(0, length - 1, CONTEXT)))
    assert result.protocol == "exact"
    assert result.tokens == count == length - 1
    assert result.loss == pytest.approx(loss, rel=1e-5)
    assert result.accuracy == pytest.approx(accuracy)


@pytest.mark.parametrize("windows", [1, 3, 7, 11])
def test_subset_is_that_many_whole_windows_evenly_spaced(windows: int) -> None:
    model, tokens = make_model(), text(12 * CONTEXT + 3)
    result = evaluate(model, tokens, windows=windows)
    starts = [i * 12 // windows * CONTEXT for i in range(windows)]
    loss, accuracy, count = naive(model, tokens, starts)
    assert result.protocol == f"subset-{windows}"
    assert result.tokens == count == windows * CONTEXT
    assert result.loss == pytest.approx(loss, rel=1e-5)
    assert result.accuracy == pytest.approx(accuracy)


@pytest.mark.parametrize("windows", [12, 13, 1000])
def test_subset_of_all_windows_is_the_exact_protocol(windows: int) -> None:
    model, tokens = make_model(), text(12 * CONTEXT + 3)
    assert evaluate(model, tokens, windows=windows) == evaluate(model, tokens)


def test_nanogpt_is_the_mean_over_random_windows() -> None:
    model, tokens = make_model(), text(5000)
    result = evaluate_nanogpt(model, tokens, batches=20, batch_size=50, seed=1)
    assert result.protocol == "nanogpt"
    assert result.tokens == 20 * 50 * CONTEXT
    assert result == evaluate_nanogpt(model, tokens, batches=20, batch_size=50, seed=1)
    assert result != evaluate_nanogpt(model, tokens, batches=20, batch_size=50, seed=2)
    loss, _, _ = naive(model, tokens[:1500], list(range(0, 1400, 3)))
    assert result.loss == pytest.approx(loss, rel=0.05)
    # The only window of a text of its length plus one is always drawn.
    least = evaluate_nanogpt(model, tokens[: CONTEXT + 1], batches=2, batch_size=3, seed=1)
    assert least.loss == pytest.approx(evaluate(model, tokens[: CONTEXT + 1]).loss, rel=1e-5)


def test_too_short_texts_are_refused() -> None:
    model = make_model()
    with pytest.raises(UserError, match="longer text"):
        evaluate(model, text(1))
    with pytest.raises(UserError, match="too few"):
        evaluate_nanogpt(model, text(CONTEXT), batches=1, batch_size=1, seed=0)


@pytest.mark.parametrize("is_training", [True, False])
def test_mode_randomness_and_gradients_are_left_alone(is_training: bool) -> None:
    model = make_model(dropout=0.5).train(is_training)
    before = torch.get_rng_state()
    first = evaluate(model, text(40))
    assert first == evaluate(model, text(40))
    assert model.training is is_training
    assert torch.equal(before, torch.get_rng_state())
    assert all(p.grad is None for p in model.parameters())


def test_cancelling_gives_up_and_restores_the_mode() -> None:
    model = make_model().train()
    polls = iter([False, True])
    with pytest.raises(CancelledError):
        evaluate(model, text(200_000), cancelled=lambda: next(polls))
    assert model.training


def test_memory_does_not_grow_with_the_split() -> None:
    model, tokens = make_model(), text(300_000)
    tracemalloc.start()
    try:
        evaluate(model, tokens)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # As 64-bit ids the split alone would take 2.4 MB.
    assert peak_bytes < 1_000_000


@given(st.integers(1, 4096), st.integers(1, 10**9))
def test_affordable_windows_cost_a_twentieth_of_training(seq_len: int, trained: int) -> None:
    windows = affordable_windows(seq_len=seq_len, tokens_between_evaluations=trained)
    assert windows >= 8
    if windows > 8:
        # Two splits, each token a third of a training token's cost.
        assert 2 * windows * seq_len / 3 <= 0.05 * trained
        assert 2 * (windows + 1) * seq_len / 3 > 0.05 * trained
