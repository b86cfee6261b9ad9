"""The device and its arithmetic: what is there, what is faster, and when its memory is full."""

import contextlib
import hashlib
import json
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from shakespeare_tui import machine
from shakespeare_tui.errors import UserError, check_cancelled, never
from shakespeare_tui.files import write_json_atomically
from shakespeare_tui.paths import cache_folder
from shakespeare_tui.settings_files import read_json_file

# A gain must be clear before the less exact arithmetic is taken.
LEAST_GAIN = 1.15
_PROBE_SIZE = 256


def resolve_device(spec: str) -> torch.device:
    """The device of ``auto``, ``cpu``, ``mps``, ``cuda`` or ``cuda:N``.

    Raises:
        UserError: It is not there.
    """
    if spec == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    device = torch.device(spec)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(
            f"device {spec}: torch sees {torch.cuda.device_count()} CUDA devices; use auto"
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UserError("device mps: torch sees none; use auto")
    return device


def allow_tf32() -> None:
    """Let CUDA devices take matrix products of float32 in TF32, as PyTorch's guides advise.

    19 bits instead of 32 in, float32 sums: several times faster on cards that have it. Nothing
    changes on other devices.
    """
    torch.backends.cuda.matmul.allow_tf32 = True


def free_memory(device: torch.device) -> int | None:
    """Bytes that are free where a device's tensors live; None where the system does not tell."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return machine.free_memory()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that an allocation failed, on any device.

    Others name memory too: CUDA's "an illegal memory access was encountered" is none of these.
    """
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    # CPUs and Apple's devices have no type of their own for it.
    signs = ("DefaultCPUAllocator: can't allocate memory", "MPS backend out of memory")
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in signs)


def describe_device(device: torch.device) -> str:
    """The device's name for people: ``cpu (2 threads)`` or the card's."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "cpu":
        return f"cpu ({torch.get_num_threads()} threads)"
    return device.type


def cuda_has_bf16(device: torch.device) -> bool:
    """Whether a CUDA device multiplies bfloat16 in its tensor cores (or ROCm in its matrix cores).

    By capability, 8.0 (Ampere) or above: a short measurement would be one of launching kernels.
    """
    is_amd = torch.version.hip is not None
    return is_amd or has_bf16(torch.cuda.get_device_capability(device))


def has_bf16(capability: tuple[int, int]) -> bool:
    """Whether NVIDIA's cards of a compute capability have products of bfloat16."""
    return capability >= (8, 0)


def measured_precision(device: torch.device, work: Callable[[str], object], rounds: int = 3) -> str:
    """Take bfloat16 where it makes ``work`` clearly faster, else float32.

    Args:
        device: Where ``work`` runs; not for CUDA, where a small product measures its launch.
        work: One forward and backward pass in the named type; it must leave no trace.
        rounds: Timed runs of each, in turn; the fastest are compared.
    """
    if bf16_product_speedup(device) < 1:
        return "float32"
    gain = speedup(lambda: work("float32"), lambda: work("bfloat16"), device, rounds)
    return "bfloat16" if gain > LEAST_GAIN else "float32"


def bf16_product_speedup(device: torch.device) -> float:
    """How many times faster a small matrix product is in bfloat16 than in float32.

    A flag cannot tell: many processors accept bfloat16 and are up to hundreds of times slower with
    it. The product is small enough to wait for even there.
    """
    small = torch.ones(_PROBE_SIZE, _PROBE_SIZE, device=device)
    small_bf16 = small.bfloat16()
    return speedup(lambda: small @ small, lambda: small_bf16 @ small_bf16, device, rounds=5)


def speedup(
    slow: Callable[[], object], fast: Callable[[], object], device: torch.device, rounds: int
) -> float:
    """Least time of ``slow`` over the least of ``fast``: other work only adds to either."""
    seconds: dict[Callable[[], object], list[float]] = {slow: [], fast: []}
    for work in seconds:
        work()
    for _ in range(rounds):
        for work, times in seconds.items():
            synchronise(device)
            started = time.perf_counter()
            work()
            synchronise(device)
            times.append(time.perf_counter() - started)
    return min(seconds[slow]) / min(seconds[fast])


