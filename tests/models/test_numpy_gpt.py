"""The NumPy model's gradients against PyTorch's autograd and against finite differences."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from shakespeare_tui.config.schema import ModelConfig
from shakespeare_tui.models.numpy_gpt import GPT
from shakespeare_tui.models.transformer import Transformer

VOCAB_SIZE = 11


def windows(seed: int, batch: int, tokens: int) -> NDArray[np.int64]:
    return np.random.default_rng(seed).integers(0, VOCAB_SIZE, (batch, tokens + 1))


def with_random_weights(config: ModelConfig, seed: int) -> GPT:
    """In float64, larger than a start's, so that no gradient is near zero."""
    model = GPT(config, VOCAB_SIZE, dtype=np.float64)
    generator = np.random.default_rng(seed)
    for weight in model.weights.values():
        weight[:] = generator.normal(0.0, 0.5, weight.shape) + (weight.ndim == 1)
    return model


def torch_gradients(model: GPT, window: NDArray[np.int64]) -> tuple[float, dict[str, Any]]:
    oracle = Transformer(model.config, VOCAB_SIZE, embedding_scale=model.embedding_scale).double()
    state = {name: torch.from_numpy(weight) for name, weight in model.weights.items()}
    oracle.load_state_dict(state | ({"head.weight": state["embedding.weight"]} | state))
    tokens = torch.from_numpy(window)
    loss = oracle.loss(tokens[:, :-1], tokens[:, 1:])
    loss.backward()  # type: ignore[no-untyped-call]
    gradients = {
        name: p.grad.numpy() for name, p in oracle.named_parameters() if p.grad is not None
    }
    return loss.item(), gradients


shapes = st.builds(
    lambda key_heads, group, width, head_dim, **rest: ModelConfig(
        n_heads=key_heads * group,
        n_kv_heads=key_heads,
        d_model=key_heads * group * width,
        head_dim=head_dim,
        max_seq_len=8,
        **rest,
    ),
    key_heads=st.integers(1, 3),
    group=st.integers(1, 3),
    width=st.sampled_from((2, 4)),
    head_dim=st.sampled_from((None, 2, 6)),
    n_layers=st.integers(1, 3),
    d_ff=st.sampled_from((None, 5, 12)),
    tie_weights=st.booleans(),
    positions=st.sampled_from(("sinusoidal", "learned", "rope")),
    ngram_embedding=st.sampled_from((0, 2, 3)),
    short_convolution=st.sampled_from((0, 1, 2, 4)),
    activation=st.sampled_from(("gelu", "relu2", "swiglu")),
    norm=st.sampled_from(("layernorm", "rmsnorm")),
    norm_eps=st.sampled_from((1e-5, 0.05)),
    qk_norm=st.booleans(),
    bias=st.booleans(),
    attention_bias=st.sampled_from(("none", "qkv", "all")),
    rope_factor=st.sampled_from((1.0, 4.0)),
    rope_base_context=st.sampled_from((None, 16)),
)


@settings(max_examples=60, deadline=None)
@given(shapes, st.integers(1, 3), st.integers(1, 8), st.integers(0, 2**32 - 1))
def test_every_gradient_equals_pytorchs(
    config: ModelConfig, batch: int, tokens: int, seed: int
) -> None:
    model, window = with_random_weights(config, seed), windows(seed, batch, tokens)
    loss = model.loss_and_gradient(window[:, :-1], window[:, 1:])
    expected_loss, expected = torch_gradients(model, window)
    assert loss == pytest.approx(expected_loss, rel=1e-12)
    assert expected.keys() == model.gradients.keys()
    largest = max(np.abs(gradient).max() for gradient in expected.values())
    for name, gradient in expected.items():
        # Where the exact gradient is 0 (of the bias of keys, which softmax takes out), rounding
        # is all there is: it is measured against the largest of the model.
        error = np.abs(model.gradients[name] - gradient).max()
        assert error <= 1e-9 * max(np.abs(gradient).max(), 1e-3 * largest), name
    assert model.loss(window[:, :-1], window[:, 1:]) == pytest.approx(loss, rel=1e-12)


