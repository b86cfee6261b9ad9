"""What every test stands on: folders of its own, one thread, and the real program at hand."""

import os
from pathlib import Path

# Before torch is loaded: beside other work, more threads make a tiny model many times slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Else workers, and the programs that tests start, would each compile the whole product again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# Compiling takes seconds: the NumPy model is what is tested, but where its compiled functions are.
os.environ.setdefault("NUMBA_DISABLE_JIT", "1")
os.environ.setdefault("NUMBA_CACHE_DIR", str(Path(__file__).parents[1] / ".pytest_cache" / "numba"))

import gc
from collections.abc import Iterator

import hypothesis
import pytest
from real_cli import CommandLine, Outcome, run_in_process

# The first example of a test may load a library or wait for a busy machine.
hypothesis.settings.register_profile("project", deadline=None, derandomize=True)
hypothesis.settings.load_profile("project")


def pytest_collection_finish() -> None:
    """Let collections leave alone what libraries and tests are made of: it stays to the end."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHAKESPEARE_TUI_CONFIG", str(tmp_path / "settings"))
    monkeypatch.setenv("SHAKESPEARE_TUI_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SHAKESPEARE_TUI_RUNS", str(tmp_path / "runs"))
    for name in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def runs_root(tmp_path: Path) -> Path:
    return tmp_path / "runs"


@pytest.fixture
def cli(capfd: pytest.CaptureFixture[str]) -> CommandLine:
    """``cli("train", "--no-ui")`` runs the program in this process and returns what it did."""

    def run(*arguments: str) -> Outcome:
        return run_in_process(capfd, arguments)

    return run


@pytest.fixture
def own_processes() -> Iterator[None]:
    """The processes that a test started with ``real_cli.start`` end with it."""
    from real_cli import end_processes

    yield
    end_processes()
