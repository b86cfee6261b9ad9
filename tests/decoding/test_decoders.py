"""Every decoder against the model's own forward pass, for every kind of model."""

import gc
import weakref
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from shakespeare_tui.config.schema import ModelConfig
from shakespeare_tui.decoding.cpu_decoder import CpuDecoder, may_pay_to_draft
from shakespeare_tui.decoding.decoder import Decoder, Precision, RereadingDecoder
from shakespeare_tui.decoding.factory import make_decoder
from shakespeare_tui.decoding.packed import Linear
from shakespeare_tui.decoding.torch_decoder import TorchDecoder, packed_weights
from shakespeare_tui.errors import UserError
from shakespeare_tui.models.numpy_gpt import GPT
from shakespeare_tui.models.transformer import Transformer

VOCAB, CONTEXT = 23, 20
VARIANTS = list(
    product(
        ("rope", "learned", "sinusoidal"),
        ("gelu", "relu2", "swiglu"),
        ("layernorm", "rmsnorm"),
        (False, True),
        (False, True),
        (False, True),
    )
)


def make_model(variant: tuple[Any, ...] = VARIANTS[0], **others: Any) -> Transformer:
    names = ("positions", "activation", "norm", "qk_norm", "bias", "tie_weights")
    shape = {"d_model": 24, "n_heads": 3, "n_layers": 2, "max_seq_len": CONTEXT, "d_ff": 40}
    config = ModelConfig(**(shape | dict(zip(names, variant, strict=True)) | others))
    generator = torch.Generator().manual_seed(3)
    model = Transformer(config, VOCAB, generator)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.25)
    return model.eval()


def in_numpy(model: Transformer) -> GPT:
    """The same model without PyTorch."""
    same = GPT(model.config, VOCAB)
    for name, parameter in model.named_parameters():
        same.weights[name][:] = parameter.detach().numpy()
    return same


def random_tokens(streams: int, length: int, seed: int = 1) -> NDArray[np.int64]:
    return np.random.default_rng(seed).integers(0, VOCAB, (streams, length))


@torch.no_grad()
def expected(model: Transformer, tokens: NDArray[np.int64]) -> NDArray[np.float32]:
    logits: NDArray[np.float32] = model(torch.from_numpy(tokens)).numpy()
    return logits


def close(ours: NDArray[np.float32], theirs: NDArray[np.float32], tolerance: float = 2e-5) -> None:
    """Nowhere further than the tolerance, or in the mean where it is a coarse one."""
    if tolerance > 1e-2:
        assert np.linalg.norm(ours - theirs) < tolerance * np.linalg.norm(theirs)
    else:
        bound = tolerance * abs(theirs).max()
        np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=bound)


@pytest.mark.parametrize("kind", ["float32", "int8", "numpy"])
@pytest.mark.parametrize(
    "shape",
    [
        {"n_heads": 6, "n_kv_heads": 2, "head_dim": 8},
        {"n_heads": 6, "n_kv_heads": 1, "attention_bias": "qkv", "qk_norm": True},
        {"n_heads": 2, "head_dim": 16, "attention_bias": "all", "positions": "learned"},
        {"ngram_embedding": 3},
        {"short_convolution": 4, "norm": "rmsnorm"},
        {"short_convolution": 2, "bias": True},
    ],
    ids=str,
)
def test_fast_equals_the_model_of_other_shapes(shape: dict[str, Any], kind: str) -> None:
    model = make_model(**shape)
    tokens = random_tokens(3, CONTEXT)
    theirs = expected(model, tokens)
    decoder = DECODERS[kind](model, 3)
    tolerance = 0.1 if kind == "int8" else 2e-5
    close(decoder.read(tokens[:, :5]), theirs[:, 4], tolerance)
    for place in range(5, 12):
        close(decoder.read(tokens[:, place : place + 1]), theirs[:, place], tolerance)
    decoder.reorder(np.array([2, 0]))
    close(decoder.read_all(tokens[[2, 0], 12:]), theirs[[2, 0], 12:], tolerance)


@pytest.mark.parametrize("kind", ["float32", "numpy"])
@pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: "-".join(map(str, v)))
def test_fast_equals_the_model_for_every_variant(variant: tuple[Any, ...], kind: str) -> None:
    model = make_model(variant)
    tokens = random_tokens(2, CONTEXT)
    theirs = expected(model, tokens)
    decoder = DECODERS[kind](model, 2)
    assert isinstance(decoder, CpuDecoder)
    close(decoder.read(tokens[:, :7]), theirs[:, 6])
    for place in range(7, 15):
        close(decoder.read(tokens[:, place : place + 1]), theirs[:, place])
    close(decoder.read_all(tokens[:, 15:]), theirs[:, 15:])
    with torch.no_grad():
        hidden = model.hidden_states(torch.from_numpy(tokens))[:, 15:].numpy()
    close(decoder.hidden, hidden)


