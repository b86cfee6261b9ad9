"""The compiled decoder against NumPy's, which is held to the model itself elsewhere."""

import gc
import itertools
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, wait
from typing import Any

import numpy as np
import pytest
import torch
from compiling_once import compiling_once, with_numba
from numba.types import Array
from numpy.typing import NDArray

from shakespeare_tui.config.schema import ModelConfig
from shakespeare_tui.decoding import cpu_decoder
from shakespeare_tui.decoding.columns import Column, generate_bursts, generate_columns
from shakespeare_tui.decoding.cpu_decoder import (
    Compilation,
    CpuDecoder,
    FasterWay,
    compiled_for,
    threads_for,
)
from shakespeare_tui.decoding.decoder import Precision
from shakespeare_tui.decoding.draws import TOP_K, TOP_P
from shakespeare_tui.decoding.packed import PackedWeights
from shakespeare_tui.decoding.torch_decoder import packed_weights
from shakespeare_tui.machine import CORES
from shakespeare_tui.models.transformer import Transformer
from shakespeare_tui.sampling import Recording, parse_strategy

VOCAB, CONTEXT = 23, 20
BASE = {"d_model": 24, "n_heads": 3, "n_layers": 2, "max_seq_len": CONTEXT, "d_ff": 40}
SHAPES: list[dict[str, Any]] = [
    {},
    {"positions": "learned", "activation": "relu2", "bias": True, "tie_weights": False},
    {"positions": "sinusoidal", "activation": "swiglu", "norm": "rmsnorm", "d_ff": 41},
    {"qk_norm": True, "activation": "swiglu", "norm": "rmsnorm", "bias": True},
    {"n_heads": 6, "n_kv_heads": 2, "head_dim": 8, "attention_bias": "qkv"},
    {"n_heads": 2, "head_dim": 16, "attention_bias": "all", "positions": "learned"},
    {"ngram_embedding": 2},
    {"ngram_embedding": 3, "positions": "learned"},
    {"short_convolution": 4, "norm": "rmsnorm", "activation": "relu2", "tie_weights": False},
    {"short_convolution": 3, "bias": True},
]
COMMON = (
    "temperature=0.8",
    "top_k=5 temperature=1.2",
    "top_p=0.8",
    "min_p=0.1 temperature=2",
    "greedy",
    "repetition_penalty=1.3 presence_penalty=0.4 frequency_penalty=0.2",
    "frequency_penalty=0.3 top_k=7 top_p=0.9 min_p=0.02 temperature=0",
)


@pytest.fixture(scope="module", autouse=True)
def compiling() -> Iterator[None]:
    with with_numba():
        yield


def make_model(**shape: Any) -> Transformer:
    generator = torch.Generator().manual_seed(3)
    model = Transformer(ModelConfig(**(BASE | shape)), VOCAB, generator)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.25)
    return model.eval()


def compiled(packed: PackedWeights) -> Compilation:
    """As soon as it is there."""
    with compiling_once():
        compilation = compiled_for(packed)
        assert compilation is not None
        wait([compilation])
    return compilation


def reading(packed: PackedWeights) -> Compilation:
    """The same; rounded weights' functions are compiled when they are used, and do not write."""
    if packed.qkv.weights.dtype != np.int8:
        return compiled(packed)
    from shakespeare_tui.decoding.compiled import Compiled  # only here are its functions compiled

    compilation: Compilation = Future()
    compilation.set_result(Compiled())
    return compilation


def random_tokens(streams: int, length: int) -> NDArray[np.int64]:
    return np.random.default_rng(1).integers(0, VOCAB, (streams, length))


