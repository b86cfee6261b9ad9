"""Generate text token by token, many streams at once, with a key-value cache.

The context: while all tokens fit into the model's context, every one is seen. When it is full, the
older half is dropped and the rest is read again, so the window moves in hops of half a context.
This is the definition for generation with and without the cache, which therefore agree; a cache
that slides token by token would not, since its deeper layers still know the dropped text.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from shakespeare_tui.core.errors import CancelledError, UserError
from shakespeare_tui.engine.model import KVCache, Transformer

_LEAST_TEMPERATURE = 1e-30
_LARGEST_PENALTY = 1e20


@dataclass(frozen=True, kw_only=True)
class SamplingSettings:
    """How the next token is chosen; the order is penalty, temperature, top-k, top-p.

    Attributes:
        temperature: Divides the logits; 0 is greedy.
        top_k: Keep the k likeliest (arXiv:1805.04833); 0 keeps all.
        top_p: Keep the smallest set with this probability (arXiv:1904.09751).
        repetition_penalty: Divide positive and multiply negative logits of tokens already in the
            text (arXiv:1909.05858).
        seed: Seed; stream i draws from its own generator of (seed, i).
    """

    temperature: float = 0.8
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    seed: int = 42

    def __post_init__(self) -> None:
        checks = (
            ("temperature", self.temperature, 0 <= self.temperature < math.inf, "0 or more"),
            ("top_k", self.top_k, self.top_k >= 0, "0 (off) or more"),
            ("top_p", self.top_p, 0 < self.top_p <= 1, "above 0 and at most 1"),
            (
                "repetition_penalty",
                self.repetition_penalty,
                0 < self.repetition_penalty < math.inf,
                "above 0",
            ),
            ("seed", self.seed, 0 <= self.seed < 2**63, "from 0 to 2^63 - 1"),
        )
        for name, value, is_good, needed in checks:
            if not is_good:
                raise UserError(f"{name} must be {needed}, got {value:g}")


def apply_repetition_penalty(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """Make tokens marked in ``seen`` [B, V] (bool) less likely; ``logits`` is [B, V]."""
    # Bounded, so that it leaves no infinities, whose difference is no number.
    penalty = min(max(penalty, 1 / _LARGEST_PENALTY), _LARGEST_PENALTY)
    penalised = torch.where(logits > 0, logits / penalty, logits * penalty)
    return torch.where(seen, penalised, logits)


def apply_top_k(logits: Tensor, k: int) -> Tensor:
    """Set all but the ``k`` largest of ``logits`` [B, V] to −inf; ties with the k-th stay."""
    least = torch.topk(logits, min(k, logits.size(-1))).values[:, -1:]
    return logits.masked_fill(logits < least, -math.inf)


def apply_top_p(logits: Tensor, p: float) -> Tensor:
    """Keep the smallest set of ``logits`` [B, V] with probability ``p`` or more; others to −inf."""
    ordered, order = torch.sort(logits, descending=True, stable=True)
    mass = torch.softmax(ordered, dim=-1).cumsum(-1)
    # A token goes where the ones before it reach p already; the first always stays.
    is_dropped = torch.zeros_like(mass, dtype=torch.bool)
    is_dropped[:, 1:] = mass[:, :-1] >= p
    return logits.masked_fill(is_dropped.scatter(1, order, is_dropped), -math.inf)


def next_probabilities(logits: Tensor, seen: Tensor | None, settings: SamplingSettings) -> Tensor:
    """Distribution [B, V] from which the next token is drawn, given raw ``logits`` [B, V]."""
    if settings.repetition_penalty != 1 and seen is not None:
        logits = apply_repetition_penalty(logits, seen, settings.repetition_penalty)
    if settings.temperature == 0:
        return torch.zeros_like(logits).scatter_(1, logits.argmax(-1, keepdim=True), 1.0)
    # Shifted to a highest of 0 and bounded below, so that no low temperature overflows.
    logits = logits - logits.amax(-1, keepdim=True)
    logits = logits / max(settings.temperature, _LEAST_TEMPERATURE)
    if settings.top_k:
        logits = apply_top_k(logits, settings.top_k)
    if settings.top_p < 1:
        logits = apply_top_p(logits, settings.top_p)
    return torch.softmax(logits, dim=-1)


def window_start(tokens: int, context: int) -> int:
    """First token of the window that predicts the token after ``tokens`` tokens.

    A pure function of the length, so that it does not matter where generation began.
    """
    if tokens <= context:
        return 0
    hop = max(1, context // 2)
    return math.ceil((tokens - context) / hop) * hop


class _Drawer:
    """Draws tokens by inverting the distribution's sum at uniform numbers, one stream each.

    A stream's numbers depend on the seed and its own index alone, so that a stream is the same
    however many run beside it, and strategies compare under common random numbers.
    """

    def __init__(self, seed: int, streams: int) -> None:
        self._generators = [
            np.random.Generator(np.random.Philox(key=[seed, index])) for index in range(streams)
        ]

    def draw(self, probabilities: Tensor) -> Tensor:
        """One token a row of ``probabilities`` [B, V]; returns [B, 1] on the same device."""
        uniform = torch.tensor([[g.random()] for g in self._generators], dtype=torch.float64)
        # On the CPU first: some devices have no double precision.
        on_cpu = probabilities.cpu()
        sums = on_cpu.double().cumsum(-1)
        # Scaled to the sum, which rounding leaves near 1; never past the last possible token.
        drawn = torch.searchsorted(sums, uniform * sums[:, -1:], right=True)
        last = (on_cpu > 0).double().cumsum(-1).argmax(-1, keepdim=True)
        return torch.minimum(drawn, last).to(probabilities.device)


@torch.inference_mode()
def generate(
    model: Transformer,
    prompt: Sequence[int],
    settings: SamplingSettings,
    *,
    max_tokens: int,
    streams: int = 1,
    use_cache: bool = True,
    cancelled: Callable[[], bool] = lambda: False,
) -> Iterator[list[int]]:
    """Yield the next token of every stream, ``max_tokens`` times.

    Args:
        model: In evaluation mode.
        prompt: Token ids that every stream continues; at least one.
        settings: The strategy.
        max_tokens: Tokens to generate in each stream.
        streams: How many continuations.
        use_cache: Keep keys and values; without, every token reads its window again, with the same
            result.
        cancelled: Polled before each token.

    Raises:
        UserError: The prompt is empty.
        CancelledError: ``cancelled`` became true.
    """
    if not prompt:
        raise UserError("the prompt is empty; give at least one character, a newline for example")
    device = model.embedding.weight.device
    context = model.config.max_seq_len
    # [B, prompt + max_tokens]: the whole text, filled as it grows
    text = torch.empty(streams, len(prompt) + max_tokens, dtype=torch.int64, device=device)
    text[:, : len(prompt)] = torch.tensor(prompt, device=device)
    seen = None
    if settings.repetition_penalty != 1:
        seen = torch.zeros(streams, model.vocab_size, dtype=torch.bool, device=device)
        seen[:, list(prompt)] = True
    drawer = _Drawer(settings.seed, streams)
    cache: KVCache | None = model.make_cache(streams) if use_cache else None
    cache_start = 0
    for length in range(len(prompt), len(prompt) + max_tokens):
        if cancelled():
            raise CancelledError("generation was stopped")
        start = window_start(length, context)
        if cache is None:
            logits = model(text[:, start:length])[:, -1]
        else:
            if start != cache_start:
                cache.length, cache_start = 0, start
            logits = model(text[:, start + cache.length : length], cache)[:, -1]
        probabilities = next_probabilities(logits.float(), seen, settings)
        token = (
            probabilities.argmax(-1, keepdim=True)
            if settings.temperature == 0
            else drawer.draw(probabilities)
        )
        text[:, length] = token[:, 0]
        if seen is not None:
            seen.scatter_(1, token, True)
        yield token[:, 0].tolist()
