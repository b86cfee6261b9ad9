"""Surprise against a forward pass for every token by itself, attention against torch's own."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from shakespeare_tui.config.schema import ModelConfig
from shakespeare_tui.decoding.score import attention_at, logits_at, score_tokens
from shakespeare_tui.errors import CancelledError, UserError
from shakespeare_tui.models.transformer import Transformer

VOCAB = 7
CONTEXT = 8


def make_model(**changes: Any) -> Transformer:
    shape = {"d_model": 16, "n_heads": 2, "n_layers": 2, "max_seq_len": CONTEXT} | changes
    model = Transformer(ModelConfig(**shape), VOCAB, torch.Generator().manual_seed(0))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(6)
    return model.eval()


def text(length: int, seed: int = 0) -> npt.NDArray[np.int64]:
    return np.random.default_rng(seed).integers(0, VOCAB, length)


def first_seen(position: int, context: int) -> int:
    """By the words of the protocol: all while it fits, then hops of half a context."""
    start, hop = 0, max(1, context // 2)
    while position - start > context:
        start += hop
    return start


@torch.no_grad()
def logits_by_hand(model: Transformer, tokens: npt.NDArray[np.int64], position: int) -> Any:
    start = first_seen(position, model.config.max_seq_len)
    return model(torch.from_numpy(tokens[None, start:position]))[0, -1].double()


@settings(max_examples=40)
@given(
    length=st.integers(2, 45),
    seed=st.integers(0, 3),
    context=st.sampled_from([2, 3, 8, 9]),
    batch=st.sampled_from([None, 1, 2]),
)
def test_every_token_as_by_itself(length: int, seed: int, context: int, batch: int | None) -> None:
    model, tokens = make_model(max_seq_len=context), text(length, seed)
    found = score_tokens(model, tokens, batch=batch)
    assert math.isnan(found.nats[0])
    assert math.isnan(found.entropy[0])
    assert found.rank[0] == 0
    for position in range(1, length):
        logits = logits_by_hand(model, tokens, position)
        token = int(tokens[position])
        nats = F.cross_entropy(logits[None], torch.tensor([token])).item()
        entropy = torch.distributions.Categorical(logits=logits).entropy().item()
        assert found.nats[position] == pytest.approx(nats, rel=1e-4, abs=1e-5)
        assert found.entropy[position] == pytest.approx(entropy, rel=1e-4, abs=1e-5)
        order = logits.argsort(descending=True).tolist()
        assert found.rank[position] == order.index(token) + 1


def test_half_a_context_at_least_is_seen() -> None:
    for context in (2, 3, 8, 9, 128):
        for position in range(1, 1000):
            seen = position - first_seen(position, context)
            assert seen <= context
            assert seen >= min(position, (context + 1) // 2)


def test_the_mean_skips_the_first_token_and_the_prompt() -> None:
    model, tokens = make_model(), text(30)
    found = score_tokens(model, tokens)
    assert found.mean() == pytest.approx(found.nats[1:].mean(), rel=1e-6)
    assert found.mean(10) == pytest.approx(found.nats[10:].mean(), rel=1e-6)
    assert found.mean(30) is None


def test_candidates_are_the_distribution_in_order() -> None:
    model, tokens = make_model(), text(30)
    found = score_tokens(model, tokens)
    for position in (1, 5, CONTEXT, CONTEXT + 1, 29, 30):
        expected = torch.softmax(logits_by_hand(model, tokens, position), -1)
        candidates = found.top_candidates(position, VOCAB)
        probabilities = [candidate.probability for candidate in candidates]
        assert probabilities == sorted(probabilities, reverse=True)
        assert sum(probabilities) == pytest.approx(1)
        for candidate in candidates:
            assert candidate.probability == pytest.approx(expected[candidate.token].item(), 1e-4)
        assert found.top_candidates(position, 2) == candidates[:2]
        if position < 30:
            rank = int(found.rank[position])
            assert candidates[rank - 1].token == tokens[position]
    for position in (0, 31, -1):
        with pytest.raises(IndexError):
            found.logits_at(position)


def test_too_short_and_called_off() -> None:
    model = make_model()
    for tokens in ([], [3]):
        with pytest.raises(UserError, match="two tokens"):
            score_tokens(model, tokens)
    polls = iter([False, False, True])
    with pytest.raises(CancelledError):
        score_tokens(model, text(100), batch=1, cancelled=lambda: next(polls))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"qk_norm": True},
        {"positions": "learned", "bias": True},
        {"positions": "sinusoidal"},
        {"ngram_embedding": 2},
        {"n_heads": 4, "n_kv_heads": 2, "head_dim": 6},
    ],
)
@pytest.mark.parametrize("position", [1, 5, CONTEXT, CONTEXT + 1, 30])
def test_attention_weights_give_what_the_layer_puts_out(
    changes: dict[str, Any], position: int
) -> None:
    model, tokens = make_model(**changes), text(30)
    weights = attention_at(model, tokens, position)
    assert weights.shape == (2, changes.get("n_heads", 2), position)
    assert weights.sum(-1) == pytest.approx(1, abs=1e-5)
    start = first_seen(position, CONTEXT)
    assert not weights[:, :, :start].any()
    seen: dict[int, tuple[Any, ...]] = {}
    for layer, block in enumerate(model.blocks):
        block.attention.register_forward_hook(
            lambda module, given, output, layer=layer: seen.update({layer: (*given, output)})
        )
    with torch.no_grad():
        model(torch.from_numpy(tokens[None, start:position]))
        for layer, block in enumerate(model.blocks):
            x, rotary, _, output = seen[layer]
            value = block.attention.project(x, rotary)[2][0]
            value = value.repeat_interleave(len(weights[layer]) // len(value), dim=0)
            mixed = torch.einsum("ht,htd->hd", torch.from_numpy(weights[layer, :, start:]), value)
            expected = block.attention.out(mixed.flatten())
            torch.testing.assert_close(output[0, -1], expected, rtol=1e-4, atol=1e-4)


def test_logits_need_no_scoring() -> None:
    model, tokens = make_model(), text(30)
    expected = logits_by_hand(model, tokens, 30).float().numpy()
    assert logits_at(model, tokens, 30) == pytest.approx(expected, rel=1e-5)
