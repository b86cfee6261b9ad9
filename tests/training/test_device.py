"""Devices that are not here: what is chosen for them, and errors of memory told from others."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from training_runs import OnEvent, make_config, train

from shakespeare_tui.errors import RunFailedError
from shakespeare_tui.runs.commands import CommandInbox
from shakespeare_tui.runs.events import Event, StepCompleted
from shakespeare_tui.training.device import allow_tf32, has_bf16, is_out_of_memory
from shakespeare_tui.training.torch_state import (
    GlobalGenerator,
    generator_states,
    generators_of,
    restore_generators,
)


@pytest.mark.parametrize("allocate", [torch.empty, np.empty], ids=["torch", "numpy"])
def test_a_failed_allocation_is_out_of_memory(allocate: object) -> None:
    with pytest.raises((RuntimeError, MemoryError)) as caught:
        allocate(10**15)  # type: ignore[operator]
    assert is_out_of_memory(caught.value)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 17.76 GB)"), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (
            RuntimeError(
                "unsupported operation: some elements of the input tensor and the written-to"
                " tensor refer to a single memory location"
            ),
            False,
        ),
        (RuntimeError("pin_memory thread exited unexpectedly"), False),
        (ValueError("memory"), False),
    ],
)
def test_other_errors_that_name_memory_are_not(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


@pytest.mark.parametrize(
    ("capability", "expected"),
    # P100, V100, T4, A100, RTX 3090, RTX 4090, H100
    [
        ((6, 0), False),
        ((7, 0), False),
        ((7, 5), False),
        ((8, 0), True),
        ((8, 6), True),
        ((8, 9), True),
        ((9, 0), True),
    ],
)
def test_bfloat16_by_compute_capability(capability: tuple[int, int], expected: bool) -> None:
    assert has_bf16(capability) is expected


def test_tf32_is_for_cuda_and_leaves_the_processor_alone() -> None:
    a, b = (torch.rand(64, 64, generator=torch.Generator().manual_seed(s)) for s in (1, 2))
    before = a @ b
    allow_tf32()
    assert torch.backends.cuda.matmul.fp32_precision == "tf32"
    assert torch.equal(a @ b, before)


@pytest.mark.parametrize("name", ["cpu", "cuda", "mps"])
def test_each_device_has_its_generator_beside_the_processors(name: str) -> None:
    expected = ["rng.cpu"] if name == "cpu" else ["rng.cpu", f"rng.{name}"]
    assert [generator.name for generator in generators_of(torch.device(name))] == expected


def test_mps_state_is_read_and_written_by_torch_mps() -> None:
    generator = generators_of(torch.device("mps"))[1]
    assert (generator.get, generator.set) == (torch.mps.get_rng_state, torch.mps.set_rng_state)


def test_draws_go_on_where_they_were_saved() -> None:
    sources = [torch.Generator().manual_seed(seed) for seed in (1, 2)]
    generators = [
        GlobalGenerator(name, source.get_state, source.set_state)
        for name, source in zip(("rng.cpu", "rng.mps"), sources, strict=True)
    ]

    def draw() -> list[Tensor]:
        return [torch.rand(3, generator=source) for source in sources]

    draw()
    state = {name: tensor.clone() for name, tensor in generator_states(generators).items()}
    expected = draw()
    restore_generators(state, generators)
    assert all(torch.equal(a, b) for a, b in zip(draw(), expected, strict=True))
    # A checkpoint of the processor's, gone on with on the device.
    del state["rng.mps"]
    restore_generators(state, generators)
    with pytest.raises(KeyError):
        restore_generators({}, generators)


def fail_with(error: Exception) -> OnEvent:
    def act(event: Event, inbox: CommandInbox) -> None:
        if isinstance(event, StepCompleted):
            raise error

    return act


def test_a_run_says_that_memory_ran_out_only_where_it_did(tmp_path: Path) -> None:
    with pytest.raises(RunFailedError, match=r"lower training\.batch_size"):
        train(tmp_path / "a", make_config(), on_event=fail_with(MemoryError()))
    error = RuntimeError("CUDA error: an illegal memory access was encountered")
    with pytest.raises(RunFailedError, match="error of the program .*illegal memory access"):
        train(tmp_path / "b", make_config(), on_event=fail_with(error))
