"""What only a CUDA device can show: ``python -m pytest -m gpu``."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from training_runs import make_config, post_at, resume, train

from shakespeare_tui.config.schema import ModelConfig, TrainingConfig
from shakespeare_tui.decoding.cpu_decoder import CpuDecoder
from shakespeare_tui.decoding.factory import make_decoder
from shakespeare_tui.models.transformer import Transformer
from shakespeare_tui.runs.commands import Stop
from shakespeare_tui.runs.events import StepCompleted
from shakespeare_tui.training import torch_state
from shakespeare_tui.training.step_graph import StepGraph
from shakespeare_tui.training.torch_state import TorchTrainState

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]


def make_state(training: TrainingConfig, **shape: Any) -> TorchTrainState:
    fields: dict[str, Any] = {"d_model": 64, "n_heads": 2, "n_layers": 2, "dropout": 0.1}
    config = ModelConfig(max_seq_len=32, **fields | shape)
    torch.manual_seed(7)
    model = Transformer(config, 19, torch.Generator().manual_seed(3)).cuda().train()
    return TorchTrainState(model, training, torch.device("cuda"), "bfloat16")


@pytest.mark.parametrize("steps", [1, 5])
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_step_waits_for_nothing_but_its_figures(optimizer: str, steps: int) -> None:
    """CUDA's own mode for that makes an error of anything else that waits.

    The second step is made kernel by kernel, the sixth is a graph's.
    """
    state = make_state(TrainingConfig(optimizer=optimizer))
    windows = torch.randint(19, (8, 33), generator=torch.Generator().manual_seed(0)).numpy()
    for _ in range(steps):
        state.step([windows], 1.0)
    torch.cuda.set_sync_debug_mode("error")
    try:
        assert state.step([windows], 1.0).applied
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize(
    ("training", "shape"),
    [
        ({"optimizer": "adamw", "ema_decay": 0.9}, {"positions": "learned", "norm": "layernorm"}),
        ({"optimizer": "muon", "muon_beta2": 0.95}, {"short_convolution": 4, "qk_norm": True}),
        ({"optimizer": "muon", "grad_clip": 0.1}, {"ngram_embedding": 2, "activation": "swiglu"}),
    ],
)
def test_a_captured_step_is_the_step(
    monkeypatch: pytest.MonkeyPatch, training: dict[str, Any], shape: dict[str, Any]
) -> None:
    """The same losses and the same dropout, whether its kernels are launched together or not."""
    draws = np.random.default_rng(0)
    batches = [[draws.integers(19, size=(8, 33)) for _ in range(2)] for _ in range(12)]
    captured = []

    def capture(*arguments: Any) -> StepGraph:
        captured.append(StepGraph(*arguments))
        return captured[-1]

    def figures(steps_before: int) -> list[tuple[float, float]]:
        monkeypatch.setattr(torch_state, "STEPS_BEFORE_GRAPH", steps_before)
        state = make_state(TrainingConfig(**training), **shape)
        found = []
        for number, windows in enumerate(batches):
            rate = 1 - number / 20
            result = state.step(windows, rate, measures_layers=number % 4 == 3)
            assert result.applied
            assert (result.layers is not None) == (number % 4 == 3)
            found.append((result.loss, result.grad_norm))
        return found

    monkeypatch.setattr(torch_state, "StepGraph", capture)
    one_by_one = figures(99)
    assert not captured
    together = figures(3)
    assert len(captured) == 1
    # Sums of embeddings' gradients come in another order each time.
    assert np.array(together) == pytest.approx(np.array(one_by_one), rel=5e-3)


def test_a_run_learns_what_the_processor_does_and_goes_on_after_a_stop(tmp_path: Path) -> None:
    config = make_config(training__device="cuda")
    whole = train(tmp_path, config, name="whole")
    train(tmp_path, config, on_event=post_at(11, Stop()))
    resumed = resume(tmp_path)
    plain = train(tmp_path, make_config(training__device="cpu"), name="plain")
    losses = [[event.loss for event in run.of(StepCompleted)] for run in (whole, plain, resumed)]
    assert losses[0] == pytest.approx(losses[1], abs=5e-3)
    # Up to the order of sums, which differs from run to run there.
    assert losses[0][11:] == pytest.approx(losses[2], abs=1e-3)


def test_a_rehearsal_is_of_a_captured_step_and_leaves_no_trace() -> None:
    windows = torch.randint(19, (8, 33), generator=torch.Generator().manual_seed(0)).numpy()
    rehearsed, plain = (make_state(TrainingConfig(optimizer="muon")) for _ in range(2))
    for _ in range(2):
        taken = rehearsed.rehearse(windows)
        assert taken.pass_seconds > 0 and taken.update_seconds > 0
    torch.manual_seed(7)
    losses = [rehearsed.step([windows], 1.0).loss for _ in range(6)]
    torch.manual_seed(7)
    assert losses == pytest.approx([plain.step([windows], 1.0).loss for _ in range(6)], rel=5e-3)


def test_a_small_model_on_a_card_writes_by_the_processor() -> None:
    model = make_state(TrainingConfig()).model.eval()
    tokens = np.array([[3, 1, 4, 1, 5]])
    decoder = make_decoder(model, 1)
    assert isinstance(decoder, CpuDecoder)
    logits = decoder.read(tokens)
    expected = model.cpu().last_logits(tokens, 1)[:, 0]
    np.testing.assert_allclose(logits, expected, atol=1e-4)
