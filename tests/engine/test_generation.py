"""Sampling against ``transformers``' processors, and generation against its definition."""

import math
from typing import Any

import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from shakespeare_tui.core.config import ModelConfig
from shakespeare_tui.core.errors import CancelledError, UserError
from shakespeare_tui.engine.generation import (
    SamplingSettings,
    apply_repetition_penalty,
    apply_top_k,
    apply_top_p,
    generate,
    next_probabilities,
    window_start,
)
from shakespeare_tui.engine.model import Transformer

processors = pytest.importorskip("transformers.generation.logits_process")

VOCAB = 13
seeds = st.integers(0, 2**31)


def random_logits(seed: int, rows: int = 3) -> Tensor:
    """Logits of which some are equal: they are rounded to a grid."""
    generator = torch.Generator().manual_seed(seed)
    grid = 1 + seed % 4
    return (torch.randn(rows, VOCAB, generator=generator) * 3 * grid).round() / grid


def kept(logits: Tensor) -> Tensor:
    return torch.sort(logits, dim=-1).values


class TestProcessors:
    @given(seeds, st.integers(1, 2 * VOCAB))
    def test_top_k(self, seed: int, k: int) -> None:
        logits = random_logits(seed)
        theirs = processors.TopKLogitsWarper(k)(None, logits)
        assert torch.equal(apply_top_k(logits, k), theirs)

    @given(seeds, st.floats(0.01, 0.999))
    def test_top_p(self, seed: int, p: float) -> None:
        logits = random_logits(seed)
        ordered = torch.softmax(logits.double(), -1).sort(descending=True).values
        # Where a set's mass is p to within rounding, either answer is right.
        assume(float((ordered.cumsum(-1) - p).abs().min()) > 1e-5)
        theirs = processors.TopPLogitsWarper(p)(None, logits)
        ours = apply_top_p(logits, p)
        # Of equal logits at the edge, which go is open: compare the values that stay.
        assert torch.equal(kept(ours), kept(theirs))
        mass = torch.softmax(logits, -1).masked_fill(ours == -math.inf, 0)
        assert (mass.sum(-1) >= p - 1e-5).all()
        least = mass.masked_fill(mass == 0, math.inf).min(-1).values
        assert (mass.sum(-1) - least < p + 1e-5).all()

    @given(seeds, st.floats(0.2, 5.0))
    def test_repetition_penalty(self, seed: int, penalty: float) -> None:
        logits = random_logits(seed)
        text = torch.randint(
            VOCAB, (3, 1 + seed % 9), generator=torch.Generator().manual_seed(seed)
        )
        seen = torch.zeros(3, VOCAB, dtype=torch.bool).scatter_(1, text, True)
        theirs = processors.RepetitionPenaltyLogitsProcessor(penalty)(text, logits)
        torch.testing.assert_close(apply_repetition_penalty(logits, seen, penalty), theirs)

    @given(seeds, st.floats(0.05, 5.0), st.integers(1, VOCAB), st.floats(1.01, 3.0))
    def test_chain_in_their_order(
        self, seed: int, temperature: float, k: int, theta: float
    ) -> None:
        logits = random_logits(seed)
        text = torch.randint(VOCAB, (3, 4), generator=torch.Generator().manual_seed(seed))
        seen = torch.zeros(3, VOCAB, dtype=torch.bool).scatter_(1, text, True)
        theirs = logits
        for processor in (
            processors.RepetitionPenaltyLogitsProcessor(theta),
            processors.TemperatureLogitsWarper(temperature),
            processors.TopKLogitsWarper(k),
        ):
            theirs = processor(text, theirs)
        ours = next_probabilities(
            logits,
            seen,
            SamplingSettings(temperature=temperature, top_k=k, repetition_penalty=theta),
        )
        torch.testing.assert_close(ours, torch.softmax(theirs, -1))

    def test_plain_settings_are_the_softmax(self) -> None:
        logits = random_logits(1)
        ours = next_probabilities(logits, None, SamplingSettings(temperature=1.0))
        torch.testing.assert_close(ours, torch.softmax(logits, -1))

    def test_logits_are_left_alone(self) -> None:
        logits = random_logits(3)
        before = logits.clone()
        seen = torch.ones(3, VOCAB, dtype=torch.bool)
        hard = SamplingSettings(temperature=0.5, top_k=3, top_p=0.5, repetition_penalty=2.0)
        next_probabilities(logits, seen, hard)
        assert torch.equal(logits, before)

    @given(seeds, st.floats(0.0, 1e-3))
    @example(1, 5e-324)
    @example(1, 1e-46)
    @example(1, 1e-38)
    def test_low_temperatures_approach_greedy(self, seed: int, temperature: float) -> None:
        logits = random_logits(seed)
        probabilities = next_probabilities(logits, None, SamplingSettings(temperature=temperature))
        torch.testing.assert_close(probabilities.sum(-1), torch.ones(3))
        best = logits == logits.max(-1, keepdim=True).values
        assert (probabilities[~best] < 1e-6).all()

    @pytest.mark.parametrize("penalty", [5e-324, 1e-40, 1e40, 1e300])
    @pytest.mark.parametrize("temperature", [1e-40, 1.0, 1e300])
    def test_extreme_settings_give_probabilities(self, penalty: float, temperature: float) -> None:
        extreme = SamplingSettings(temperature=temperature, repetition_penalty=penalty)
        seen = torch.ones(3, VOCAB, dtype=torch.bool)
        for logits in (random_logits(1), -random_logits(1).abs() - 1):
            probabilities = next_probabilities(logits, seen, extreme)
            torch.testing.assert_close(probabilities.sum(-1), torch.ones(3))

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("temperature", -0.1),
            ("temperature", math.nan),
            ("temperature", math.inf),
            ("top_k", -1),
            ("top_p", 0.0),
            ("top_p", 1.1),
            ("top_p", math.nan),
            ("repetition_penalty", 0.0),
            ("repetition_penalty", math.inf),
            ("seed", -1),
            ("seed", 2**63),
        ],
    )
    def test_values_out_of_range_are_refused_by_name(self, name: str, value: float) -> None:
        with pytest.raises(UserError, match=name):
            SamplingSettings(**{name: value})  # type: ignore[arg-type]


