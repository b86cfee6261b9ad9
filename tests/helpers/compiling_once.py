"""Compiled code for tests that need it: by one worker, while the others wait for its cache."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numba
import pytest
from filelock import FileLock


@contextmanager
def compiling_once() -> Iterator[None]:
    """Let numba compile; of what is compiled inside, the first worker leaves a cache for all."""
    folder = Path(os.environ["NUMBA_CACHE_DIR"])
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "compiling.lock"):
        yield


@contextmanager
def with_numba() -> Iterator[None]:
    """Switch numba on, which is off for all other tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NUMBA_DISABLE_JIT", "0")
        patch.setattr(numba.config, "DISABLE_JIT", 0)
        yield
