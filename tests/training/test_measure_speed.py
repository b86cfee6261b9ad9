"""The measured speed is that of the passes which a run takes."""

import pytest
from compiling_once import compiling_once, with_numba
from training_runs import make_config

from shakespeare_tui.training.measure_speed import measure_throughput
from shakespeare_tui.training.torch_state import TorchBackend


def test_a_measurement_trains_as_a_run_does(monkeypatch: pytest.MonkeyPatch) -> None:
    config = make_config(model__d_model=32, model__n_heads=1, training__precision="float32")
    made = []
    new_state = TorchBackend.new_state

    def watched(self: TorchBackend, *arguments: object) -> object:
        state = new_state(self, *arguments)  # type: ignore[arg-type]
        made.append(self.arithmetic().library)
        return state

    monkeypatch.setattr(TorchBackend, "new_state", watched)
    with with_numba(), compiling_once():
        assert measure_throughput(config, 0.01, vocab_size=19) > 0
    assert "numba" in made[0]