DECODERS = {
    "float32": lambda model, streams: make_decoder(model, streams),
    "plain": TorchDecoder,
    "rereading": lambda model, streams: make_decoder(model, streams, use_cache=False),
    "bfloat16": lambda model, streams: make_decoder(model, streams, precision="bfloat16"),
    "int8": lambda model, streams: make_decoder(model, streams, precision="int8"),
    "numpy": lambda model, streams: make_decoder(in_numpy(model), streams),
}


@pytest.mark.parametrize("kind", DECODERS)
class TestEveryDecoder:
    def make(self, kind: str, streams: int) -> tuple[Decoder, Transformer, float]:
        # Widths that the int8 kernel takes.
        model = make_model(d_model=96, d_ff=128)
        # These weights are so large that rounding shows: about 2 and 5 per cent.
        tolerance = {"bfloat16": 0.04, "int8": 0.1}.get(kind, 2e-5)
        return DECODERS[kind](model, streams), model, tolerance

    @pytest.mark.parametrize("streams", [1, 2, 9])
    def test_reads_in_parts_as_in_one(self, kind: str, streams: int) -> None:
        decoder, model, tolerance = self.make(kind, streams)
        assert (decoder.vocab_size, decoder.context) == (VOCAB, CONTEXT)
        tokens = random_tokens(streams, CONTEXT)
        theirs = expected(model, tokens)
        place = 0
        for count in (3, 1, 1, 5, 2, 1, 7):
            part = tokens[:, place : place + count]
            place += count
            close(decoder.read(part), theirs[:, place - 1], tolerance)
            assert (decoder.streams, decoder.length) == (streams, place)
        with pytest.raises(ValueError, match="21 tokens are more than the context of 20"):
            decoder.read(tokens[:, :1])

    def test_rewinds_and_reorders(self, kind: str) -> None:
        decoder, model, tolerance = self.make(kind, 1)
        beginning, ends = random_tokens(1, 6), random_tokens(3, 4, seed=2)
        decoder.read(beginning)
        decoder.reorder(np.zeros(3, np.int64))
        decoder.read(ends)
        decoder.reorder(np.array([2, 0]))
        whole = np.concatenate((np.repeat(beginning, 2, 0), ends[[2, 0]]), axis=1)
        decoder.rewind(8)
        assert (decoder.streams, decoder.length) == (2, 8)
        after = random_tokens(2, 5, seed=3)
        text = np.concatenate((whole[:, :8], after), axis=1)
        close(decoder.read_all(after), expected(model, text)[:, 8:], tolerance)
        assert decoder.hidden.shape == (2, 5, 96)

    def test_what_was_returned_stays_as_it_is(self, kind: str) -> None:
        decoder, _, _ = self.make(kind, 2)
        decoder.read(random_tokens(2, 3))
        first = decoder.read(random_tokens(2, 1))
        copy = first.copy()
        decoder.read(random_tokens(2, 1, seed=4))
        assert np.array_equal(first, copy)


def test_low_precision_of_a_stream_does_not_hang_on_the_others() -> None:
    model, tokens = make_model(), random_tokens(6, 9)
    for precision in ("int8", "bfloat16"):
        many = make_decoder(model, 6, precision=precision)  # type: ignore[arg-type]
        one = make_decoder(model, 1, precision=precision)  # type: ignore[arg-type]
        for place in range(9):
            column = tokens[:, place : place + 1]
            close(one.read(column[:1]), many.read(column)[:1], 1e-2)


def test_int8_of_widths_that_the_kernel_does_not_take() -> None:
    model, tokens = make_model(), random_tokens(1, 4)
    decoder = make_decoder(model, 1, precision="int8")
    for place in range(4):
        logits = decoder.read(tokens[:, place : place + 1])
    close(logits, expected(model, tokens)[:, -1], 0.1)


def test_weights_that_change_later_do_not_change_a_text_under_way() -> None:
    model, tokens = make_model(VARIANTS[-1]), random_tokens(1, 5)
    decoder = make_decoder(model, 1)
    before = decoder.read(tokens)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
    decoder.rewind(0)
    close(decoder.read(tokens), before, 1e-6)