def synchronise(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
"""By the names of ``train_state.PRECISIONS``."""


def remembered_precision(device: torch.device, shape: object, choose: Callable[[], str]) -> str:
    """What ``choose`` said of this shape on this machine the first time.

    Args:
        device: Where it was measured.
        shape: What the speed depends on; anything that JSON takes.
        choose: Measures; float32 or bfloat16.
    """
    path = cache_folder() / "precisions.json"
    known, key = _read(path), _key(device, shape)
    name = str(known.get(key))
    if name in DTYPES:
        return name
    chosen = choose()
    known[key] = chosen
    # A cache that cannot be written is no reason not to train.
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json_atomically(path, known)
    return chosen


def _read(path: Path) -> dict[str, Any]:
    try:
        known = read_json_file(path)
    except (OSError, UserError):
        return {}
    return known if isinstance(known, dict) else {}


def _key(device: torch.device, shape: object) -> str:
    here = [platform.node(), torch.backends.cpu.get_cpu_capability(), torch.__version__]
    told = json.dumps([*here, describe_device(device), shape], sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()


_HOPELESS = 0.25


@dataclass(frozen=True)
class DeviceReport:
    """A device as ``training.device`` names it.

    ``bf16_speedup`` is None where ``problem`` says why it could not be measured.
    """

    name: str
    title: str
    memory_bytes: int | None
    bf16_speedup: float | None
    problem: str = ""


@dataclass(frozen=True)
class TorchReport:
    """What torch is and sees; ``devices`` starts with the one that ``auto`` takes."""

    version: str
    threads: int
    has_cuda_build: bool
    devices: tuple[DeviceReport, ...]


def describe_torch() -> TorchReport:
    """List the devices and measure each; takes about a second."""
    devices = [torch.device("cuda", index) for index in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        devices.append(torch.device("mps"))
    devices.append(torch.device("cpu"))
    return TorchReport(
        version=torch.__version__,
        threads=torch.get_num_threads(),
        has_cuda_build=torch.version.cuda is not None or torch.version.hip is not None,
        devices=tuple(_report(device) for device in devices),
    )


def measure_bf16_speedup(
    device: torch.device | None = None,
    rounds: int = 5,
    cancelled: Callable[[], bool] = never,
) -> float:
    """How many times faster bfloat16 autocast makes a feed-forward layer than float32.

    Args:
        device: Where to measure; the CPU where None.
        rounds: Timed forward and backward passes of each type, in turn; the fastest are compared.
        cancelled: Polled between passes.

    Returns:
        Time with float32 over time with bfloat16: above 1 where bfloat16 is faster.

    Raises:
        RuntimeError: The device cannot compute, or its memory is full.
        CancelledError: ``cancelled`` became true.
    """
    device = device or torch.device("cpu")
    # A device without the instructions is told apart by a product small enough to wait for.
    probe = bf16_product_speedup(device)
    if probe < _HOPELESS:
        return probe
    # Constant values: the time does not depend on them, and torch's random state stays as it was.
    inner = torch.full((1536, 384), 0.01, device=device, requires_grad=True)
    outer = torch.full((384, 1536), 0.01, device=device, requires_grad=True)
    batch = torch.ones(2048, 384, device=device)

    def train(enabled: bool) -> None:
        check_cancelled(cancelled, "measuring the precision")
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled):
            hidden = functional.linear(batch, inner).relu()
            loss = functional.linear(hidden, outer).sum()
        torch.autograd.grad(loss, (inner, outer))

    return speedup(lambda: train(False), lambda: train(True), device, rounds)


def _report(device: torch.device) -> DeviceReport:
    memory_bytes = None
    try:
        title = describe_device(device)
        if device.type == "cuda":
            memory_bytes = torch.cuda.get_device_properties(device).total_memory
        bf16_speedup = measure_bf16_speedup(device)
    except RuntimeError as error:
        first_line = str(error).strip().partition("\n")[0]
        return DeviceReport(str(device), device.type, memory_bytes, None, first_line)
    return DeviceReport(str(device), title, memory_bytes, bf16_speedup)
