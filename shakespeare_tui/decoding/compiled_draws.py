"""The common steps of sampling, compiled by numba for decoders that write many tokens in one call.

The definitions are the ``apply`` of each step and ``Sampler``. What is here computes the same to
within rounding, on one row of logits at a time.
"""

import math
from typing import Any

import numpy as np

from shakespeare_tui.decoding.draws import (
    FREQUENCY_PENALTY,
    GREEDY,
    MIN_P,
    PRESENCE_PENALTY,
    REPETITION_PENALTY,
    TEMPERATURE,
    TOP_K,
    TOP_P,
)
from shakespeare_tui.models.fused_kernels import part
from shakespeare_tui.models.numpy_kernels import compiled, exp, row_maximum

_ZERO, _DROPPED = np.float32(0), np.float32(-np.inf)


@part
def _keep_likeliest(logits: Any) -> None:
    likeliest = 0
    for v in range(1, len(logits)):
        if logits[v] > logits[likeliest]:
            likeliest = v
    for v in range(len(logits)):
        logits[v] = _DROPPED
    logits[likeliest] = _ZERO


@part
def _select(row: Any, weights: Any, count: Any, target: Any) -> Any:
    """The number of a row at which its largest weigh ``target``, and how many of its equals count.

    Of the first ``count`` numbers; they and their weights are put in disorder. By quickselect in
    three parts (Hoare 1961), which compiles in a tenth of the time of NumPy's functions.
    """
    first, end, reached = 0, count, 0.0
    while True:
        low, middle, high = row[first], row[(first + end) // 2], row[end - 1]
        pivot = max(min(low, middle), min(max(low, middle), high))
        # Larger numbers before ``larger``, smaller ones from ``smaller`` on, equal ones between.
        larger, place, smaller, passed = first, first, end, 0.0
        while place < smaller:
            x, weight = row[place], weights[place]
            if x > pivot:
                row[place], weights[place] = row[larger], weights[larger]
                row[larger], weights[larger] = x, weight
                passed += np.float64(weight)
                larger += 1
                place += 1
            elif x < pivot:
                smaller -= 1
                row[place], weights[place] = row[smaller], weights[smaller]
                row[smaller], weights[smaller] = x, weight
            else:
                place += 1
        if larger > first and reached + passed >= target:
            end = larger
            continue
        reached += passed
        for n in range(larger, smaller):
            reached += np.float64(weights[n])
            if reached >= target or n == end - 1:
                return pivot, n + 1 - larger
        first = smaller


@part
def _kth_largest(logits: Any, k: Any) -> Any:
    """The ``k``-th largest of a row [V]; of a long one, only what can be it is looked at.

    Where k blocks have a number that is no smaller than a bound, the k-th largest is none either.
    """
    size = len(logits)
    width, bound = size // (4 * k), _DROPPED
    if width > 1:
        blocks = size // width
        largest = np.empty(blocks, np.float32)
        for n in range(blocks):
            largest[n] = row_maximum(logits[n * width : (n + 1) * width], width)
        bound, _ = _select(largest, np.ones(blocks, np.float32), blocks, float(k))
    found, count = np.empty(size, np.float32), 0
    for v in range(size):
        if logits[v] >= bound:
            found[count] = logits[v]
            count += 1
    least, _ = _select(found, np.ones(count, np.float32), count, float(k))
    return least


@part
def _keep_top_p(logits: Any, p: Any) -> None:
    """The smallest set of mass ``p``; of equals at its edge, those of the lowest ids.

    All tokens below (1 - p) / V have less than 1 - p together, so that the set is among the others,
    and only those are looked at.
    """
    size = len(logits)
    most = row_maximum(logits, size)
    powers = np.empty(size, np.float32)
    total = 0.0
    for v in range(size):
        power = exp(logits[v] - most)
        powers[v] = power if logits[v] > _DROPPED else _ZERO
    for v in range(size):
        total += np.float64(powers[v])
    bound = (1 - p) * total / size
    found, count = np.empty(size, np.float32), 0
    for v in range(size):
        power = powers[v]
        if power >= bound:
            found[count], powers[count] = logits[v], power
            count += 1
    least, free = _select(found, powers, count, p * total)
    for v in range(size):
        if logits[v] == least and free > 0:
            free -= 1
        elif logits[v] <= least:
            logits[v] = _DROPPED


@part
def _shape(logits: Any, kinds: Any, values: Any, counts: Any) -> None:
    """Apply a chain to a row [V] in place; ``counts`` [S, V] are those of its penalties."""
    size = len(logits)
    for s in range(len(kinds)):
        kind, value = kinds[s], np.float32(values[s])
        if kind == TEMPERATURE:
            for v in range(size):
                logits[v] /= value
        elif kind == GREEDY:
            _keep_likeliest(logits)
        elif kind == TOP_K:
            others = size - int(values[s])
            if others > 0:
                least = _kth_largest(logits, int(values[s]))
                for v in range(size):
                    if logits[v] < least:
                        logits[v] = _DROPPED
        elif kind == MIN_P:
            least = row_maximum(logits, size) + np.float32(math.log(values[s]))
            for v in range(size):
                if logits[v] < least:
                    logits[v] = _DROPPED
        elif kind == REPETITION_PENALTY:
            for v in range(size):
                if counts[s, v] > 0:
                    logits[v] = logits[v] / value if logits[v] > 0 else logits[v] * value
        elif kind == PRESENCE_PENALTY:
            for v in range(size):
                if counts[s, v] > 0:
                    logits[v] -= value
        elif kind == FREQUENCY_PENALTY:
            for v in range(size):
                logits[v] -= counts[s, v] * value
        elif kind == TOP_P:
            _keep_top_p(logits, values[s])


@compiled
def draw(logits: Any, kinds: Any, values: Any, counts: Any, uniform: Any) -> Any:
    """The token that a chain and a number in [0, 1) draw from a row [V], which is written over."""
    _shape(logits, kinds, values, counts)
    size = len(logits)
    most = row_maximum(logits, size)
    for v in range(size):
        power = exp(logits[v] - most)
        logits[v] = power if logits[v] > _DROPPED else _ZERO
    total = 0.0
    for v in range(size):
        total += np.float64(logits[v])
    passed, target = 0.0, uniform * total
    for v in range(size):
        passed += np.float64(logits[v])
        if passed > target:
            return v
    return size - 1


@compiled
def count(kinds: Any, windows: Any, text: Any, place: Any, counts: Any) -> None:
    """Bring ``counts`` [S, V] of a stream's penalties forward by the token at a place of its text.

    Nothing else of ``text`` [L] is looked at but the token that leaves a window.
    """
    for s in range(len(kinds)):
        if kinds[s] >= REPETITION_PENALTY:
            counts[s, text[place]] += 1
            if 0 < windows[s] <= place:
                counts[s, text[place - windows[s]]] -= 1