CONFIGS: dict[str, dict[str, Any]] = {
    "rope": {"positions": "rope", "norm": "rmsnorm", "qk_norm": True, "activation": "relu2"},
    "learned": {"positions": "learned", "bias": True},
    "sinusoidal": {"positions": "sinusoidal", "activation": "swiglu"},
}


def make_model(kind: str = "rope", context: int = 8) -> Transformer:
    config = ModelConfig(
        d_model=16,
        n_heads=2,
        n_layers=2,
        max_seq_len=context,
        tie_weights=False,
        **CONFIGS[kind],
    )
    generator = torch.Generator().manual_seed(2)
    model = Transformer(config, VOCAB, generator)
    with torch.no_grad():
        for parameter in model.parameters():
            # So that text hangs on places and on what came before, not on the last token alone.
            if parameter.dim() > 1:
                parameter.normal_(0, 0.5, generator=generator)
    return model.eval()


def text_of(
    model: Transformer, prompt: list[int], tokens: int, streams: int = 1, **options: Any
) -> list[list[int]]:
    use_cache = options.pop("use_cache", True)
    rows = generate(
        model,
        prompt,
        SamplingSettings(**options),
        max_tokens=tokens,
        streams=streams,
        use_cache=use_cache,
    )
    return [list(column) for column in zip(*rows, strict=True)]


