"""What only a CUDA device can show: ``python -m pytest -m gpu``."""

from pathlib import Path

import pytest
import torch
from training_runs import make_config, post_at, resume, train

from shakespeare_tui.config.schema import ModelConfig, TrainingConfig
from shakespeare_tui.models.transformer import Transformer
from shakespeare_tui.runs.commands import Stop
from shakespeare_tui.runs.events import StepCompleted
from shakespeare_tui.training.torch_state import TorchTrainState

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_step_waits_for_nothing_but_its_figures(optimizer: str) -> None:
    """CUDA's own mode for that makes an error of anything else that waits."""
    config = ModelConfig(d_model=64, n_heads=2, n_layers=2, max_seq_len=32, dropout=0.1)
    model = Transformer(config, 19, torch.Generator().manual_seed(3)).cuda().train()
    training = TrainingConfig(optimizer=optimizer)
    state = TorchTrainState(model, training, torch.device("cuda"), "bfloat16")
    windows = torch.randint(19, (8, 33), generator=torch.Generator().manual_seed(0)).numpy()
    state.step([windows], 1.0)
    torch.cuda.set_sync_debug_mode("error")
    try:
        assert state.step([windows], 1.0).applied
    finally:
        torch.cuda.set_sync_debug_mode("default")


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
