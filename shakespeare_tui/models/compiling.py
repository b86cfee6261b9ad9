"""Compiled twins of functions that are written in NumPy: which are in use, how they are compiled.

A function marked ``@replaceable`` is the definition. While a twin of its name is in use, float32
goes to the twin, which takes and returns the same; float64, which checks, stays with it.
Twins are compiled by numba, which is loaded here and in the modules of twins only, when training
begins. What it compiles is kept in the user's cache.
"""

import functools
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

import numpy as np

from shakespeare_tui.errors import check_cancelled, never
from shakespeare_tui.paths import cache_folder

P = ParamSpec("P")
R = TypeVar("R")
Twins = Mapping[str, Callable[..., Any]]

_twins: Twins = {}


def replaceable(definition: Callable[P, R]) -> Callable[P, R]:
    """Let a compiled twin of the same name take the function's place for float32.

    The definition itself stays at ``__wrapped__``. Its first argument is an array.
    """
    name = definition.__name__

    @functools.wraps(definition)
    def chosen(*arguments: P.args, **keywords: P.kwargs) -> R:
        twin = _twins.get(name)
        if twin is None or getattr(arguments[0], "dtype", None) != np.float32:
            return definition(*arguments, **keywords)
        result: R = twin(*arguments, **keywords)
        return result

    return chosen


def use_twins(twins: Twins) -> None:
    """Let these take the places of the functions of their names, and no others."""
    global _twins
    _twins = twins


def numba_version() -> str | None:
    """The version of numba, which this loads; None where it cannot be, or is switched off.

    ``NUMBA_DISABLE_JIT=1``, numba's own switch, leaves the definitions in place.
    """
    if os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0"):
        return None
    try:
        import numba
    except ImportError:  # not installed, or too old for this NumPy
        return None
    found: str = numba.__version__
    return found


_lock = threading.Lock()


def compile_kernels(
    kernels: Sequence[tuple[Any, Any]],
    report: Callable[[str, int, int | None], None] = lambda what, done, total: None,
    cancelled: Callable[[], bool] = never,
) -> None:
    """Compile functions for their signatures, or load them from the user's cache.

    A cache that cannot be written, or is damaged, costs time and nothing else: what is compiled is
    used all the same.

    Args:
        kernels: Numba's functions, each with a signature to compile it for.
        report: Told what goes on, how many are ready, and of how many.
        cancelled: Polled before each.

    Raises:
        CancelledError: ``cancelled`` became true.
    """
    what = "loading compiled code"
    report(what, 0, len(kernels))
    with _lock, _caching():
        for done, (kernel, signature) in enumerate(kernels, 1):
            check_cancelled(cancelled, "compiling")
            _compile(kernel, signature)
            if kernel.stats.cache_misses:
                what = "compiling, once"
            report(what, done, len(kernels))


def _compile(kernel: Any, signature: Any) -> None:
    try:
        kernel.enable_caching()
    except RuntimeError:  # there is no place for it
        kernel.compile(signature)
        return
    try:
        kernel.compile(signature)
    except Exception:  # noqa: BLE001
        # What is compiled is there before it is saved: a full disk matters to the next start only.
        if not kernel.signatures:
            shutil.rmtree(kernel.stats.cache_path, ignore_errors=True)
            kernel.compile(signature)


@contextmanager
def _caching() -> Iterator[None]:
    """Let numba keep what it compiles in the program's cache, or where the user says."""
    from numba import config

    settings: Any = config
    before = settings.CACHE_DIR
    settings.CACHE_DIR = before or str(cache_folder() / "compiled")
    try:
        yield
    finally:
        settings.CACHE_DIR = before