@torch.no_grad()
def naive_greedy(model: Transformer, prompt: list[int], count: int, penalty: float) -> list[int]:
    """Every token from its window alone, by the definition in the module's docstring."""
    context, text = model.config.max_seq_len, list(prompt)
    penalise = processors.RepetitionPenaltyLogitsProcessor(penalty)
    for _ in range(count):
        start = 0
        while len(text) - start > context:
            start += max(1, context // 2)
        logits = model(torch.tensor([text[start:]]))[:, -1]
        text.append(int(penalise(torch.tensor([text]), logits).argmax()))
    return text[len(prompt) :]


@pytest.mark.parametrize("kind", sorted(CONFIGS))
@pytest.mark.parametrize("context", [2, 3, 8, 9])
@pytest.mark.parametrize("prompt_length", [1, 8, 9, 30])
@pytest.mark.parametrize("penalty", [1.0, 1.7])
def test_greedy_equals_its_definition_with_and_without_the_cache(
    kind: str, context: int, prompt_length: int, penalty: float
) -> None:
    model = make_model(kind, context)
    prompt = [(7 * i + 3) % VOCAB for i in range(prompt_length)]
    expected = naive_greedy(model, prompt, 40, penalty)
    options: dict[str, Any] = {"temperature": 0.0, "repetition_penalty": penalty}
    for use_cache in (True, False):
        texts = text_of(model, prompt, 40, streams=3, use_cache=use_cache, **options)
        assert texts == [expected] * 3


@pytest.mark.parametrize("kind", sorted(CONFIGS))
def test_sampling_agrees_with_and_without_the_cache(kind: str) -> None:
    options: dict[str, Any] = {"temperature": 1.3, "top_k": 9, "top_p": 0.95, "seed": 5}
    options["repetition_penalty"] = 1.2
    model = make_model(kind)
    cached = text_of(model, [1, 2, 3], 40, streams=4, **options)
    assert cached == text_of(model, [1, 2, 3], 40, streams=4, use_cache=False, **options)
    assert len({tuple(stream) for stream in cached}) == 4


def test_same_seed_same_text_and_global_generators_rest() -> None:
    model = make_model()
    before = torch.get_rng_state()
    first = text_of(model, [4], 60, streams=2, temperature=1.0, seed=9)
    torch.manual_seed(0)
    assert text_of(model, [4], 60, streams=2, temperature=1.0, seed=9) == first
    assert text_of(model, [4], 60, streams=2, temperature=1.0, seed=10) != first
    torch.set_rng_state(before)
    text_of(model, [4], 5)
    assert torch.equal(before, torch.get_rng_state())


def test_stream_is_the_same_however_many_run_beside_it() -> None:
    model = make_model()
    many = text_of(model, [4, 2], 50, streams=6, temperature=1.0)
    for count in (1, 2, 5):
        assert text_of(model, [4, 2], 50, streams=count, temperature=1.0) == many[:count]


def test_strategies_meet_where_they_must() -> None:
    model = make_model()
    greedy = text_of(model, [1], 40, temperature=0.0)
    assert text_of(model, [1], 40, temperature=1.0, top_k=1) == greedy
    assert text_of(model, [1], 40, temperature=1.0, top_p=1e-9) == greedy
    plain = text_of(model, [1], 40, temperature=1.0)
    assert text_of(model, [1], 40, temperature=1.0, top_k=VOCAB + 5) == plain


def test_sampled_tokens_follow_the_distribution() -> None:
    model = make_model()
    with torch.no_grad():
        expected = torch.softmax(model(torch.tensor([[3, 1]]))[0, -1] / 2.0, -1).tolist()
    streams = 20_000
    tokens = [column[0] for column in text_of(model, [3, 1], 1, streams=streams, temperature=2.0)]
    chi_squared = sum(
        (tokens.count(token) - streams * p) ** 2 / (streams * p) for token, p in enumerate(expected)
    )
    # 12 degrees of freedom: above 40 once in 10,000 fair samples; the seed is fixed.
    assert chi_squared < 40


def test_it_yields_each_token_as_it_is_made() -> None:
    polls = []
    stream = generate(
        make_model(),
        [1],
        SamplingSettings(),
        max_tokens=5,
        cancelled=lambda: bool(polls.append(1)) or len(polls) > 2,
    )
    assert len(next(stream)) == 1
    assert len(polls) == 1
    next(stream)
    with pytest.raises(CancelledError):
        next(stream)


def test_empty_prompt_is_refused() -> None:
    with pytest.raises(UserError, match="prompt is empty"):
        next(generate(make_model(), [], SamplingSettings(), max_tokens=1))


@settings(max_examples=300)
@given(st.integers(1, 5000), st.integers(2, 512))
def test_window_covers_the_end_and_moves_in_hops(tokens: int, context: int) -> None:
    start = window_start(tokens, context)
    shown = tokens - start
    hop = context // 2
    assert 1 <= shown <= context
    assert start % hop == 0
    if tokens <= context:
        assert start == 0
    else:
        # Never less is shown than after a hop, and hops come as late as they can.
        assert shown > context - hop
        assert tokens - (start - hop) > context
    assert window_start(tokens + 1, context) in (start, start + hop)
