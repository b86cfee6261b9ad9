"""Compiled code for tests that need it: by one worker, while the others wait for its cache."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numba
import pytest
from filelock import FileLock
from numba.extending import is_jitted

from shakespeare_tui.decoding.cpu_decoder import wait_until_compiled


@contextmanager
def compiling_once() -> Iterator[None]:
    """Let numba compile; of what is compiled inside, the first worker leaves a cache for all."""
    folder = Path(os.environ["NUMBA_CACHE_DIR"])
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "compiling.lock"):
        yield


@contextmanager
def with_numba() -> Iterator[None]:
    """Switch numba on, which is off for all other tests.

    Raises:
        AssertionError: Kernels were imported before, while it was off: they are plain functions.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NUMBA_DISABLE_JIT", "0")
        patch.setattr(numba.config, "DISABLE_JIT", 0)
        # Now, and not by a thread that compiles while numba is switched off again.
        from shakespeare_tui.decoding import compiled, compiled_draws
        from shakespeare_tui.models import fused_kernels, numpy_kernels

        found = (*compiled.kernels_for("float32", "float32"), *numpy_kernels.KERNELS)
        for kernel in (*dict(found), compiled_draws.draw, fused_kernels.dropout):
            assert is_jitted(kernel), f"{kernel.__module__} was imported with numba switched off"
        try:
            yield
        finally:
            wait_until_compiled()
