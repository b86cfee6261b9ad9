import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, LRScheduler, OneCycleLR

from shakespeare_tui.config.schema import TrainingConfig
from shakespeare_tui.training.schedules import learning_rate_factor

SCHEDULERS = ("cosine", "linear", "one_cycle", "wsd", "constant")
PEAK = 2e-3


def rates(training: TrainingConfig) -> list[float]:
    """The rate of every step of a run bounded by steps, and of the step after its last."""
    warmup_progress = min(1.0, training.warmup_steps / training.max_steps)
    return [
        training.learning_rate
        * learning_rate_factor(training, step, step / training.max_steps, warmup_progress)
        for step in range(training.max_steps + 1)
    ]


def torch_rates(make, steps: int) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=PEAK)
    scheduler: LRScheduler = make(optimizer)
    found = [scheduler.get_last_lr()[0]]
    for _ in range(steps):
        optimizer.step()
        scheduler.step()
        found.append(scheduler.get_last_lr()[0])
    return found


def config(**settings) -> TrainingConfig:
    return TrainingConfig(**{"learning_rate": PEAK, "warmup_steps": 0, **settings})


def test_cosine_with_warmup_is_nanogpts_schedule():
    warmup, last, peak, low = 100, 2000, 1e-3, 1e-4

    def nanogpt(step: int) -> float:
        if step < warmup:
            return peak * (step + 1) / (warmup + 1)
        through = (step - warmup) / (last - warmup)
        return low + 0.5 * (1 + math.cos(math.pi * through)) * (peak - low)

    training = TrainingConfig(
        learning_rate=peak, min_lr=low, warmup_steps=warmup, max_steps=last, scheduler="cosine"
    )
    assert rates(training) == pytest.approx([nanogpt(step) for step in range(last + 1)], rel=1e-9)


def test_cosine_is_torchs():
    training = config(scheduler="cosine", max_steps=300, min_lr=PEAK / 20)
    expected = torch_rates(lambda o: CosineAnnealingLR(o, T_max=300, eta_min=PEAK / 20), 300)
    assert rates(training) == pytest.approx(expected, rel=1e-6)


def test_linear_is_torchs():
    training = config(scheduler="linear", max_steps=300, min_lr=PEAK / 20)
    expected = torch_rates(lambda o: LinearLR(o, 1.0, 0.05, total_iters=300), 300)
    assert rates(training) == pytest.approx(expected, rel=1e-6)


def test_one_cycle_is_torchs_between_the_floor_and_the_peak():
    steps = 400
    training = config(scheduler="one_cycle", max_steps=steps, min_lr=PEAK / 10, warmup_steps=77)

    def one_cycle(optimizer):
        # torch puts the peak at pct_start * total_steps - 1 and the end at total_steps - 1.
        return OneCycleLR(
            optimizer,
            max_lr=PEAK,
            total_steps=steps + 1,
            pct_start=(0.3 * steps + 1) / (steps + 1),
            div_factor=10,
            final_div_factor=1,
            cycle_momentum=False,
        )

    assert rates(training) == pytest.approx(torch_rates(one_cycle, steps), rel=1e-6)


def test_wsd_is_flat_then_torchs_linear_decay():
    training = config(scheduler="wsd", max_steps=1000, min_lr=0.0, decay_fraction=0.4)
    found = rates(training)
    assert found[:601] == pytest.approx([PEAK] * 601)
    expected = torch_rates(lambda o: LinearLR(o, 1.0, 0.0, total_iters=400), 400)
    assert found[600:] == pytest.approx(expected, rel=1e-6, abs=1e-12)


def test_warmup_reaches_the_peak_once_and_no_step_has_a_rate_of_zero():
    found = rates(config(scheduler="constant", warmup_steps=9, max_steps=20))
    assert found[:11] == pytest.approx([PEAK * share / 10 for share in [*range(1, 11), 10]])


def test_an_empty_min_lr_is_a_tenth_of_the_peak():
    assert rates(config(scheduler="linear", max_steps=50))[-1] == pytest.approx(PEAK / 10)


def test_a_time_budget_decays_over_the_whole_budget_however_long_warmup_takes():
    training = config(scheduler="cosine", warmup_steps=100, min_lr=0.0)
    # A slow machine: half the time is gone at the third step.
    assert learning_rate_factor(training, 2, 0.5) == pytest.approx(3 / 101)
    # A fast one: warm-up is long over.
    assert learning_rate_factor(training, 5000, 0.5) == pytest.approx(0.5)
    assert learning_rate_factor(training, 9999, 1.0) == pytest.approx(0.0)


schedules = st.builds(
    TrainingConfig,
    learning_rate=st.just(PEAK),
    min_lr=st.floats(0, PEAK),
    scheduler=st.sampled_from(SCHEDULERS),
    decay_fraction=st.floats(0.05, 1),
    warmup_steps=st.integers(0, 3000),
)


@given(schedules, st.integers(0, 5000), st.floats(-1, 2), st.floats(0, 1))
def test_the_factor_is_a_share_of_the_peak(training, step, progress, warmup_progress):
    assert 0 <= learning_rate_factor(training, step, progress, warmup_progress) <= 1


@given(schedules.filter(lambda training: training.scheduler != "constant"))
def test_every_schedule_but_constant_ends_at_the_floor(training):
    floor = training.final_learning_rate / training.learning_rate
    assert learning_rate_factor(training, 100_000, 1.0, 0.3) == pytest.approx(floor)
    assert learning_rate_factor(training, 100_000, 1.7, 0.3) == pytest.approx(floor)


@settings(max_examples=40, deadline=None)
@given(schedules, st.integers(4000, 8000))
def test_the_rate_never_jumps(training, max_steps):
    training = training.model_copy(update={"max_steps": max_steps})
    found = [rate / PEAK for rate in rates(training)]
    # The steepest piece: a half cosine of slope pi/2, a line over decay_fraction, or warm-up.
    spans = [max_steps * 0.3, max_steps * training.decay_fraction, max_steps - 3000]
    steepest = max(math.pi / 2 / min(spans), 1 / (training.warmup_steps + 1))
    changes = [abs(after - before) for before, after in zip(found, found[1:], strict=False)]
    assert max(changes) <= steepest + 1e-9
