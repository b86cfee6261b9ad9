"""What the training loop may rely on in every backend's state, seen through the protocol alone."""

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from training_runs import on_both_backends

from shakespeare_tui.config.schema import Config
from shakespeare_tui.runs.folder import new_run_info
from shakespeare_tui.training.numpy_state import NumpyBackend
from shakespeare_tui.training.torch_state import TorchBackend
from shakespeare_tui.training.train_state import TrainState

VOCAB, CONTEXT = 11, 6
INFO = new_run_info(
    name="run", corpus="c", corpus_sha256="", characters=99, vocab_size=VOCAB, parameters=0
)


def make_state(backend: str, dropout: float = 0.0, **training: Any) -> TrainState:
    shape = {"d_model": 8, "n_heads": 2, "n_layers": 2, "max_seq_len": CONTEXT, "bias": True}
    settings = {"precision": "float32", "seed": 3} | training
    config = Config.model_validate({"model": shape | {"dropout": dropout}, "training": settings})
    maker = TorchBackend("cpu") if backend == "torch" else NumpyBackend()
    return maker.new_state(config, INFO, lambda: False)


def window(rows: int = 4, seed: int = 0) -> NDArray[np.int64]:
    return np.random.default_rng(seed).integers(0, VOCAB, (rows, CONTEXT + 1))


def trained(state: TrainState) -> dict[str, NDArray[Any]]:
    """The weights that training goes on from, also where others generate."""
    arrays = state.arrays()
    raw = {n.removeprefix("raw."): a for n, a in arrays.rest.items() if n.startswith("raw.")}
    return {name: array.copy() for name, array in (raw or arrays.weights).items()}


def everything(state: TrainState) -> dict[str, NDArray[Any]]:
    """All but the random generators, which an attempt may have moved."""
    arrays = state.arrays()
    rest = {name: array for name, array in arrays.rest.items() if not name.startswith("rng.")}
    return {name: array.copy() for name, array in (arrays.weights | rest).items()}


@on_both_backends
@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "muon"])
def test_a_step_that_is_not_finite_changes_nothing(optimizer: str, backend: str) -> None:
    state = make_state(backend, optimizer=optimizer, ema_decay=0.9)
    state.step([window()], 1.0)
    assert state.is_sound()
    state.step([window()], math.inf)
    before = everything(state)
    result = state.step([window(seed=1)], 1.0, measures_layers=True)
    assert not result.applied and result.layers is None and not state.is_sound()
    assert not (math.isfinite(result.loss) and math.isfinite(result.grad_norm))
    for name, array in everything(state).items():
        np.testing.assert_array_equal(array, before[name], err_msg=name)


@on_both_backends
def test_a_step_that_failed_can_be_made_again_with_the_same_dropout(backend: str) -> None:
    # One after the other: PyTorch draws dropout from a global generator, which a new state seeds.
    twin = make_state(backend, dropout=0.5)
    expected = twin.step([window()], 1.0)
    state = make_state(backend, dropout=0.5)
    with pytest.raises(IndexError):
        state.step([window(), np.full((1, CONTEXT + 1), VOCAB)], 1.0)
    assert state.is_sound()
    assert state.step([window()], 1.0) == expected


@on_both_backends
def test_clipping_bounds_the_gradient_and_reports_it_unclipped(backend: str) -> None:
    plain = {"optimizer": "sgd", "learning_rate": 1.0, "momentum": 0, "weight_decay": 0}
    free, clipped = (make_state(backend, **plain, grad_clip=clip) for clip in (0, 0.01))
    start = trained(free)
    norms = [state.step([window()], 1.0).grad_norm for state in (free, clipped)]
    assert norms[0] == norms[1] > 0.01
    for name, array in trained(clipped).items():
        expected = start[name] + (trained(free)[name] - start[name]) * (0.01 / norms[0])
        np.testing.assert_allclose(array, expected, rtol=1e-3, atol=1e-7)


@on_both_backends
@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "muon"])
def test_accumulated_micro_batches_equal_the_whole_batch(optimizer: str, backend: str) -> None:
    whole, parts = (make_state(backend, optimizer=optimizer, learning_rate=0.01) for _ in range(2))
    for seed in range(3):
        batch = window(8, seed)
        one = whole.step([batch], 1.0, measures_layers=True)
        four = parts.step(np.split(batch, 4), 1.0, measures_layers=True)
        assert four.loss == pytest.approx(one.loss, rel=1e-5)
        assert four.grad_norm == pytest.approx(one.grad_norm, rel=1e-3)
        assert one.layers is not None and four.layers is not None
        assert four.layers.grad_norms == pytest.approx(one.layers.grad_norms, rel=1e-2)
    for name, expected in trained(whole).items():
        np.testing.assert_allclose(trained(parts)[name], expected, rtol=1e-3, atol=1e-4)


@on_both_backends
def test_the_average_follows_its_recurrence_and_leaves_training_alone(backend: str) -> None:
    state, plain = (
        make_state(backend, ema_decay=decay, learning_rate=0.05) for decay in (0.3, 0.0)
    )
    expected = trained(state)
    for update in range(1, 9):
        losses = [each.step([window(seed=update)], 1.0).loss for each in (state, plain)]
        assert losses[0] == losses[1]
        decay = min(0.3, (1 + update) / (10 + update))
        expected = {n: decay * expected[n] + (1 - decay) * w for n, w in trained(state).items()}
    for name, array in state.arrays().weights.items():
        np.testing.assert_allclose(array, expected[name], rtol=1e-4, atol=1e-6)
    before = trained(state)
    with pytest.raises(KeyError), state.averaged():
        raise KeyError
    for name, array in trained(state).items():
        np.testing.assert_array_equal(array, before[name])
