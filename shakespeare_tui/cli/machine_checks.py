"""The checks of ``doctor``: a status, what was found, and the fix where one is needed."""

import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from shakespeare_tui.data.catalogue import CATALOGUE
from shakespeare_tui.data.source import locate_corpus
from shakespeare_tui.errors import UserError
from shakespeare_tui.formatting import format_bytes
from shakespeare_tui.machine import (
    Memory,
    Terminal,
    free_bytes,
    has_torch,
    memory,
    processor_name,
    terminal,
    usable_cores,
    write_problem,
)
from shakespeare_tui.paths import cache_folder, runs_folder

_PROBE_SECONDS = 120
_PROBE = """
import dataclasses, json
from shakespeare_tui.training.device import describe_torch
print(json.dumps(dataclasses.asdict(describe_torch())))
"""
_LEAST_DISK = 50_000_000
_GOOD_DISK = 1_000_000_000
_GOOD_MEMORY = 2_000_000_000


EXTRAS: dict[str, tuple[tuple[str, ...], str]] = {
    "parquet": (("pyarrow",), "corpora whose source is Parquet"),
    "gguf": (("gguf",), "pretrained models in GGUF files"),
    "search": (("optuna",), "experiments that search"),
    "ray": (("ray",), "experiments on a cluster"),
    "tensorboard": (("tensorboardX",), "runs for TensorBoard"),
    "onnx": (("onnx", "onnxruntime"), "exports for ONNX Runtime"),
    "serve": (("uvicorn", "starlette", "jinja2", "prometheus_client"), "models over HTTP"),
    "web": (("textual_serve",), "labs in a browser"),
    "report": (("matplotlib", "jinja2"), "reports of experiments and runs"),
}
"""The extras of ``pyproject.toml``: the modules that each brings, and what needs them."""


@dataclass(frozen=True)
class Check:
    """One line of the doctor; only ``fail`` makes training impossible."""

    name: str
    status: Literal["ok", "warn", "fail"]
    detail: str
    fix: str = ""


def all_checks() -> list[Check]:
    """Run every check; nothing is changed on disk."""
    return [
        Check("python", "ok", f"{platform.python_version()} ({sys.executable})"),
        *(torch_checks(*_probe_torch(), usable_cores()) if has_torch() else [_no_torch()]),
        numba_check(),
        *extra_checks(),
        memory_check(memory()),
        _folder_check("runs", runs_folder(), "SHAKESPEARE_TUI_RUNS"),
        _folder_check("cache", cache_folder(), "SHAKESPEARE_TUI_CACHE"),
        *terminal_checks(terminal(sys.stdout, os.environ), not os.environ.get("NO_COLOR")),
        *(_corpus_check(name) for name in CATALOGUE),
    ]


def torch_checks(report: dict[str, Any] | None, problem: str, cores: int) -> list[Check]:
    """Judge torch and its devices.

    Args:
        report: ``training.device.TorchReport`` as a dictionary; None where torch does not work.
        problem: Why it does not.
        cores: Processor cores that may be used.
    """
    if report is None:
        install = f"{sys.executable} -m pip install --force-reinstall {_torch_requirement()}"
        return [
            Check("torch", "fail", problem, install),
            Check("device", "warn", "unknown until torch works", "fix torch first"),
        ]
    checks = [_version_check(report["version"])]
    checks += [_device_check(device, report) for device in report["devices"]]
    checks.append(_threads_check(report["threads"], cores))
    return checks


def _no_torch() -> Check:
    lost = "GPUs, LoRA and pretrained models need it"
    return Check(
        "torch",
        "warn",
        f"not installed: NumPy trains, writes and measures; {lost}",
        f"{sys.executable} -m pip install {_torch_requirement()}",
    )


