"""Ask torch what it can compute on, and measure instead of trusting a flag."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn import functional

from shakespeare_tui.errors import check_cancelled, never
from shakespeare_tui.training.device import bf16_product_speedup, describe_device, speedup

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
        rounds: Timed forward and backward passes of each type, in turn; their medians count.

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
