"""The device and its arithmetic: what is there, what is faster, and when its memory is full."""

import time
from collections.abc import Callable

import torch

from shakespeare_tui.errors import UserError
from shakespeare_tui.machine import memory

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
    found = memory()
    return found.total if found.available is None else found.available


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


def measured_precision(
    device: torch.device, work: Callable[[torch.dtype], object], rounds: int = 3
) -> torch.dtype:
    """Take bfloat16 where it makes ``work`` clearly faster, else float32.

    Args:
        device: Where ``work`` runs; not for CUDA, where a small product measures its launch.
        work: One forward and backward pass in the given type; it must leave no trace.
        rounds: Timed runs of each, in turn; the fastest are compared.
    """
    if bf16_product_speedup(device) < 1:
        return torch.float32
    gain = speedup(lambda: work(torch.float32), lambda: work(torch.bfloat16), device, rounds)
    return torch.bfloat16 if gain > LEAST_GAIN else torch.float32


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