@pytest.mark.parametrize(
    "options",
    [
        {"positions": "rope", "norm": "rmsnorm", "activation": "swiglu", "qk_norm": True},
        {"positions": "learned", "norm": "layernorm", "activation": "gelu", "bias": True},
        {"positions": "sinusoidal", "activation": "relu2", "tie_weights": False, "n_kv_heads": 1},
    ],
)
def test_gradients_are_the_slopes_of_the_loss_with_dropout_on(options: dict[str, Any]) -> None:
    config = ModelConfig(
        d_model=4, n_heads=2, n_layers=2, max_seq_len=6, d_ff=6, dropout=0.3, **options
    )
    model, window = with_random_weights(config, 3), windows(4, 2, 6)
    tokens, targets = window[:, :-1], window[:, 1:]

    def loss() -> float:
        return model.loss_and_gradient(tokens, targets, np.random.default_rng(5))

    loss()
    found = {name: gradient.copy() for name, gradient in model.gradients.items()}
    for name, weight in model.weights.items():
        slopes = np.empty_like(weight)
        for place in np.ndindex(weight.shape):
            before, step = weight[place], 1e-5
            weight[place] = before + step
            above = loss()
            weight[place] = before - step
            slopes[place] = (above - loss()) / (2 * step)
            weight[place] = before
        np.testing.assert_allclose(found[name], slopes, rtol=1e-6, atol=1e-8, err_msg=name)


def test_gradients_add_up_over_passes_and_shares() -> None:
    config = ModelConfig(d_model=8, n_heads=2, n_layers=1, max_seq_len=4)
    model, window = with_random_weights(config, 1), windows(2, 4, 4)
    whole = model.loss_and_gradient(window[:, :-1], window[:, 1:])
    at_once = {name: gradient.copy() for name, gradient in model.gradients.items()}
    for gradient in model.gradients.values():
        gradient[:] = 0
    in_halves = sum(
        model.loss_and_gradient(half[:, :-1], half[:, 1:], share=0.5)
        for half in (window[:2], window[2:])
    )
    assert in_halves == pytest.approx(whole, rel=1e-12)
    for name, gradient in at_once.items():
        np.testing.assert_allclose(model.gradients[name], gradient, rtol=1e-9, atol=1e-15)


def test_training_arithmetic_is_float32_throughout() -> None:
    config = ModelConfig(
        d_model=8, n_heads=2, n_layers=1, max_seq_len=4, dropout=0.2, positions="sinusoidal"
    )
    model = GPT(config, VOCAB_SIZE, np.random.default_rng(0))
    window = windows(0, 2, 4)
    logits, _ = model.forward(window[:, :-1], np.random.default_rng(1))
    assert logits.dtype == np.float32
    model.loss_and_gradient(window[:, :-1], window[:, 1:], np.random.default_rng(1))
    types = {array.dtype for array in (*model.weights.values(), *model.gradients.values())}
    assert types == {np.dtype(np.float32)}


def test_weights_begin_as_those_of_gpt2() -> None:
    config = ModelConfig(d_model=64, n_heads=4, n_layers=2, tie_weights=False, bias=True)
    model = GPT(config, 300, np.random.default_rng(0))
    assert model.weights["head.weight"].std() == pytest.approx(0.02, rel=0.02)
    assert model.weights["blocks.1.feedforward.down.weight"].std() == pytest.approx(0.01, rel=0.02)
    assert (model.weights["blocks.0.attention_norm.weight"] == 1).all()
    assert (model.weights["blocks.0.attention.qkv.bias"] == 0).all()


def test_sums_of_losses_are_those_of_pytorch() -> None:
    config = ModelConfig(d_model=8, n_heads=2, n_layers=2, max_seq_len=6)
    model = GPT(config, VOCAB_SIZE, np.random.default_rng(0))
    oracle = Transformer(config, VOCAB_SIZE)
    for name, parameter in oracle.named_parameters():
        parameter.data = torch.from_numpy(model.weights[name])
    batches = [windows(1, 3, 6), windows(2, 1, 4)]
    (loss, correct), (expected, hits) = model.sum_losses(batches), oracle.sum_losses(batches)
    assert loss == pytest.approx(expected, rel=1e-6) and correct == hits


def test_a_longer_text_than_the_context_is_refused() -> None:
    model = GPT(ModelConfig(d_model=8, n_heads=2, n_layers=1, max_seq_len=8), VOCAB_SIZE, context=4)
    with pytest.raises(ValueError, match="5 tokens are more than the context of 4"):
        model.forward(np.zeros((1, 5), np.int64))
