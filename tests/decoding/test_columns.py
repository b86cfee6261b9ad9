"""Generation against its definition, with and without the cache, alone and side by side."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from search_models import ends_with

from shakespeare_tui.config.schema import ModelConfig
from shakespeare_tui.decoding.choosers import ENDED
from shakespeare_tui.decoding.columns import Column, Pace, generate_columns
from shakespeare_tui.decoding.factory import make_decoder
from shakespeare_tui.decoding.window import window_start
from shakespeare_tui.errors import CancelledError, UserError
from shakespeare_tui.models.transformer import Transformer
from shakespeare_tui.sampling import parse_strategy, strategy_from_flags

VOCAB = 13
GREEDY = Column(strategy=parse_strategy("greedy"))
CONFIGS: dict[str, dict[str, Any]] = {
    "rope": {"positions": "rope", "norm": "rmsnorm", "qk_norm": True, "activation": "relu2"},
    "learned": {"positions": "learned", "bias": True},
    "sinusoidal": {"positions": "sinusoidal", "activation": "swiglu"},
    "looks-back": {"ngram_embedding": 3, "short_convolution": 4},
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
    use_cache, seed = options.pop("use_cache", True), options.pop("seed", 42)
    strategy = strategy_from_flags(**{"temperature": 0.8, **options})
    rows = generate_columns(
        make_decoder(model, 1, use_cache=use_cache),
        prompt,
        [Column(strategy=strategy, samples=streams, seed=seed)],
        max_tokens=tokens,
    )
    return [list(column) for column in zip(*rows, strict=True)]


@torch.no_grad()
def naive_greedy(model: Transformer, prompt: list[int], count: int, penalty: float) -> list[int]:
    """Every token from its window alone, by the definition in the module's docstring."""
    context, text = model.config.max_seq_len, list(prompt)
    processors = pytest.importorskip("transformers.generation.logits_process")
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
    polls: list[int] = []
    is_unwanted = False

    def cancelled() -> bool:
        polls.append(1)
        return is_unwanted

    stream = generate_columns(
        make_decoder(make_model(), 1),
        [1],
        [Column(strategy=parse_strategy("temperature=0.8"))],
        max_tokens=5,
        cancelled=cancelled,
    )
    assert len(next(stream)) == 1
    first = len(polls)
    next(stream)
    assert len(polls) == first + 1
    is_unwanted = True
    with pytest.raises(CancelledError):
        next(stream)


def test_empty_prompt_is_refused() -> None:
    with pytest.raises(UserError, match="prompt is empty"):
        next(generate_columns(make_decoder(make_model(), 1), [], [GREEDY], max_tokens=1))


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


def streams_of(model: Transformer, columns: list[Column], tokens: int, **options: Any) -> Any:
    decoder = make_decoder(model, 1, use_cache=options.pop("use_cache", True))
    rows = generate_columns(decoder, [3, 1], columns, max_tokens=tokens, **options)
    return [[token for token in stream if token >= 0] for stream in zip(*rows, strict=True)]


def test_columns_side_by_side_are_the_columns_alone() -> None:
    model = make_model()
    texts = ("greedy", "temperature=1.2", "beam=3", "top_k=3", "contrastive=4,alpha=0.3")
    columns = [
        Column(strategy=parse_strategy(text), samples=1 + (text[0] == "t"), seed=3)
        for text in texts
    ]
    together = streams_of(model, columns, 30)
    apart = [stream for column in columns for stream in streams_of(model, [column], 30)]
    assert together == apart
    assert together == streams_of(model, columns, 30, use_cache=False)
    assert all(len(stream) == 30 for stream in together)


def test_columns_of_one_seed_share_their_random_numbers() -> None:
    hot, same = (Column(strategy=parse_strategy(text)) for text in ("temperature=1", "top_k=99"))
    first, second = streams_of(make_model(), [hot, same], 40)
    assert first == second


def test_a_stop_sequence_ends_its_stream_alone() -> None:
    model = make_model()
    column = Column(strategy=parse_strategy("temperature=1"), samples=4, seed=2)
    full = streams_of(model, [column], 30)
    stop = full[1][4:6]
    decoder = make_decoder(model, 1)
    rows = list(
        generate_columns(decoder, [3, 1], [column], max_tokens=30, stop=ends_with(stop, [77]))
    )
    for stream, whole in zip(zip(*rows, strict=True), full, strict=True):
        ends = [n for n in range(2, 31) if whole[n - 2 : n] == stop]
        length = ends[0] if ends else 30
        assert list(stream[:length]) == whole[:length]
        assert set(stream[length:]) <= {ENDED}


def test_it_is_over_when_every_stream_has_ended() -> None:
    everything = ends_with(*([token] for token in range(VOCAB)))
    for text in ("greedy", "beam=2", "contrastive=2"):
        column = Column(strategy=parse_strategy(text))
        assert [len(s) for s in streams_of(make_model(), [column], 20, stop=everything)] == [1]


def test_a_call_that_was_interrupted_leaves_the_pace() -> None:
    pace = Pace()
    for _ in range(9):
        pace.took(1e-5 * pace.tokens, pace.tokens)
    fastest = pace.tokens
    pace.took(0.5, pace.tokens)
    assert pace.tokens == fastest
    # What stays slow is drawn in pieces, so that the text streams evenly.
    for _ in range(9):
        pace.took(0.01 * pace.tokens, pace.tokens)
    assert 1 <= pace.tokens < 4
