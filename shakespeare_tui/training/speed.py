"""How long a step takes, measured before a run is trained."""

import time
from collections.abc import Callable
from statistics import fmean

import numpy as np

from shakespeare_tui.config.schema import Config
from shakespeare_tui.errors import check_cancelled, never
from shakespeare_tui.training.train_state import StepTime, TrainState

# A pass that takes longer is not made a second time.
_LONG_SECONDS = 2.0


def step_seconds(
    state: TrainState,
    config: Config,
    vocab_size: int,
    *,
    seconds: float,
    cancelled: Callable[[], bool] = never,
) -> float:
    """Seconds of one of the config's steps, by passes over micro-batches of the real size.

    Args:
        state: Is left as it was.
        config: The state's.
        vocab_size: Number of token ids; tokens are drawn.
        seconds: How long to measure at least; one pass of a large model may take longer.
        cancelled: Polled between passes.

    Raises:
        CancelledError: ``cancelled`` became true.
    """
    shape = (config.training.batch_size, config.seq_len + 1)
    window = np.random.default_rng(0).integers(0, vocab_size, shape)
    times: list[StepTime] = []
    spent, began = 0.0, time.perf_counter()
    # What a rehearsal does besides, a graph's capture on a GPU, is no part of what it measures.
    while len(times) < 2 or (spent < seconds and time.perf_counter() - began < 2 * seconds):
        check_cancelled(cancelled, "measuring a step")
        times.append(state.rehearse(window))
        spent += times[-1].pass_seconds + times[-1].update_seconds
        if spent > _LONG_SECONDS:
            break
    # The first one allocates, which later ones need not.
    settled = times[1:] or times
    passes = fmean(time.pass_seconds for time in settled)
    return config.training.grad_accumulation * passes + fmean(t.update_seconds for t in settled)
