"""The decoder for CPUs, from arrays alone: fast for one token after the other.

A few tokens at a time go through one compiled function, in ``compiled.py``; many, and all where
nothing is compiled, through the matrix products of NumPy and the definitions here.
"""

import functools
import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Protocol, TypeVar

import numpy as np

from shakespeare_tui.config.schema import ModelConfig
from shakespeare_tui.decoding.decoder import (
    Decoder,
    Drafter,
    FloatArray,
    IntArray,
    Precision,
    WriteAhead,
    check_room,
)
from shakespeare_tui.decoding.draws import Draws
from shakespeare_tui.decoding.packed import PANEL, SMALL_HEAD, PackedWeights, epsilon
from shakespeare_tui.errors import check_cancelled, never
from shakespeare_tui.machine import CORES, blas_threads
from shakespeare_tui.models.compiling import compile_kernels, numba_version
from shakespeare_tui.models.ngrams import ngram_ids
from shakespeare_tui.models.numpy_gpt import gelu, relu_squared, swiglu


class Kernels(Protocol):
    """What is done with rows between matrix products; R = B · T rows of B streams of T tokens."""

    def normalise(self, x: FloatArray, eps: np.float32, out: FloatArray) -> None:
        """Rows [R, C] divided by √(x · x + eps)."""

    def attend(
        self,
        packed: PackedWeights,
        layer: int,
        cache: FloatArray,
        start: int,
        qkv: FloatArray,
        out: FloatArray,
    ) -> None:
        """Causal attention of queries, keys and values ``qkv`` [R, (H + 2K)D] into ``out`` [R, HD].

        They are normalised and turned first; keys and values go into ``cache``, as ``make_cache``
        made it, from the place ``start`` on.
        """

    def convolve(
        self,
        packed: PackedWeights,
        layer: int,
        convolved: FloatArray,
        start: int,
        normed: FloatArray,
    ) -> None:
        """The short convolution of normalised rows ``normed`` [R, C], in their place.

        What it reads goes into ``convolved`` [B, L, K - 1 + S, C] from the place ``start`` on,
        K - 1 rows later: so many are 0 before the first place.
        """

    def activate(self, config: ModelConfig, gate: FloatArray, out: FloatArray) -> None:
        """The activation of ``gate``, [R, F] or with SwiGLU [R, 2F], into ``out`` [R, F]."""


class CompiledKernels(Kernels, Protocol):
    """The same, compiled, and everything at once for a few rows.

    Attributes:
        most_rows: How many are a few.
    """

    most_rows: int

    def read(
        self,
        packed: PackedWeights,
        cache: FloatArray,
        convolved: FloatArray,
        start: int,
        stream: FloatArray,
    ) -> FloatArray:
        """``CpuDecoder``'s work on a few embedded tokens [R, C]; returns them normalised.

        Args:
            packed: The weights.
            cache: Keys and values, as ``make_cache`` made it.
            convolved: See ``convolve``.
            start: The place of the first token of each stream.
            stream: [R, C]; written over.
        """

    def logits(self, packed: PackedWeights, rows: FloatArray) -> FloatArray:
        """Logits [R, V] of a few normalised rows [R, C]."""

    def write(
        self,
        packed: PackedWeights,
        cache: FloatArray,
        convolved: FloatArray,
        start: int,
        text: IntArray,
        length: int,
        draws: Draws,
        given: FloatArray,
        normed: FloatArray,
        drafting: PackedWeights | None = None,
    ) -> int:
        """Draw T tokens of ``text`` [B, L] from ``length`` on; returns how many were drawn.

        They are fewer where a model gives numbers that no token can be drawn by.

        Args:
            packed: The weights.
            cache: Keys and values, as ``make_cache`` made it.
            convolved: See ``convolve``.
            start: The place in the window of the text's last token, which is not read yet.
            text: B texts, written to.
            length: How many tokens of them there are.
            draws: How they are drawn.
            given: The logits of each draw go here, [B, T, V]; [B, 0, V] for nowhere.
            normed: The last tokens' normalised vectors go here, [B, C].
            drafting: What drafts the tokens of one stream, for the weights to read many of them
                at once; what is drawn is the same. None drafts none.
        """