def test_a_training_in_bfloat16_leaves_decoding_in_float32() -> None:
    model = make_model(("rope", "gelu", "layernorm", False, True, False))
    tokens = random_tokens(2, 9)
    theirs = expected(model, tokens)
    with torch.autocast("cpu", torch.bfloat16):
        decoder = make_decoder(model, 2)
        close(decoder.read(tokens[:, :7]), theirs[:, 6])
        close(decoder.read(tokens[:, 7:8]), theirs[:, 7])
        close(decoder.read_all(tokens[:, 8:]), theirs[:, 8:])


def test_other_models_are_decoded_plainly() -> None:
    decoder = make_decoder(make_model().double(), 1)
    assert isinstance(decoder, TorchDecoder)
    uncached = make_decoder(make_model().double(), 1, use_cache=False)
    assert isinstance(uncached, RereadingDecoder)
    with pytest.raises(UserError, match="int8 works on the CPU only"):
        make_decoder(make_model().to("meta"), 1, precision="int8")


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(UserError, match="one of auto, float32, bfloat16, int8, got float8"):
        make_decoder(make_model(), 1, precision="float8")  # type: ignore[arg-type]


class TestPackedWeights:
    def test_are_kept_while_the_model_is_as_it_was(self) -> None:
        model = make_model()
        first = packed_weights(model, "float32")
        assert packed_weights(model, "int8") is not first
        assert packed_weights(model, "float32") is first

    @pytest.mark.parametrize("is_traced", [True, False])
    def test_follow_every_change_of_the_model(self, is_traced: bool) -> None:
        model, tokens = make_model(), random_tokens(1, 5)
        before = make_decoder(model, 1).read(tokens)
        parameter = model.blocks[1].feedforward.up.weight  # type: ignore[union-attr]
        with torch.no_grad():
            # PyTorch counts the changes of a parameter, but not those of its data.
            (parameter if is_traced else parameter.data).mul_(1.5)
        after = make_decoder(model, 1).read(tokens)
        assert np.abs(after - before).max() > 1e-3
        close(after, expected(model, tokens)[:, -1])

    def test_of_a_settled_model_are_taken_as_they_are(self) -> None:
        model, tokens = make_model(), random_tokens(1, 5)
        before = make_decoder(model, 1, is_settled=True).read(tokens)
        model.blocks[1].feedforward.up.weight.data.mul_(1.5)  # type: ignore[union-attr]
        close(make_decoder(model, 1, is_settled=True).read(tokens), before)
        assert np.abs(make_decoder(model, 1).read(tokens) - before).max() > 1e-3

    def test_let_go_of_a_model_that_is_gone(self) -> None:
        model = make_model()
        weak = weakref.ref(packed_weights(model, "float32"))
        del model
        gc.collect()
        assert weak() is None


def test_a_decoder_that_follows_another_goes_on_from_its_tokens() -> None:
    model, tokens = make_model(), random_tokens(1, 12)
    leader, follower = (CpuDecoder(packed_weights(model, "float32"), 1) for _ in range(2))
    leader.read(tokens[:, :6])
    follower.follow(leader)
    close(follower.read(tokens[:, 6:9]), expected(model, tokens[:, :9])[:, -1])
    assert leader.length == 6
    close(leader.read(tokens[:, 6:]), expected(model, tokens)[:, -1])


@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
def test_matrices_are_rounded_to_the_nearest(precision: Precision) -> None:
    random = np.random.default_rng(3)
    weight = random.standard_normal((30, 24)).astype(np.float32)
    linear = Linear.empty(1, 30, 24, precision, has_bias=False)
    linear.fill(0, weight, None)
    rounded = np.empty((24, 30), np.float32)
    linear.product(0, np.eye(24, dtype=np.float32), rounded)
    if precision == "bfloat16":
        theirs = torch.from_numpy(weight).bfloat16().float().numpy()
        assert np.array_equal(rounded.T, theirs)
    else:
        step = abs(weight).max(1, keepdims=True) / 127
        assert (abs(rounded.T - weight) < 0.5001 * step).all()


@pytest.mark.parametrize(("vocab_size", "drafts"), [(65, True), (20_000, False)])
def test_texts_of_large_vocabularies_are_not_drafted(vocab_size: int, drafts: bool) -> None:
    shape = ModelConfig(d_model=384, n_heads=6, n_layers=3, d_ff=1536, max_seq_len=8)
    model = Transformer(shape, vocab_size, torch.Generator().manual_seed(3)).eval()
    assert may_pay_to_draft(packed_weights(model, "float32")) == drafts