def _probe_torch() -> tuple[dict[str, Any] | None, str]:
    """Measure in a process of its own: a broken torch may crash, hang or abort the interpreter."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    try:
        probe = subprocess.run(
            [sys.executable, "-P", "-c", _PROBE],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_PROBE_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return None, f"did not answer within {_PROBE_SECONDS} seconds"
    except OSError as error:
        return None, f"could not be started ({error})"
    if probe.returncode < 0:
        name = signal.Signals(-probe.returncode).name
        return None, f"crashes this Python ({name}): it was built for another processor or system"
    if probe.returncode:
        last_line = (probe.stderr.strip().splitlines() or ["no reason given"])[-1]
        return None, f"cannot be used: {last_line}"
    report: dict[str, Any] = json.loads(probe.stdout.strip().splitlines()[-1])
    return report, ""


def _torch_requirement() -> str:
    """The torch that this version was made for, as pip takes it."""
    try:
        requirements = importlib.metadata.requires("shakespeare-tui") or []
    except importlib.metadata.PackageNotFoundError:
        requirements = []
    return next((line for line in requirements if line.startswith("torch==")), "torch")


def _version_check(version: str) -> Check:
    requirement = _torch_requirement()
    _, _, wanted = requirement.partition("==")
    if wanted and version.partition("+")[0] != wanted:
        return Check(
            "torch",
            "warn",
            f"{version}, but this program was made and tested with {wanted}",
            f"{sys.executable} -m pip install {requirement}",
        )
    return Check("torch", "ok", version)


def _device_check(device: dict[str, Any], report: dict[str, Any]) -> Check:
    title, speedup = device["title"], device["bf16_speedup"]
    if device["name"] == "cpu":
        title = processor_name()
    if device["memory_bytes"]:
        title = f"{title}, {format_bytes(device['memory_bytes'])}"
    name = f"device {device['name']}"
    if speedup is None:
        fix = f"update its driver, or train elsewhere with --set training.device={_other(device)}"
        return Check(name, "warn", f"{title}: {device['problem']}", fix)
    if speedup >= 1:
        measured = f"bfloat16 is {speedup:.1f} times as fast as float32 (measured)"
    else:
        measured = f"bfloat16 is {1 / speedup:.1f} times slower than float32 (measured)"
    detail = f"{title}; {measured}"
    if device is report["devices"][0]:
        detail += "; the default"
    if len(report["devices"]) == 1 and shutil.which("nvidia-smi") and not report["has_cuda_build"]:
        fix = "an NVIDIA driver is here, but this torch has no CUDA: install torch's CUDA build"
        return Check(name, "warn", detail, fix)
    return Check(name, "ok", detail)


def _other(device: dict[str, Any]) -> str:
    return "auto" if device["name"] == "cpu" else "cpu"


def _threads_check(threads: int, cores: int) -> Check:
    detail = f"torch uses {threads} on {cores} usable cores"
    if threads > cores:
        fix = f"set OMP_NUM_THREADS={cores}: more threads than cores slow each other down"
        return Check("threads", "warn", detail, fix)
    limits = [name for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS") if os.environ.get(name)]
    if threads < cores and limits:
        return Check("threads", "warn", detail, f"unset {' and '.join(limits)} to use them all")
    return Check("threads", "ok", detail)


def numba_check() -> Check:
    """Whether what CPUs train and write with is compiled; this does not load numba."""
    if _is_installed("numba"):
        return Check("numba", "ok", "CPUs train and write by compiled functions")
    detail = "not installed: CPUs train and write by functions that are not compiled, slower"
    return Check("numba", "warn", detail, f"{sys.executable} -m pip install numba")


def _is_installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def extra_checks() -> list[Check]:
    """What is installed beside what every run needs, and what is lost without it."""
    checks = []
    for extra, (modules, use) in EXTRAS.items():
        missing = [module for module in modules if not _is_installed(module)]
        if missing:
            detail = f"{' and '.join(missing)} not installed: {use} need that"
            fix = f"{sys.executable} -m pip install 'shakespeare-tui[{extra}]'"
            checks.append(Check(f"extra {extra}", "warn", detail, fix))
        else:
            checks.append(Check(f"extra {extra}", "ok", f"for {use}"))
    return checks


def memory_check(found: Memory) -> Check:
    """Judge main memory."""
    if found.total is None:
        return Check("memory", "ok", "this system does not tell")
    detail = format_bytes(found.total)
    if found.available is None:
        return Check("memory", "ok", detail)
    detail += f", {format_bytes(found.available)} available"
    if found.available < _GOOD_MEMORY:
        fix = "close other programs, or train a small model: --config tiny"
        return Check("memory", "warn", detail, fix)
    return Check("memory", "ok", detail)


def _folder_check(name: str, folder: Path, variable: str) -> Check:
    """Whether ``folder`` can be written and has room; only runs are indispensable."""
    fix = f"set {variable} to a folder that you can write to and that has room"
    impossible: Literal["warn", "fail"] = "fail" if name == "runs" else "warn"
    place = folder.absolute()
    if problem := write_problem(folder):
        return Check(name, impossible, f"{place} cannot be written: {problem}", fix)
    try:
        free = free_bytes(folder)
    except OSError:
        return Check(name, "ok", f"{place} can be written")
    detail = f"{place} can be written, {format_bytes(free)} free"
    if free < _LEAST_DISK:
        return Check(name, impossible, detail, fix)
    return Check(
        name, "warn" if free < _GOOD_DISK else "ok", detail, fix if free < _GOOD_DISK else ""
    )


def terminal_checks(found: Terminal, wants_colour: bool) -> list[Check]:
    """Judge size, colours and characters of the terminal."""
    if not found.is_terminal:
        return [Check("terminal", "ok", "output goes to a pipe or a file")]
    size = f"{found.columns} x {found.rows} characters"
    small = found.columns < 80 or found.rows < 24
    checks = [
        Check(
            "terminal",
            "warn" if small else "ok",
            size,
            "enlarge the window to 80 x 24 or more for the screens" if small else "",
        )
    ]
    if found.colours in ("none", "16") and wants_colour:
        fix = "set TERM=xterm-256color if your terminal can show it"
        checks.append(Check("colours", "warn", found.colours, fix))
    else:
        checks.append(Check("colours", "ok", found.colours))
    if found.is_utf8:
        checks.append(Check("characters", "ok", "UTF-8"))
    else:
        fix = "set PYTHONUTF8=1 (and LANG=C.UTF-8 outside Windows)"
        checks.append(Check("characters", "warn", found.encoding, fix))
    return checks


def _corpus_check(name: str) -> Check:
    try:
        source = locate_corpus(name)
    except UserError as error:
        reason, _, fix = str(error).partition("; ")
        return Check(f"corpus {name}", "warn", reason, fix or "remove the file")
    if source is None:
        fix = f"shakespeare-tui data fetch {name} (training does it by itself)"
        return Check(f"corpus {name}", "warn", "not fetched yet", fix)
    size = format_bytes(source.size_bytes)
    return Check(f"corpus {name}", "ok", f"{source.paths[0]}, {size}")
