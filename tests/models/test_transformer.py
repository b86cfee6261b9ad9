"""The model against the published implementations that it claims to equal."""

from collections import Counter
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from shakespeare_tui.config.schema import ModelConfig
from shakespeare_tui.models.parameters import count_parameters, parameter_report
from shakespeare_tui.models.transformer import Block, Transformer

VOCAB = 65


def randomised(config: ModelConfig, vocab_size: int = VOCAB, seed: int = 5) -> Transformer:
    """A model whose every parameter, norms and biases too, is far from its initial value."""
    generator = torch.Generator().manual_seed(seed)
    model = Transformer(config, vocab_size, generator)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.3)
    return model.eval()


def tokens(batch: int, length: int, vocab_size: int = VOCAB) -> Tensor:
    generator = torch.Generator().manual_seed(length)
    return torch.randint(vocab_size, (batch, length), generator=generator)


def test_equals_gpt2() -> None:
    config = ModelConfig(
        d_model=48,
        n_heads=3,
        n_layers=3,
        max_seq_len=40,
        positions="learned",
        activation="gelu",
        norm="layernorm",
        bias=True,
        tie_weights=True,
    )
    ours = randomised(config)
    transformers = pytest.importorskip("transformers")
    theirs = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=VOCAB, n_positions=40, n_embd=48, n_layer=3, n_head=3, n_inner=192
        )
    ).eval()
    weights: dict[str, Tensor] = {
        "transformer.wte.weight": ours.embedding.weight,
        "transformer.wpe.weight": ours.get_parameter("positions.weight"),
        "lm_head.weight": ours.head.weight,
    }
    names = {
        "attention_norm": "ln_1",
        "attention.qkv": "attn.c_attn",
        "attention.out": "attn.c_proj",
        "feedforward_norm": "ln_2",
        "feedforward.up": "mlp.c_fc",
        "feedforward.down": "mlp.c_proj",
    }
    for kind in ("weight", "bias"):
        weights[f"transformer.ln_f.{kind}"] = ours.get_parameter(f"norm.{kind}")
        for layer in range(3):
            for mine, other in names.items():
                value = ours.get_parameter(f"blocks.{layer}.{mine}.{kind}")
                # GPT-2 keeps its matrices transposed.
                weights[f"transformer.h.{layer}.{other}.{kind}"] = value.t()
    left = theirs.load_state_dict(weights, strict=False)
    assert not left.unexpected_keys
    assert not [name for name in left.missing_keys if not name.endswith("attn.bias")]
    batch = tokens(3, 40)
    with torch.no_grad():
        torch.testing.assert_close(ours(batch), theirs(batch).logits, rtol=1e-4, atol=1e-4)
        loss = theirs(batch, labels=batch).loss
        assert float(ours.loss(batch[:, :-1], batch[:, 1:])) == pytest.approx(float(loss), rel=1e-5)


@pytest.mark.parametrize("tie_weights", [False, True])
def test_equals_qwen3(tie_weights: bool) -> None:
    config = ModelConfig(
        d_model=48,
        n_heads=3,
        n_layers=3,
        d_ff=80,
        max_seq_len=40,
        positions="rope",
        activation="swiglu",
        norm="rmsnorm",
        norm_eps=1e-6,
        qk_norm=True,
        bias=False,
        tie_weights=tie_weights,
        rope_theta=5000.0,
    )
    ours = randomised(config)
    transformers = pytest.importorskip("transformers")
    theirs = transformers.Qwen3ForCausalLM(
        transformers.Qwen3Config(
            vocab_size=VOCAB,
            hidden_size=48,
            intermediate_size=80,
            num_hidden_layers=3,
            num_attention_heads=3,
            num_key_value_heads=3,
            head_dim=16,
            max_position_embeddings=40,
            rms_norm_eps=1e-6,
            tie_word_embeddings=tie_weights,
            rope_parameters={"rope_type": "default", "rope_theta": 5000.0},
        )
    ).eval()
    weights: dict[str, Tensor] = {
        "model.embed_tokens.weight": ours.embedding.weight,
        "model.norm.weight": ours.get_parameter("norm.weight"),
        "lm_head.weight": ours.head.weight,
    }
    names = {
        "attention_norm": "input_layernorm",
        "attention.out": "self_attn.o_proj",
        "attention.q_norm": "self_attn.q_norm",
        "attention.k_norm": "self_attn.k_norm",
        "feedforward_norm": "post_attention_layernorm",
        "feedforward.gate": "mlp.gate_proj",
        "feedforward.up": "mlp.up_proj",
        "feedforward.down": "mlp.down_proj",
    }
    for layer in range(3):
        for mine, other in names.items():
            value = ours.get_parameter(f"blocks.{layer}.{mine}.weight")
            weights[f"model.layers.{layer}.{other}.weight"] = value
        parts = ours.get_parameter(f"blocks.{layer}.attention.qkv.weight").chunk(3)
        for letter, part in zip("qkv", parts, strict=True):
            weights[f"model.layers.{layer}.self_attn.{letter}_proj.weight"] = part
    left = theirs.load_state_dict(weights, strict=False)
    assert not left.unexpected_keys and not left.missing_keys
    batch = tokens(3, 40)
    with torch.no_grad():
        torch.testing.assert_close(ours(batch), theirs(batch).logits, rtol=1e-4, atol=1e-4)


