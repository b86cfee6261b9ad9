"""Choose the device and the arithmetic: by what is there and by a short measurement."""

import time
from collections.abc import Callable

import torch

from shakespeare_tui.core.errors import UserError

# A gain must be clear before the less exact arithmetic is taken.
_LEAST_GAIN = 1.15
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


def describe_device(device: torch.device) -> str:
    """The device's name for people: ``cpu (2 threads)`` or the card's."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "cpu":
        return f"cpu ({torch.get_num_threads()} threads)"
    return device.type


def choose_precision(
    device: torch.device, work: Callable[[torch.dtype], object], rounds: int = 3
) -> torch.dtype:
    """Take bfloat16 where it makes ``work`` clearly faster, else float32.

    Args:
        device: Where ``work`` runs.
        work: One forward and backward pass in the given type; it must leave no trace.
        rounds: Timed runs of each, in turn; the fastest are compared.
    """
    if bf16_product_speedup(device) < 1:
        return torch.float32
    gain = speedup(lambda: work(torch.float32), lambda: work(torch.bfloat16), device, rounds)
    return torch.bfloat16 if gain > _LEAST_GAIN else torch.float32


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