class NumpyKernels:
    """The definitions."""

    def normalise(self, x: FloatArray, eps: np.float32, out: FloatArray) -> None:
        """See ``Kernels``."""
        np.divide(x, np.sqrt(np.vecdot(x, x) + eps)[:, None], out=out)

    def attend(
        self,
        packed: PackedWeights,
        layer: int,
        cache: FloatArray,
        start: int,
        qkv: FloatArray,
        out: FloatArray,
    ) -> None:
        """See ``Kernels``."""
        config = packed.config
        streams, width = len(cache), config.head_width
        count, turned = len(qkv) // streams, config.n_heads + config.key_heads
        end = start + count
        # [B, T, H + 2K, D], of which queries and keys are [B, T, H + K, D]
        split = qkv.reshape(streams, count, -1, width)
        both = split[:, :, :turned]
        if config.qk_norm:
            both /= np.sqrt(np.vecdot(both, both) + epsilon(config, width))[..., None]
            both *= packed.qk_weights[layer]
        if len(packed.cosines):
            turns = packed.cosines[start:end] + 1j * packed.sines[start:end]
            # Numbers in pairs: [B, T, (H + 2K) · D / 2]
            pairs = qkv.view(np.complex64).reshape(streams, count, -1, width // 2)
            pairs[:, :, :turned] *= turns[:, None]
        # [B, T, 2, K, D], of which those of keys go to [B, K, S / 64, D', 64]
        fresh = split[:, :, config.n_heads :].reshape(streams, count, 2, config.key_heads, width)
        held = cache[:, layer, 0].reshape(streams, *cache.shape[3:5], -1, PANEL)
        places = np.arange(start, end)
        held[:, :, places // PANEL, :width, places % PANEL] = fresh[:, :, 0].swapaxes(0, 1)
        values = cache[:, layer, 1].reshape(streams, config.key_heads, -1, held.shape[3])
        values = values[..., :width]
        values[:, :, start:end] = fresh[:, :, 1].swapaxes(1, 2)
        # [B, K, S / 64, D, 64] -> [B, K, D, S]
        seen = held[:, :, : places[-1] // PANEL + 1, :width].swapaxes(2, 3)
        keys = seen.reshape(streams, config.key_heads, width, -1)[..., :end]
        # Heads that share keys and values together: [B, T, H, D] -> [B, K, H / K, T, D]
        queries = split[:, :, : config.n_heads].swapaxes(1, 2)
        grouped = queries.reshape(streams, config.key_heads, -1, count, width)
        scores: FloatArray = grouped @ keys[:, :, None]
        if count > 1:
            scores[..., ~np.tri(count, end, start, dtype=bool)] = -np.inf
        scores -= scores.max(-1, keepdims=True)
        np.exp(scores, out=scores)
        scores /= scores.sum(-1, keepdims=True)
        mixed: FloatArray = (scores @ values[:, :, None, :end]).reshape(streams, -1, count, width)
        # [B, H, T, D] -> [R, HD]
        out.reshape(streams, count, -1, width)[:] = mixed.swapaxes(1, 2)

    def convolve(
        self,
        packed: PackedWeights,
        layer: int,
        convolved: FloatArray,
        start: int,
        normed: FloatArray,
    ) -> None:
        """See ``Kernels``."""
        weight, shift = packed.convolution[layer], packed.convolution_shift[layer]
        streams, back = len(convolved), len(weight) - 1
        # [R, C] -> [B, T, C], a view
        rows = normed.reshape(streams, len(normed) // streams, -1)
        end = start + rows.shape[1]
        rows *= packed.convolution_scale[layer]
        if len(shift):
            rows += shift
        convolved[:, layer, start + back : end + back] = rows
        rows *= weight[0]
        for k in range(1, back + 1):
            rows += convolved[:, layer, start + back - k : end + back - k] * weight[k]

    def activate(self, config: ModelConfig, gate: FloatArray, out: FloatArray) -> None:
        """See ``Kernels``."""
        if config.activation == "swiglu":
            width = out.shape[1]
            out[:] = swiglu(gate[:, :width], gate[:, width:])[0]
        else:
            out[:] = (gelu if config.activation == "gelu" else relu_squared)(gate)[0]


_VECTOR = 16


def make_cache(config: ModelConfig, streams: int, length: int) -> FloatArray:
    """Room for keys and values of ``length`` tokens: [B, L, 2, K, S / 64, 64 · D'].

    Blocks of 64 places, of keys as [D', 64], of values as [64, D'], so that products of either with
    a few rows go along the memory; D' is D and what fills vectors of 16.
    """
    blocks, width = -(-length // PANEL), config.head_width + -config.head_width % _VECTOR
    shape = streams, config.n_layers, 2, config.key_heads, blocks, PANEL * width
    return np.empty(shape, np.float32)


_POLL_SECONDS = 0.05
_FIRST_WAIT_SECONDS = 2.0
_WeightTypes = tuple[str, str]
_EXACT: _WeightTypes = "float32", "float32"
_ROUNDED: _WeightTypes = "int8", "float32"
Compilation = Future[CompiledKernels | None]
"""Kernels as soon as they are there; None where they cannot be compiled."""
_compilations: dict[tuple[_WeightTypes, ...], Compilation] = {}
_lock = threading.Lock()


def compiled_for(
    packed: PackedWeights, cancelled: Callable[[], bool] = never
) -> Compilation | None:
    """The compiled kernels for weights of these types; None without numba.

    They are loaded from the user's cache, or compiled there, in a thread of their own. Rounded
    weights are slow without them and wait; of others, NumPy can read some tokens until then.

    Raises:
        CancelledError: ``cancelled``, polled while waiting, became true.
    """
    types = str(packed.qkv.weights.dtype), str(packed.head.weights.dtype)
    compilation = _begin_to_compile(types)
    waited = 0.0
    while compilation and not compilation.done():
        if types[0] == "float32" and waited >= _FIRST_WAIT_SECONDS:
            break
        check_cancelled(cancelled, "generation")
        wait([compilation], _POLL_SECONDS)
        waited += _POLL_SECONDS
    return compilation


def _begin_to_compile(*types: _WeightTypes) -> Compilation | None:
    """What weights of the first types need, and to be drafted for by those of the second."""
    if numba_version() is None:
        return None
    with _lock:
        if types not in _compilations:
            found = _compilations[types] = Future()
            threading.Thread(
                target=_compile, args=(types, found), name="compile decoder", daemon=True
            ).start()
        return _compilations[types]


def wait_until_compiled() -> None:
    """Wait for all that is being compiled."""
    with _lock:
        found = list(_compilations.values())
    wait(found)


def _compile(types: Sequence[_WeightTypes], found: Compilation) -> None:
    kernels: CompiledKernels | None = None
    try:
        from shakespeare_tui.decoding.compiled import Compiled, drafting_kernels, kernels_for

        wanted = kernels_for(*types[-1])
        compile_kernels([*wanted, *drafting_kernels(*types)] if len(types) > 1 else wanted)
        kernels = Compiled()
    except Exception:  # noqa: BLE001
        # NumPy writes the same texts.
        logging.getLogger(__name__).warning("the decoder is not compiled", exc_info=True)
    found.set_result(kernels)


MANY_WEIGHTS = 3_000_000
"""With fewer a model may stay in the processor's cache, where reading it is no bound."""
# With fewer it does on every processor.
_LEAST_DRAFTED_FOR = 300_000


def make_cpu_decoder(
    pack: Callable[[Precision], PackedWeights],
    streams: int,
    precision: Precision,
    cancelled: Callable[[], bool] = never,
) -> "CpuDecoder":
    """A decoder of ``streams`` streams, with a drafter where the precision is ``auto`` and it pays.

    Args:
        pack: Packs the weights in a precision, not ``auto``.
        streams: B.
        precision: Of the matrices.
        cancelled: Polled while waiting for compiled code.

    Raises:
        CancelledError: ``cancelled`` became true.
    """
    packed = pack("float32" if precision == "auto" else precision)
    compiled = compiled_for(packed, cancelled)
    if precision != "auto" or streams > 1 or not may_pay_to_draft(packed):
        return CpuDecoder(packed, streams, compiled)
    rounded = functools.cache(lambda: pack("int8"))
    if _size_of_layers(packed) >= MANY_WEIGHTS:
        _begin_to_compile(_EXACT, _ROUNDED)

    def make_drafter() -> CpuDecoder | None:
        drafting = _begin_to_compile(_EXACT, _ROUNDED)
        is_ready = drafting is not None and drafting.done() and drafting.result() is not None
        return CpuDecoder(rounded(), 1, drafting) if is_ready else None

    return CpuDecoder(packed, streams, compiled, make_drafter)


def may_pay_to_draft(packed: PackedWeights) -> bool:
    """Whether a copy with 8-bit weights may be much faster than these."""
    # Of many tokens few are drafted right, and each draft's last layer is dear.
    in_layers = _size_of_layers(packed)
    is_small_head = packed.head.weights.size < SMALL_HEAD * in_layers
    return is_small_head and in_layers >= _LEAST_DRAFTED_FOR


def _size_of_layers(packed: PackedWeights) -> int:
    return sum(each.weights.size for each in (packed.qkv, packed.out, packed.up, packed.down))


class FasterWay:
    """Which of two ways is the faster one, by the fastest of the last calls of each.

    The other one is tried now and then: it depends on the model, the text, the processor's caches
    and on what else runs.

    Attributes:
        way: The faster one, as far as is known; at first the one that was given.
    """

    _CALLS, _TRIALS, _PERIOD = 4, (10, 12), 64

    def __init__(self, way: bool) -> None:
        self.way = way
        self._calls = 0
        self._costs: dict[bool, deque[float]] = {
            way: deque(maxlen=self._CALLS) for way in (False, True)
        }

    def next(self) -> bool:
        """The way to take now."""
        self._calls += 1
        return self.way != (self._calls % self._PERIOD in self._TRIALS)

    def took(self, way: bool, cost: float) -> None:
        """What a call came to."""
        self._costs[way].append(cost)
        if all(self._costs.values()):
            self.way = min(self._costs[True]) < min(self._costs[False])


# Weights times rows: what is less takes hardly longer than a thread takes to wake.
_LEAST_SHARED = 10_000_000
# Of which a thread reads the weights once; with fewer they are mostly waited for, also by two.
_LEAST_ROWS = 4
Result = TypeVar("Result")


def threads_for(weights: int, rows: int, steps: int) -> int:
    """How many threads may share a call now.

    Args:
        weights: Of the matrices.
        rows: Computed together.
        steps: One after the other.
    """
    if weights * rows * steps < _LEAST_SHARED:
        return 1
    return max(1, min(CORES.usable, rows // _LEAST_ROWS))


# At first the cache has room for so many tokens, and doubles when they are there.
_FIRST_ROOM = 64
# Shorter calls do not tell which way is faster.
_LEAST_TIMED_TOKENS = 12


class CpuDecoder:
    """Decodes with packed weights; B streams of T tokens at a time.

    Args:
        weights: The model's.
        streams: B.
        compiled: What computes as soon as it is there; None takes NumPy.
        make_drafter: Makes a faster, less exact copy, or None as long as it is not ready; None
            where that cannot pay.
        threads: How many may share the streams of a call; see ``threads_for``.
    """

    def __init__(
        self,
        weights: PackedWeights,
        streams: int,
        compiled: Compilation | None = None,
        make_drafter: "Callable[[], CpuDecoder | None] | None" = None,
        threads: Callable[[int, int, int], int] = threads_for,
    ) -> None:
        config = weights.config
        self.vocab_size, self.context = len(weights.embedding), weights.context
        self._weights = weights
        in_layers = _size_of_layers(weights)
        self._size = in_layers + weights.head.weights.size
        self._is_small = in_layers < MANY_WEIGHTS
        self._make_drafter = make_drafter
        self._drafter: CpuDecoder | None = None
        self._drafts = FasterWay(not self._is_small)
        self._threads = threads
        self._pool: ThreadPoolExecutor | None = None
        self._compilation = compiled
        self._length = 0
        room = min(_FIRST_ROOM, self.context)
        self._cache = make_cache(config, streams, room)
        # [B, L, K - 1 + S, C]: what convolutions read, before the first place too.
        layers = config.n_layers if config.short_convolution else 0
        self._convolved_back = max(0, config.short_convolution - 1)
        self._convolved: FloatArray = np.zeros(
            (streams, layers, self._convolved_back + room, config.d_model), np.float32
        )
        # What the n-gram embedding looks back on, before the first place too; else unused.
        self._back = max(0, config.ngram_embedding - 1)
        looked_back = self.context + self._back if self._back else 0
        self._tokens: IntArray = np.full((streams, looked_back), self.vocab_size, np.int64)
        # [B, T, C]: the last read's, after the last norm without its weight
        self._normed: FloatArray | None = None

    def another(self) -> "CpuDecoder":
        """A decoder of one stream with the same weights, which has read nothing.

        It stays in the thread that calls it: others are at work beside it.
        """
        return CpuDecoder(self._weights, 1, self._compilation, self._make_drafter, lambda *work: 1)

    @property
    def make_drafter(self) -> Callable[[], Drafter | None] | None:
        """See ``Decoder``; with each token chosen by Python, drafts of small models do not pay."""
        return None if self._is_small else self._make_drafter

    @property
    def write_ahead(self) -> WriteAhead | None:
        """See ``Decoder``."""
        compiled = self._compiled
        return None if compiled is None else functools.partial(self._write, compiled)

    @property
    def _compiled(self) -> CompiledKernels | None:
        compilation = self._compilation
        return compilation.result() if compilation and compilation.done() else None

    @property
    def streams(self) -> int:
        """B."""
        return len(self._cache)

    @property
    def length(self) -> int:
        """How many tokens of each stream have been read."""
        return self._length

    @property
    def hidden(self) -> FloatArray:
        """Hidden states [B, T, C] after the last norm, of the tokens of the last read."""
        if self._normed is None:
            raise ValueError("nothing has been read yet")
        hidden = self._normed * self._weights.last_scale
        return hidden if self._weights.last_shift is None else hidden + self._weights.last_shift

    def read(self, tokens: IntArray) -> FloatArray:
        """Read on with ``tokens`` [B, T]; returns the logits [B, V] of what comes next."""
        return self._logits(self._run(tokens)[:, -1])

    def read_all(self, tokens: IntArray) -> FloatArray:
        """Read on with ``tokens`` [B, T]; returns the logits [B, T, V] after each of them."""
        normed = self._run(tokens)
        return self._logits(normed.reshape(-1, normed.shape[2])).reshape(*tokens.shape, -1)

    def rewind(self, length: int) -> None:
        """Forget all but the first ``length`` tokens."""
        self._length = min(length, self._length)

    def follow(self, leader: Decoder) -> None:
        """Go on from what ``leader``, of the same shape, has read; see ``Drafter``."""
        assert isinstance(leader, CpuDecoder)
        self._cache, self._length = leader._cache, leader._length
        self._convolved, self._tokens = leader._convolved, leader._tokens

    def reorder(self, rows: IntArray) -> None:
        """Let stream i go on from stream ``rows[i]``; more or fewer rows change B."""
        # Of fancy indices the order in memory is not certain.
        self._cache = np.take(self._cache, rows, axis=0)
        self._convolved = np.take(self._convolved, rows, axis=0)
        self._tokens = self._tokens[rows]
        if self._normed is not None:
            self._normed = self._normed[rows]

    def _write(
        self,
        compiled: CompiledKernels,
        text: IntArray,
        length: int,
        draws: Draws,
        given: FloatArray | None = None,
        unread: int = 1,
    ) -> int:
        """See ``WriteAhead``."""
        if unread > 1:
            self._run(text[:, length - unread : length - 1])
        start, streams = self._length, len(text)
        count = draws.uniforms.shape[1]
        check_room(start + count, self.context)
        self._make_room(start + count)
        logits = np.empty((streams, 0, self.vocab_size), np.float32) if given is None else given
        normed = np.empty((streams, self._weights.embedding.shape[1]), np.float32)
        drafting = self._drafting(count) if streams == 1 else None

        def write(rows: slice) -> int:
            return compiled.write(
                self._weights,
                self._cache[rows],
                self._convolved[rows],
                start,
                text[rows],
                length,
                draws.of_rows(rows),
                logits[rows],
                normed[rows],
                drafting,
            )

        started = time.perf_counter()
        done = min(self._at_once(write, streams, streams, count))
        if done >= _LEAST_TIMED_TOKENS and streams == 1:
            self._drafts.took(drafting is not None, (time.perf_counter() - started) / done)
        if done:
            if self._back:
                self._remember(start, text[:, length - 1 : length - 1 + done])
            self._length, self._normed = start + done, normed[:, None]
        return done

    def _drafting(self, count: int) -> PackedWeights | None:
        """What drafts so many tokens, where that seems to be faster."""
        is_told = count >= _LEAST_TIMED_TOKENS
        if self._make_drafter is None or not (self._drafts.next() if is_told else self._drafts.way):
            return None
        self._drafter = self._drafter or self._make_drafter()
        is_compiled = self._drafter is not None and self._drafter._compiled is not None
        return self._drafter._weights if self._drafter and is_compiled else None

    def _run(self, tokens: IntArray) -> FloatArray:
        """The tokens' vectors [B, T, C] after the last norm, without its weight."""
        weights, (streams, count) = self._weights, tokens.shape
        start, end = self._length, self._length + count
        check_room(end, self.context)
        self._make_room(end)
        # Of shape [B, T, C]
        stream = weights.embedding[tokens]
        if self._back:
            self._remember(start, tokens)
            seen = self._tokens[:, start : end + self._back]
            for ids in ngram_ids(seen, self.vocab_size, weights.config.ngram_embedding):
                stream += weights.ngrams[ids]
        if len(weights.positions):
            stream += weights.positions[start:end]
        compiled = self._compiled
        # One long text is read sooner by a library that shares each product out among threads,
        # unless weights are widened for it, or the model is so small that each of the library's
        # calls takes less than its wait for Python's lock, which the screen has half of the time.
        is_few = compiled is not None and (streams > 1 or count <= compiled.most_rows)
        is_rounded = weights.qkv.weights.dtype != np.float32
        if compiled is not None and (is_few or self._is_small or is_rounded):
            read = functools.partial(self._read_few, compiled, start, stream)
            self._normed = np.concatenate(self._at_once(read, streams, streams * count, 1))
        else:
            self._normed = self._read_many(start, stream.reshape(streams * count, -1)).reshape(
                stream.shape
            )
        self._length = end
        return self._normed

    def _at_once(
        self, work: Callable[[slice], Result], streams: int, rows: int, steps: int
    ) -> list[Result]:
        """What ``work`` makes of the streams, a share of them in each thread; see ``threads_for``.

        Streams do not look at each other, so that threads meet at the end of a call only. All have
        ended when this does, also by an error of one.
        """
        threads = min(self._threads(self._size, rows, steps), streams)
        bounds = [streams * part // threads for part in range(threads + 1)]
        first, *rest = (slice(*both) for both in itertools.pairwise(bounds))
        if rest and self._pool is None:
            # Its threads end with the decoder. New ones for each call would begin on this core.
            self._pool = ThreadPoolExecutor(blas_threads(), "decode")
        others = [self._pool.submit(work, share) for share in rest] if self._pool else []
        try:
            mine = work(first)
        finally:
            wait(others)
        return [mine, *(other.result() for other in others)]

    def _read_few(
        self, compiled: CompiledKernels, start: int, stream: FloatArray, rows: slice
    ) -> FloatArray:
        """``_run`` of some of the streams, a few of the tokens ``stream`` [B, T, C] at a time."""
        kept = self._cache[rows], self._convolved[rows]
        few = max(1, compiled.most_rows // len(kept[0]))
        normed = np.empty_like(stream[rows])
        for first in range(0, stream.shape[1], few):
            # [B', T', C], to be written over
            part = stream[rows, first : first + few].copy()
            flat = part.reshape(-1, part.shape[2])
            found = compiled.read(self._weights, *kept, start + first, flat)
            normed[:, first : first + few] = found.reshape(part.shape)
        return normed

    def _remember(self, start: int, tokens: IntArray) -> None:
        """That ``tokens`` [B, T] stand from the place ``start`` on."""
        first = self._back + start
        self._tokens[:, first : first + tokens.shape[1]] = tokens

    def _read_many(self, start: int, stream: FloatArray) -> FloatArray:
        weights, config = self._weights, self._weights.config
        kernels: Kernels = self._compiled or NumpyKernels()

        def rows(width: int) -> FloatArray:
            return np.empty((len(stream), width), np.float32)

        eps = epsilon(config, config.d_model)
        normed, added, qkv = rows(config.d_model), rows(config.d_model), rows(config.qkv_width)
        mixed, inner = rows(config.attention_width), rows(config.feedforward_width)
        gate = rows(config.feedforward_width * (2 if config.activation == "swiglu" else 1))
        for layer in range(config.n_layers):
            kernels.normalise(stream, eps, normed)
            weights.qkv.product(layer, normed, qkv)
            kernels.attend(weights, layer, self._cache, start, qkv, mixed)
            weights.out.product(layer, mixed, added)
            stream += added
            kernels.normalise(stream, eps, normed)
            if config.short_convolution:
                kernels.convolve(weights, layer, self._convolved, start, normed)
            weights.up.product(layer, normed, gate)
            kernels.activate(config, gate, inner)
            weights.down.product(layer, inner, added)
            stream += added
        kernels.normalise(stream, eps, normed)
        return normed

    def _logits(self, rows: FloatArray) -> FloatArray:
        weights, compiled = self._weights, self._compiled
        if compiled is not None and len(rows) <= compiled.most_rows:
            return compiled.logits(weights, np.ascontiguousarray(rows))
        logits = np.empty((len(rows), self.vocab_size), np.float32)
        weights.head.product(0, rows, logits)
        return logits

    def _make_room(self, length: int) -> None:
        """Let ``length`` tokens fit; where they do not, as many again."""
        blocks = self._cache.shape[4]
        if length <= PANEL * blocks:
            return
        whole = length + -length % PANEL
        room = min(max(whole, 2 * PANEL * blocks), self.context)
        larger = make_cache(self._weights.config, self.streams, room)
        larger[:, :, :, :, :blocks] = self._cache
        self._cache = larger
        streams, layers, _, width = self._convolved.shape
        kept = self._convolved_back + self._length
        convolved = np.empty((streams, layers, self._convolved_back + room, width), np.float32)
        convolved[:, :, :kept] = self._convolved[:, :, :kept]
        self._convolved = convolved