@pytest.mark.parametrize(
    "precision", ["float32", "int8", pytest.param("bfloat16", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_reads_as_numpy_does(shape: dict[str, Any], precision: Precision) -> None:
    packed, tokens = packed_weights(make_model(**shape), precision), random_tokens(5, CONTEXT)
    ours, theirs = CpuDecoder(packed, 5, reading(packed)), CpuDecoder(packed, 5)
    # Where the two differ by an ulp, an input of int8 weights may be rounded the other way.
    near = {"atol": 2e-3 if precision == "int8" else 2e-4, "rtol": 2e-4}
    place = 0
    for count in (3, 1, 1, 5, 1, 9):
        part = tokens[:, place : place + count]
        place += count
        read = "read_all" if count == 5 else "read"
        np.testing.assert_allclose(getattr(ours, read)(part), getattr(theirs, read)(part), **near)
        np.testing.assert_allclose(ours.hidden, theirs.hidden, **near)


def test_many_tokens_at_once_are_read_as_one_by_one() -> None:
    packed = packed_weights(make_model(max_seq_len=200), "float32")
    kernels, tokens = compiled(packed), random_tokens(2, 150)
    one, many = CpuDecoder(packed, 2, kernels), CpuDecoder(packed, 2, kernels)
    for place in range(150):
        last = one.read(tokens[:, place : place + 1])
    np.testing.assert_allclose(many.read(tokens), last, atol=2e-4)


def texts(
    decoder: CpuDecoder, strategies: tuple[str, ...] = COMMON, **options: Any
) -> list[list[int]]:
    columns = [Column(strategy=parse_strategy(text), samples=2, seed=5) for text in strategies]
    return list(generate_columns(decoder, [1, 2, 3], columns, max_tokens=90, **options))


@pytest.mark.slow  # it is compiled by itself, for three seconds
@pytest.mark.parametrize("spread", [0.5, 4.0])
@pytest.mark.parametrize(("kind", "value"), [(TOP_K, 1), (TOP_K, 7), (TOP_P, 0.5), (TOP_P, 0.99)])
def test_of_a_large_vocabulary_the_same_tokens_are_kept(
    kind: int, value: float, spread: float
) -> None:
    # What is imported while compiling is switched off stays uncompiled.
    from shakespeare_tui.decoding.compiled_draws import draw

    random = np.random.default_rng(2)
    logits = np.round(random.normal(0, spread, 5003), 1).astype(np.float32)  # with many equals
    logits[random.integers(0, 5003, 50)] = -np.inf
    order = np.argsort(-logits, kind="stable")
    if kind == TOP_K:
        kept = np.flatnonzero(logits >= logits[order[int(value) - 1]])
    else:
        powers = np.exp(logits.astype(np.float64))
        mass = np.cumsum(powers[order])
        kept = np.sort(order[: 1 + int(np.argmax(mass >= value * powers.sum()))])
    counts = np.zeros((1, len(logits)), np.int64)
    token = draw(logits, np.array([kind]), np.array([value], float), counts, 0.3)
    np.testing.assert_array_equal(np.flatnonzero(logits), kept)
    assert token in kept


def test_writes_what_is_drawn_token_by_token() -> None:
    # Over many windows, and with what each token was drawn from.
    packed = packed_weights(make_model(), "float32")
    ours, theirs = ([Recording() for _ in range(2 * len(COMMON))] for _ in range(2))
    ahead = texts(CpuDecoder(packed, 1, compiled(packed)), recordings=ours)
    assert ahead == texts(CpuDecoder(packed, 1), recordings=theirs)
    for our, their in zip(ours, theirs, strict=True):
        assert len(our) == len(their) == 90
        for place in (0, 1, 50, 89):
            mine, other = our.at(place), their.at(place)
            assert mine is not None and other is not None
            np.testing.assert_allclose(mine.logits, other.logits, atol=2e-4)
            assert (mine.chance, mine.remembered) == (other.chance, other.remembered)


@pytest.mark.parametrize("threads", [2, 3, 40])
def test_threads_change_nothing(threads: int) -> None:
    # Over many windows, with what each token was drawn from, and by searches that read in turns.
    packed = packed_weights(make_model(short_convolution=3, ngram_embedding=2), "float32")
    kernels, asked = compiled(packed), []

    def give(*work: int) -> int:
        asked.append(work)
        return threads

    for strategies in (COMMON, ("beam=4", "temperature=0.9")):
        ours, theirs = ([Recording() for _ in range(2 * len(strategies))] for _ in range(2))
        shared = CpuDecoder(packed, 1, kernels, threads=give)
        alone = CpuDecoder(packed, 1, kernels, threads=lambda *work: 1)
        assert texts(shared, strategies, recordings=ours) == texts(
            alone, strategies, recordings=theirs
        )
        np.testing.assert_array_equal(shared.hidden, alone.hidden)
        for our, their in zip(ours, theirs, strict=True):
            mine, other = our.at(89), their.at(89)
            assert mine is not None and other is not None
            np.testing.assert_array_equal(mine.logits, other.logits)
    assert asked


def test_an_error_in_a_thread_is_the_callers() -> None:
    packed = packed_weights(make_model(), "float32")
    before = set(threading.enumerate())

    class Failing(type(compiled(packed).result())):  # type: ignore[misc]
        def write(self, *arguments: Any) -> int:
            if threading.current_thread() is not threading.main_thread():
                raise MemoryError("in a thread")
            return int(super().write(*arguments))

    kernels: Compilation = Future()
    kernels.set_result(Failing())
    with pytest.raises(MemoryError, match="in a thread"):
        texts(CpuDecoder(packed, 1, kernels, threads=lambda *work: 2))
    gc.collect()
    for thread in set(threading.enumerate()) - before:
        thread.join(10)
        assert not thread.is_alive()


def test_only_what_is_worth_a_thread_is_shared_and_beside_a_run_less() -> None:
    weights = 10_000_000
    with CORES.training(6):
        assert [threads_for(weights, rows, 64) for rows in (1, 7, 8, 64)] == [1, 1, 2, 3]
        assert threads_for(1000, 64, 64) == 1
    with CORES.training(2):
        assert threads_for(weights, 64, 64) == 1


def test_a_text_that_ends_is_left_there_and_the_others_go_on() -> None:
    packed = packed_weights(make_model(), "float32")

    def stop(written: list[int]) -> bool:
        return len(written) > 7 and written[-1] < 6

    ahead = texts(CpuDecoder(packed, 1, compiled(packed)), stop=stop)
    assert ahead == texts(CpuDecoder(packed, 1), stop=stop)
    assert any(-1 in row for row in ahead)


def test_steps_that_are_not_compiled_are_drawn_beside_those_that_are() -> None:
    packed = packed_weights(make_model(), "float32")
    strategies = ("temperature=0.8", "typical=0.9", "mirostat=2")
    ours = texts(CpuDecoder(packed, 1, compiled(packed)), strategies)
    assert ours == texts(CpuDecoder(packed, 1), strategies)


def test_a_broken_model_still_ends_no_text() -> None:
    model = make_model(tie_weights=False)
    with torch.no_grad():
        model.head.weight[4] = np.nan
    packed = packed_weights(model, "float32")
    ours = texts(CpuDecoder(packed, 1, compiled(packed)))
    assert ours == texts(CpuDecoder(packed, 1))
    assert len(ours) == 90


@pytest.mark.parametrize(
    "drafted_by", ["NumPy", "other weights", pytest.param("int8", marks=pytest.mark.slow)]
)
def test_drafts_change_nothing(drafted_by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_decoder, "MANY_WEIGHTS", 0)
    model = make_model(max_seq_len=64)
    packed, rounded = packed_weights(model, "float32"), packed_weights(model, "int8")
    kernels, drafting = compiled(packed), None
    drafts = 0

    class Watched(type(kernels.result())):  # type: ignore[misc]
        def write(self, *arguments: Any) -> int:
            nonlocal drafts
            drafts += arguments[-1] is not None
            return int(super().write(*arguments))

    watched: Compilation = Future()
    watched.set_result(Watched())
    if drafted_by == "other weights":
        with torch.no_grad():
            model.norm.weight.mul_(1.1)
        rounded = packed_weights(model, "float32")
        drafting = kernels
    elif drafted_by == "int8":
        drafting = compiled(rounded)
    for strategy in COMMON:
        recordings = [Recording() for _ in range(2)]
        plain = texts(CpuDecoder(packed, 1), (strategy,), recordings=recordings)
        column, ours = Column(strategy=parse_strategy(strategy), seed=5), Recording()
        decoder = CpuDecoder(packed, 1, watched, lambda: CpuDecoder(rounded, 1, drafting))
        drafted = list(
            generate_columns(decoder, [1, 2, 3], [column], max_tokens=90, recordings=[ours])
        )
        directly = Recording()
        list(
            generate_columns(
                CpuDecoder(packed, 1, kernels),
                [1, 2, 3],
                [column],
                max_tokens=90,
                recordings=[directly],
            )
        )
        assert [token for (token,) in drafted] == [row[0] for row in plain]
        for place in (0, 1, 50, 89):
            mine, other = ours.at(place), recordings[0].at(place)
            assert mine is not None and other is not None
            np.testing.assert_allclose(mine.logits, other.logits, atol=2e-4)
            same = directly.at(place)
            assert same is not None
            np.testing.assert_array_equal(mine.logits, same.logits)
    assert bool(drafts) == (drafting is not None)


class TestDrawingAhead:
    """Bursts that are drawn in a thread while those before are taken."""

    @pytest.fixture(autouse=True)
    def two_cores(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OPENBLAS_NUM_THREADS", "2")

    @staticmethod
    def rows(
        packed: PackedWeights,
        kernels: Compilation | None,
        strategies: tuple[str, ...] = COMMON,
        **options: Any,
    ) -> Iterator[list[int]]:
        columns = [Column(strategy=parse_strategy(text), samples=2, seed=5) for text in strategies]
        bursts = generate_bursts(
            CpuDecoder(packed, 1, kernels), [1, 2, 3], columns, max_tokens=90, **options
        )
        return itertools.chain.from_iterable(bursts)

    @staticmethod
    def watched(packed: PackedWeights) -> tuple[Compilation, set[threading.Thread]]:
        """Kernels, and in which threads they write."""
        at_work: set[threading.Thread] = set()

        class Watched(type(compiled(packed).result())):  # type: ignore[misc]
            def write(self, *arguments: Any) -> int:
                at_work.add(threading.current_thread())
                return int(super().write(*arguments))

        kernels: Compilation = Future()
        kernels.set_result(Watched())
        return kernels, at_work

    @pytest.mark.parametrize("ends", [False, True])
    def test_changes_nothing(self, ends: bool) -> None:
        packed = packed_weights(make_model(), "float32")
        kernels, at_work = self.watched(packed)

        def end_apart(tokens: Sequence[int]) -> bool:
            return ends and len(tokens) > 20 + tokens[0] % 7 * 10 and tokens[-1] % 3 == 0

        ours, theirs = ([Recording() for _ in range(2 * len(COMMON))] for _ in range(2))
        drawn_ahead = list(
            self.rows(packed, kernels, recordings=ours, stop=end_apart, draw_ahead=True)
        )
        assert drawn_ahead == list(self.rows(packed, None, recordings=theirs, stop=end_apart))
        assert threading.main_thread() in at_work and len(at_work) == 2
        for mine, others in zip(ours, theirs, strict=True):
            assert len(mine) == len(others)
            for place in range(len(mine)):
                draw, other = mine.at(place), others.at(place)
                assert draw is not None and other is not None
                np.testing.assert_allclose(draw.logits, other.logits, atol=2e-4)

    def test_a_broken_model_still_ends_no_text(self) -> None:
        model, strategies = make_model(tie_weights=False), ("temperature=1",)
        plain = list(self.rows(packed_weights(model, "float32"), None, strategies))
        first = {token: place for place in range(89, -1, -1) for token in plain[place]}
        with torch.no_grad():
            # After this token, late in the text, the model gives numbers that are none.
            model.embedding.weight[max(first, key=lambda token: first[token])] = np.nan
        packed = packed_weights(model, "float32")
        kernels, at_work = self.watched(packed)
        drawn_ahead = list(self.rows(packed, kernels, strategies, draw_ahead=True))
        assert drawn_ahead == list(self.rows(packed, None, strategies)) != plain
        assert len(at_work) == 2

    def test_ends_with_the_text_or_when_that_is_no_longer_wanted(self) -> None:
        packed = packed_weights(make_model(), "float32")
        kernels, at_work = self.watched(packed)
        list(self.rows(packed, kernels, draw_ahead=True))
        columns = [Column(strategy=parse_strategy("temperature=1"))]
        bursts = generate_bursts(
            CpuDecoder(packed, 1, kernels), [1], columns, max_tokens=10**5, draw_ahead=True
        )
        for _ in range(5):
            next(bursts)
        bursts.close()  # type: ignore[attr-defined]
        others = at_work - {threading.main_thread()}
        assert len(others) == 2 and not any(thread.is_alive() for thread in others)

    def test_an_error_is_the_callers(self) -> None:
        packed, failures = packed_weights(make_model(), "float32"), 0

        class Failing(type(compiled(packed).result())):  # type: ignore[misc]
            def write(self, *arguments: Any) -> int:
                nonlocal failures
                if threading.current_thread() is not threading.main_thread():
                    failures += 1
                    raise MemoryError("in a thread")
                return int(super().write(*arguments))

        kernels: Compilation = Future()
        kernels.set_result(Failing())
        with pytest.raises(MemoryError, match="in a thread"):
            list(self.rows(packed, kernels, draw_ahead=True))
        # What would have come after was not drawn from a text that is not there.
        assert failures == 1

    def test_is_not_done_beside_a_run(self) -> None:
        packed = packed_weights(make_model(), "float32")
        kernels, at_work = self.watched(packed)
        with CORES.training(2):
            beside = list(self.rows(packed, kernels, draw_ahead=True))
        assert at_work == {threading.main_thread()}
        assert beside == list(self.rows(packed, kernels))


def test_a_slow_model_drafts_as_many_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_decoder, "MANY_WEIGHTS", 0)
    packed = packed_weights(make_model(max_seq_len=200), "float32")
    counts = []

    class Slow(type(compiled(packed).result())):  # type: ignore[misc]
        def write(self, *arguments: Any) -> int:
            counts.append(arguments[6].uniforms.shape[1])
            time.sleep(0.1)
            return int(super().write(*arguments))

    kernels: Compilation = Future()
    kernels.set_result(Slow())
    decoder = CpuDecoder(packed, 1, kernels, lambda: CpuDecoder(packed, 1, kernels))
    column = Column(strategy=parse_strategy("temperature=1"))
    assert len(list(generate_columns(decoder, [1], [column], max_tokens=60))) == 60
    # The first token is chosen by Python, and the last burst is what is left.
    assert counts == [12, 12, 12, 12, 11]


def test_the_faster_way_is_taken_and_the_other_tried_now_and_then() -> None:
    costs, ways = {False: 2.0, True: 1.0}, FasterWay(False)
    taken = []
    for _ in range(300):
        way = ways.next()
        ways.took(way, costs[way])
        taken.append(way)
    assert not any(taken[:9]) and all(taken[12:60])
    assert 0.9 < sum(taken[100:]) / 200 < 1
    costs[False] = 0.5
    for _ in range(100):
        way = ways.next()
        ways.took(way, costs[way])
    assert not ways.way


def test_texts_that_end_amid_a_burst_are_recorded_to_their_end() -> None:
    packed = packed_weights(make_model(max_seq_len=64), "float32")
    strategies = ("temperature=1", "top_k=5", "greedy")

    def end_apart(tokens: Sequence[int]) -> bool:
        return len(tokens) > 20 + tokens[0] % 7 * 10 and tokens[-1] % 3 == 0

    def written(decoder: CpuDecoder) -> tuple[list[list[int]], list[Recording]]:
        recordings = [Recording() for _ in range(2 * len(strategies))]
        rows = texts(decoder, strategies, stop=end_apart, recordings=recordings)
        return rows, recordings

    rows, ours = written(CpuDecoder(packed, 1, compiled(packed)))
    plain, theirs = written(CpuDecoder(packed, 1))
    assert rows == plain
    lengths = [sum(token >= 0 for token in stream) for stream in zip(*rows, strict=True)]
    assert len(set(lengths)) > 2
    for mine, others, length in zip(ours, theirs, lengths, strict=True):
        assert len(mine) == len(others) == length
        for place in range(length):
            draw, other = mine.at(place), others.at(place)
            assert draw is not None and other is not None
            assert (draw.strategy, draw.chance) == (other.strategy, other.chance)
            assert draw.remembered == other.remembered
            np.testing.assert_allclose(draw.logits, other.logits, atol=2e-4)


def test_texts_need_no_code_but_what_was_compiled_for_them() -> None:
    """Which is for arrays in C's order: for others numba would compile everything again."""
    from shakespeare_tui.decoding.compiled import kernels_for

    packed = packed_weights(make_model(max_seq_len=64), "float32")
    column = Column(strategy=parse_strategy("temperature=1"), samples=3, seed=5)
    recordings = [Recording() for _ in range(3)]
    decoder = CpuDecoder(packed, 1, compiled(packed))
    list(generate_columns(decoder, [1, 2], [column], max_tokens=90, recordings=recordings))
    signatures = [
        found for kernel, _ in kernels_for("float32", "float32") for found in kernel.signatures
    ]
    arrays = [kind for found in signatures for kind in found if isinstance(kind, Array)]
    assert {array.layout for array in arrays} == {"C"}


def test_a_text_goes_on_in_compiled_code_as_soon_as_that_is_there() -> None:
    packed = packed_weights(make_model(), "float32")
    later: Compilation = Future()
    column = Column(strategy=parse_strategy("temperature=0.8"), seed=5)
    decoder = CpuDecoder(packed, 1, later)
    rows = generate_columns(decoder, [1, 2, 3], [column], max_tokens=90)
    text = [next(rows) for _ in range(10)]
    assert decoder.write_ahead is None
    later.set_result(compiled(packed).result())
    assert decoder.write_ahead is not None
    assert text + list(rows) == [row[:1] for row in texts(CpuDecoder(packed, 1), COMMON[:1])]


def test_code_that_cannot_be_compiled_is_done_without() -> None:
    packed = packed_weights(make_model(), "float32")
    broken: Compilation = Future()
    broken.set_result(None)
    assert texts(CpuDecoder(packed, 1, broken)) == texts(CpuDecoder(packed, 1))
