"""A step is measured before a run begins, and the run is none the wiser."""

from typing import Any

import numpy as np
import pytest
import torch
from training_runs import make_config, on_both_backends

from shakespeare_tui.config.schema import Config
from shakespeare_tui.errors import CancelledError
from shakespeare_tui.models.parameters import count_parameters
from shakespeare_tui.runs.folder import new_run_info
from shakespeare_tui.training.backends import choose_backend
from shakespeare_tui.training.speed import step_seconds
from shakespeare_tui.training.train_state import StepTime, TrainState

VOCAB = 11
WINDOW = np.random.default_rng(1).integers(0, VOCAB, (4, 17))


def new_state(config: Config) -> TrainState:
    info = new_run_info(
        name="r",
        corpus="",
        corpus_sha256="",
        characters=0,
        vocab_size=VOCAB,
        parameters=count_parameters(config.model, VOCAB),
        embedding_scale=config.model.embedding_scale,
    )
    return choose_backend(config).new_state(config, info, lambda: False)


def contents(state: TrainState) -> dict[str, bytes]:
    arrays = state.arrays()
    return {name: array.tobytes() for name, array in (arrays.weights | arrays.rest).items()}


@on_both_backends
@pytest.mark.parametrize("optimizer", ["adamw", "muon", "sgd"])
def test_a_rehearsal_leaves_no_trace(backend: str, optimizer: str) -> None:
    config = make_config(
        training__backend=backend,
        training__optimizer=optimizer,
        training__ema_decay=0.9,
        model__dropout=0.2,
    )
    state = new_state(config)
    for _ in range(2):  # before the first step, and when the optimisers remember something
        before = contents(state)
        taken = state.rehearse(WINDOW)
        assert taken.pass_seconds > 0
        assert contents(state) == before
        state.step([WINDOW], 1.0)
    untouched = new_state(config)
    losses = [untouched.step([WINDOW], 1.0).loss for _ in range(3)]
    torch.manual_seed(0)
    again = new_state(config)
    step_seconds(again, config, VOCAB, seconds=0.0)
    assert [again.step([WINDOW], 1.0).loss for _ in range(3)] == losses


class Scripted:
    """Takes as long as it is told."""

    def __init__(self, *times: StepTime) -> None:
        self.left = list(times)
        self.shapes: list[tuple[int, ...]] = []

    def rehearse(self, window: Any) -> StepTime:
        self.shapes.append(window.shape)
        return self.left.pop(0)


def test_a_step_is_its_micro_batches_and_one_update() -> None:
    config = make_config(training__grad_accumulation=3, training__batch_size=2)
    state: Any = Scripted(StepTime(1.5, 0.3), StepTime(0.5, 0.1))
    assert step_seconds(state, config, VOCAB, seconds=1.0) == pytest.approx(3 * 0.5 + 0.1)
    assert state.shapes == [(2, config.seq_len + 1)] * 2
    # Of a large model, one pass has to do.
    slow: Any = Scripted(StepTime(5.0, 1.0))
    assert step_seconds(slow, config, VOCAB, seconds=1.0) == pytest.approx(16.0)


def test_measuring_a_step_can_be_called_off() -> None:
    state: Any = Scripted(StepTime(0.1, 0.0))
    polls = iter([False, True])
    with pytest.raises(CancelledError, match="measuring a step was cancelled"):
        step_seconds(state, make_config(), VOCAB, seconds=9.0, cancelled=lambda: next(polls))
