import importlib.metadata
import io
import json
import os
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from shakespeare_tui.cli.machine_checks import (
    extra_checks,
    memory_check,
    numba_check,
    terminal_checks,
    torch_checks,
)
from shakespeare_tui.cli.main import main
from shakespeare_tui.machine import Memory, Terminal, memory, terminal, usable_cores


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SHAKESPEARE_TUI_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("SHAKESPEARE_TUI_CACHE", str(tmp_path / "cache"))
    return tmp_path


def install_fake_torch(folder: Path, code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a package named torch, whose import runs ``code``, before the real one."""
    package = folder / "site" / "torch"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(code)
    monkeypatch.syspath_prepend(str(folder / "site"))


def doctor(capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, dict[str, Any]]]:
    code = main(["doctor", "--json"])
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] == (code == 0)
    return code, {check["name"]: check for check in report["checks"]}


def test_this_machine_can_train(own_folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import torch

    code, checks = doctor(capsys)
    assert code == 0
    assert torch.__version__ in checks["torch"]["detail"]
    assert "float32 (measured)" in checks["device cpu"]["detail"]
    assert checks["corpus sample"]["status"] == "ok"
    tiny_shakespeare = checks["corpus tiny_shakespeare"]
    assert tiny_shakespeare["status"] == "ok" or "data fetch" in tiny_shakespeare["fix"]
    for check in checks.values():
        assert (check["fix"] == "") == (check["status"] == "ok"), check
    assert list(own_folders.iterdir()) == []


@pytest.mark.parametrize(
    ("code", "detail"),
    [
        ("raise ImportError('libtorch.so: wrong ELF class')", "cannot be used: ImportError: libt"),
        ("raise OSError('WinError 126')", "cannot be used: OSError: WinError 126"),
        ("import os; os.kill(os.getpid(), 4)", "crashes this Python (SIGILL)"),
    ],
    ids=["import error", "library error", "illegal instruction"],
)
def test_broken_torch_is_told_with_the_fix(
    code: str,
    detail: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    install_fake_torch(tmp_path, code, monkeypatch)
    exit_code, checks = doctor(capsys)
    assert exit_code == 1
    assert checks["torch"]["status"] == "fail"
    assert checks["torch"]["detail"].startswith(detail)
    assert f"{sys.executable} -m pip install" in checks["torch"]["fix"]
    assert checks["corpus sample"]["status"] == "ok"


class TestWithoutTorch:
    """What does not need torch is looked at without waiting for it."""

    @pytest.fixture(autouse=True)
    def no_torch(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        install_fake_torch(tmp_path, "raise ImportError('none')", monkeypatch)

    def test_runs_folder_that_cannot_be_made(
        self,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        (tmp_path / "file").touch()
        monkeypatch.setenv("SHAKESPEARE_TUI_RUNS", str(tmp_path / "file" / "runs"))
        monkeypatch.setenv("SHAKESPEARE_TUI_CACHE", str(tmp_path / "file" / "cache"))
        _, checks = doctor(capsys)
        assert checks["runs"]["status"] == "fail"
        assert "SHAKESPEARE_TUI_RUNS" in checks["runs"]["fix"]
        assert checks["cache"]["status"] == "warn"
        assert "SHAKESPEARE_TUI_CACHE" in checks["cache"]["fix"]

    def test_damaged_corpus(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "tiny_shakespeare.txt").write_text("not it")
        _, checks = doctor(capsys)
        check = checks["corpus tiny_shakespeare"]
        assert check["status"] == "warn"
        assert "SHA-256" in check["detail"]
        assert "remove it" in check["fix"]

    @pytest.mark.parametrize("columns", [40, 80, 200])
    def test_text_fits_the_terminal(
        self,
        columns: int,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setenv("SHAKESPEARE_TUI_RUNS", "runs")
        assert main(["doctor"]) == 1
        out = capsys.readouterr().out
        assert out.isascii()
        assert out.endswith("not ready: fix what fails above\n")
        assert max(map(len, out.splitlines())) <= columns
        for line in out.splitlines():
            assert line.startswith(("ok ", "warn ", "fail ", " ", "not ready")) or not line


def test_what_is_lost_without_an_extra_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"].keys() - {"dev"}
    # A new one needs a line in EXTRAS.
    assert {check.name.removeprefix("extra ") for check in extra_checks()} == extras
    assert {check.status for check in extra_checks() if check.name == "extra gguf"} == {"ok"}
    monkeypatch.setitem(sys.modules, "gguf", None)
    (gguf,) = (check for check in extra_checks() if check.name == "extra gguf")
    assert gguf.status == "warn"
    assert gguf.detail == "gguf not installed: pretrained models in GGUF files need that"
    assert gguf.fix.endswith("pip install 'shakespeare-tui[gguf]'")
    monkeypatch.setitem(sys.modules, "numba", None)
    numba = numba_check()
    assert (numba.status, "slower" in numba.detail) == ("warn", True)
    assert numba.fix.endswith("pip install numba")


def report(*devices: dict[str, Any], threads: int = 8, cuda: bool = True) -> dict[str, Any]:
    return {
        "version": "2.13.0",
        "threads": threads,
        "has_cuda_build": cuda,
        "devices": list(devices),
    }


CPU = {"name": "cpu", "title": "cpu", "memory_bytes": None, "bf16_speedup": 0.02, "problem": ""}
GPU = {
    "name": "cuda:0",
    "title": "Some GPU",
    "memory_bytes": 80_000_000_000,
    "bf16_speedup": 3.25,
    "problem": "",
}


def test_devices_are_told_with_their_measured_speed() -> None:
    _, gpu, cpu, threads = torch_checks(report(GPU, CPU), "", cores=8)
    assert gpu.detail == (
        "Some GPU, 80.0 GB; bfloat16 is 3.2 times as fast as float32 (measured); the default"
    )
    assert cpu.detail.endswith("; bfloat16 is 50.0 times slower than float32 (measured)")
    assert {check.status for check in (gpu, cpu, threads)} == {"ok"}


def test_device_that_cannot_compute() -> None:
    broken = {**GPU, "bf16_speedup": None, "problem": "CUDA error: no kernel image"}
    gpu = torch_checks(report(broken, CPU), "", cores=8)[1]
    assert gpu.status == "warn"
    assert "no kernel image" in gpu.detail
    assert gpu.fix.endswith("--set training.device=cpu")


def test_cpu_build_beside_an_nvidia_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = tmp_path / "nvidia-smi"
    command.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    cpu = torch_checks(report(CPU, cuda=False), "", cores=8)[1]
    assert (cpu.status, "CUDA build" in cpu.fix) == ("warn", True)
    assert torch_checks(report(GPU, CPU), "", cores=8)[1].status == "ok"


@pytest.mark.parametrize(
    ("threads", "cores", "limit", "fix"),
    [
        (8, 8, None, ""),
        (4, 8, None, ""),
        (8, 2, None, "set OMP_NUM_THREADS=2: more threads than cores slow each other down"),
        (1, 8, "1", "unset OMP_NUM_THREADS to use them all"),
    ],
)
def test_threads(
    threads: int, cores: int, limit: str | None, fix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    if limit:
        monkeypatch.setenv("OMP_NUM_THREADS", limit)
    assert torch_checks(report(CPU, threads=threads), "", cores)[-1].fix == fix


def test_another_version_of_torch() -> None:
    version = torch_checks({**report(CPU), "version": "1.9.0"}, "", cores=8)[0]
    installed = importlib.metadata.distributions(name="shakespeare-tui")
    if any(installed):
        assert (version.status, "torch==" in version.fix) == ("warn", True)
    else:
        assert version.status == "ok"


@pytest.mark.parametrize(
    ("found", "status"),
    [
        (Memory(16 * 10**9, 8 * 10**9), "ok"),
        (Memory(16 * 10**9, None), "ok"),
        (Memory(None, None), "ok"),
        (Memory(16 * 10**9, 10**9), "warn"),
    ],
)
def test_memory_that_is_short(found: Memory, status: str) -> None:
    check = memory_check(found)
    assert check.status == status
    assert ("--config tiny" in check.fix) == (status == "warn")


def test_terminal_that_is_too_small_plain_and_ascii() -> None:
    checks = terminal_checks(Terminal(True, 60, 20, "16", "ascii"), wants_colour=True)
    assert [check.status for check in checks] == ["warn", "warn", "warn"]
    fixes = " ".join(check.fix for check in checks)
    for part in ("80 x 24", "TERM=xterm-256color", "PYTHONUTF8=1"):
        assert part in fixes
    good = terminal_checks(Terminal(True, 80, 24, "none", "utf-8"), wants_colour=False)
    assert [check.status for check in good] == ["ok", "ok", "ok"]


class Screen(io.StringIO):
    def __init__(self, encoding: str) -> None:
        super().__init__()
        self._encoding = encoding

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._encoding

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("environment", "colours"),
    [
        ({"TERM": "xterm-256color"}, "256"),
        ({"TERM": "screen-256color", "COLORTERM": "truecolor"}, "16 million"),
        ({"TERM": "linux"}, "16"),
        ({"TERM": "dumb"}, "none"),
        ({"TERM": "xterm-256color", "NO_COLOR": "1"}, "none"),
    ],
)
def test_colours_of_terminals(environment: dict[str, str], colours: str) -> None:
    assert terminal(Screen("utf-8"), environment).colours == colours


@pytest.mark.parametrize(
    ("encoding", "is_utf8"), [("utf-8", True), ("UTF8", True), ("ascii", False), ("cp1252", False)]
)
def test_characters_of_terminals(encoding: str, is_utf8: bool) -> None:
    assert terminal(Screen(encoding), {}).is_utf8 is is_utf8


def test_a_pipe_is_no_terminal() -> None:
    found = terminal(io.StringIO(), {"TERM": "xterm-256color"})
    assert (found.is_terminal, found.colours) == (False, "none")


def test_cores_and_memory_are_plausible() -> None:
    assert 1 <= usable_cores() <= (os.cpu_count() or 1)
    found = memory()
    if found.total is not None:
        assert found.total > 10**8
        assert 0 < (found.available or 1) <= found.total


def test_torch_is_described_by_measuring() -> None:
    import torch

    from shakespeare_tui.training.device import describe_torch

    before = torch.get_rng_state()
    found = describe_torch()
    assert torch.equal(torch.get_rng_state(), before)
    assert (found.version, found.threads) == (torch.__version__, torch.get_num_threads())
    cpu = found.devices[-1]
    assert (cpu.name, cpu.problem) == ("cpu", "")
    assert cpu.bf16_speedup is not None
    assert 0 < cpu.bf16_speedup < 1000