def test_relu2_and_sinusoidal_equal_their_formulas() -> None:
    config = ModelConfig(
        d_model=8, n_heads=2, n_layers=1, max_seq_len=12, positions="sinusoidal", activation="relu2"
    )
    model = randomised(config)
    position, column = torch.arange(12)[:, None], torch.arange(8)
    angle = position / 10_000 ** (2 * (column // 2) / 8)
    table = torch.where(column % 2 == 0, angle.sin(), angle.cos())
    torch.testing.assert_close(model.get_buffer("position_table"), table)
    block: Any = model.blocks[0]
    x = torch.randn(2, 5, 8)
    expected = torch.relu(x @ block.feedforward.up.weight.T) ** 2 @ block.feedforward.down.weight.T
    torch.testing.assert_close(block.feedforward(x), expected)


@pytest.mark.parametrize("vocab_size", [5, 300])
@pytest.mark.parametrize("longest", [2, 3])
def test_an_ngram_adds_the_same_wherever_it_stands(vocab_size: int, longest: int) -> None:
    """With one table of distinct vectors the sums tell which n-grams are told apart."""
    config = ModelConfig(d_model=8, n_heads=2, n_layers=1, max_seq_len=60, ngram_embedding=longest)
    model = Transformer(config, vocab_size, torch.Generator().manual_seed(1))
    assert model.ngrams is not None and not model.ngrams.weight.any()
    with torch.no_grad():
        model.ngrams.weight.normal_(generator=torch.Generator().manual_seed(2))
        text = torch.randint(vocab_size, (40, 60), generator=torch.Generator().manual_seed(3))
        added = model.embed(text)[0] - model.embedding(text)
    seen: dict[tuple[int, ...], tuple[float, ...]] = {}
    for row, vectors in zip(text.tolist(), added, strict=True):
        for place, vector in enumerate(vectors):
            before = [vocab_size] * (longest - 1) + row
            ngram = tuple(before[place : place + longest])
            rounded = tuple((vector * 1e3).round().tolist())
            assert seen.setdefault(ngram, rounded) == rounded
    # Of 5 tokens none share a row; of 300 some of the rarest do.
    shared = len(seen) - len(set(seen.values()))
    assert shared == 0 if vocab_size == 5 else shared < 0.1 * len(seen)


@st.composite
def model_configs(draw: st.DrawFn) -> ModelConfig:
    heads = draw(st.integers(1, 4))
    return ModelConfig(
        n_heads=heads,
        n_kv_heads=draw(st.none() | st.sampled_from([k for k in (1, 2, 3, 4) if heads % k == 0])),
        head_dim=draw(st.none() | st.sampled_from([2, 6, 8])),
        attention_bias=draw(st.sampled_from(["none", "qkv", "all"])),
        d_model=heads * 2 * draw(st.integers(1, 5)),
        n_layers=draw(st.integers(1, 3)),
        d_ff=draw(st.none() | st.integers(1, 40)),
        max_seq_len=draw(st.integers(2, 20)),
        positions=draw(st.sampled_from(["sinusoidal", "learned", "rope"])),
        ngram_embedding=draw(st.sampled_from([0, 2, 3])),
        short_convolution=draw(st.sampled_from([0, 1, 4])),
        activation=draw(st.sampled_from(["gelu", "relu2", "swiglu"])),
        norm=draw(st.sampled_from(["layernorm", "rmsnorm"])),
        qk_norm=draw(st.booleans()),
        bias=draw(st.booleans()),
        tie_weights=draw(st.booleans()),
    )


PARTS = (
    ("q_norm", "attention"),
    ("k_norm", "attention"),
    ("norm", "norms"),
    ("attention", "attention"),
    ("feedforward", "feed-forward"),
    ("positions", "position embedding"),
    ("ngrams", "n-gram embedding"),
    ("embedding", "token embedding"),
    ("head", "output layer"),
)
"""Where a parameter belongs, by what its name holds; the first that fits counts."""


@settings(max_examples=100)
@given(model_configs(), st.integers(1, 80))
def test_parameter_arithmetic_equals_the_model(config: ModelConfig, vocab_size: int) -> None:
    model = Transformer(config, vocab_size)
    assert count_parameters(config, vocab_size) == sum(p.numel() for p in model.parameters())
    numbers: Counter[str] = Counter()
    rounded: Counter[str] = Counter()
    for name, parameter in model.named_parameters():
        part = next(part for word, part in PARTS if word in name)
        count = parameter.numel()
        numbers[part] += count
        is_matrix = parameter.dim() == 2 and "convolution" not in name
        # int8 has a float32 scale a row, and leaves vectors as they are.
        rounded[part] += count + 4 * len(parameter) if is_matrix else 4 * count
    for part, component in parameter_report(config, vocab_size).components.items():
        assert component.parameters == component.trained == numbers[part]
        assert component.size_bytes("float32") == 4 * numbers[part]
        assert component.size_bytes("bfloat16") == 2 * numbers[part]
        assert component.size_bytes("int8") == rounded[part]


def test_a_short_convolution_is_pytorchs_by_channel() -> None:
    config = ModelConfig(d_model=6, n_heads=1, max_seq_len=16, short_convolution=3)
    generator = torch.Generator().manual_seed(1)
    block = Transformer(config, 5, generator).blocks[0]
    assert isinstance(block, Block) and block.feedforward_convolution is not None
    convolution, x = block.feedforward_convolution, torch.randn(2, 9, 6, generator=generator)
    weight = convolution.weight
    assert float(weight[0].detach().min()) >= 0 and float(weight[1:].detach().min()) < 0
    # [K, C] -> [C, 1, K], the oldest first; [B, T, C] -> [B, C, T]
    kernels, padded = weight.flip(0).T[:, None], F.pad(x.mT, (2, 0))
    torch.testing.assert_close(
        convolution(x, None), F.conv1d(padded, kernels, groups=6).mT, rtol=1e-5, atol=1e-6
    )


def test_full_size_model_has_10_65_million_parameters() -> None:
    config = ModelConfig(
        d_model=384, n_heads=6, n_layers=6, max_seq_len=256, tie_weights=True, bias=False
    )
    assert count_parameters(config, 65) == 10_646_784


def test_gpt2_has_124_million_parameters() -> None:
    config = ModelConfig(
        d_model=768,
        n_heads=12,
        n_layers=12,
        max_seq_len=1024,
        positions="learned",
        bias=True,
        tie_weights=True,
    )
    assert count_parameters(config, 50257) == 124_439_808


@settings(max_examples=40)
@given(model_configs(), st.data())
def test_cache_in_any_pieces_equals_one_pass(config: ModelConfig, data: st.DataObject) -> None:
    model = randomised(config)
    length = config.max_seq_len
    batch = tokens(2, length)
    pieces = []
    while sum(pieces) < length:
        pieces.append(data.draw(st.integers(1, length - sum(pieces))))
    cache = model.make_cache(2)
    with torch.no_grad():
        whole = model(batch)
        parts = [model(piece, cache) for piece in batch.split(pieces, dim=1)]
    assert cache.length == length
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=1e-3, atol=1e-3)


@settings(max_examples=40)
@given(model_configs(), st.data())
def test_no_token_sees_a_later_one(config: ModelConfig, data: st.DataObject) -> None:
    model = randomised(config)
    batch = tokens(1, config.max_seq_len)
    place = data.draw(st.integers(0, config.max_seq_len - 1))
    changed = batch.clone()
    changed[0, place] = (changed[0, place] + 1) % VOCAB
    with torch.no_grad():
        before, after = model(batch), model(changed)
    assert torch.equal(before[:, :place], after[:, :place])
    assert not torch.equal(before[:, place:], after[:, place:])


def test_context_overflow_is_refused() -> None:
    model = randomised(ModelConfig(d_model=8, n_heads=2, n_layers=1, max_seq_len=4))
    cache = model.make_cache(1)
    model(tokens(1, 3), cache)
    with pytest.raises(ValueError, match="context"):
        model(tokens(1, 2), cache)
    with pytest.raises(ValueError, match="context"):
        model(tokens(1, 5))


def test_initial_weights_follow_the_seed_and_touch_no_global_generator() -> None:
    config = ModelConfig(d_model=64, n_heads=4, n_layers=8, bias=True)
    before = torch.get_rng_state()
    first = Transformer(config, VOCAB, torch.Generator().manual_seed(1))
    again = Transformer(config, VOCAB, torch.Generator().manual_seed(1))
    other = Transformer(config, VOCAB, torch.Generator().manual_seed(2))
    assert torch.equal(before, torch.get_rng_state())
    for a, b in zip(first.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(first.embedding.weight, other.embedding.weight)
    weights = dict(first.named_parameters())
    assert weights["blocks.0.feedforward.up.weight"].std().item() == pytest.approx(0.02, rel=0.1)
    narrower = 0.02 / (2 * 8) ** 0.5
    for name in ("attention.out", "feedforward.down"):
        std = weights[f"blocks.3.{name}.weight"].std().item()
        assert std == pytest.approx(narrower, rel=0.1)
    assert torch.equal(weights["blocks.2.attention_norm.weight"], torch.ones(64))
    assert torch.equal(weights["blocks.2.attention.qkv.bias"], torch.zeros(192))


def test_dropout_acts_in_training_only() -> None:
    config = ModelConfig(d_model=32, n_heads=4, n_layers=2, max_seq_len=16, dropout=0.5)
    model = randomised(config)
    batch = tokens(2, 16)
    with torch.no_grad():
        assert torch.equal(model(batch), model(batch))
        model.train()
        assert not torch.equal(model(batch), model(batch))
