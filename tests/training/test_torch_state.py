"""One training step: groups, rates, clipping, accumulation, averages, and steps not applied."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from shakespeare_tui.config.schema import ModelConfig, TrainingConfig
from shakespeare_tui.models.transformer import Transformer
from shakespeare_tui.training import torch_state
from shakespeare_tui.training.optimizers import SGD, Adam, Optimizer
from shakespeare_tui.training.torch_state import TorchTrainState

CPU = torch.device("cpu")
VOCAB = 11


def make_state(precision: str = "float32", **training: Any) -> TorchTrainState:
    config = ModelConfig(d_model=8, n_heads=2, n_layers=2, max_seq_len=6, bias=True)
    model = Transformer(config, VOCAB, torch.Generator().manual_seed(3)).train()
    return TorchTrainState(model, TrainingConfig(**training), CPU, precision)


def window(rows: int = 4, seed: int = 0) -> Tensor:
    return torch.randint(VOCAB, (rows, 7), generator=torch.Generator().manual_seed(seed))


def weights(state: TorchTrainState) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in state.model.named_parameters()}


def gradients(state: TorchTrainState, batch: Tensor) -> dict[str, Tensor]:
    names, parameters = zip(*state.model.named_parameters(), strict=True)
    loss = state.model.loss(batch[:, :-1], batch[:, 1:])
    return dict(zip(names, torch.autograd.grad(loss, parameters), strict=True))


def is_decayed(name: str) -> bool:
    return not name.endswith("bias") and "norm" not in name


@pytest.mark.parametrize("optimizer", ["adamw", "adam"])
@pytest.mark.parametrize("factor", [1.0, 0.25])
def test_adamw_step_equals_its_formula(factor: float, optimizer: str) -> None:
    state = make_state(
        optimizer=optimizer, learning_rate=0.01, weight_decay=0.3, beta1=0.8, beta2=0.9, grad_clip=0
    )
    before, gradient = weights(state), gradients(state, window())
    result = state.step([window().numpy()], factor)
    rate = 0.01 * factor
    norm = math.sqrt(sum(float(g.square().sum()) for g in gradient.values()))
    assert result.applied and result.grad_norm == pytest.approx(norm, rel=1e-4)
    for name, after in weights(state).items():
        # Adam's first step goes by the sign, whatever the betas.
        move = rate * gradient[name] / (gradient[name].abs() + 1e-8)
        kept = before[name] * (1 - rate * 0.3) if is_decayed(name) else before[name]
        torch.testing.assert_close(after, kept - move, rtol=1e-4, atol=1e-6)


def test_sgd_step_equals_its_formula() -> None:
    """SGDW, algorithm 1 of arXiv:1711.05101: the decay follows the LR and enters no momentum."""
    state = make_state(
        optimizer="sgd", learning_rate=0.5, momentum=0.9, weight_decay=0.3, grad_clip=0
    )
    before, first = weights(state), gradients(state, window())
    state.step([window().numpy()], 1.0)
    second = gradients(state, window(seed=1))
    state.step([window(seed=1).numpy()], 0.5)
    for name, after in weights(state).items():
        decay = 0.3 if is_decayed(name) else 0.0
        halfway = before[name] * (1 - 0.5 * decay) - 0.5 * first[name]
        expected = halfway * (1 - 0.25 * decay) - 0.25 * (0.9 * first[name] + second[name])
        torch.testing.assert_close(after, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("decay", [0.0, 0.3])
@pytest.mark.parametrize("name", ["adamw", "adam", "sgd", "sgd without momentum"])
def test_optimizers_are_those_of_pytorch(name: str, decay: float) -> None:
    ours, theirs = ([torch.linspace(-1, 1, 33), torch.ones(3, 5)] for _ in range(2))
    momentum = 0.0 if "without" in name else 0.9
    oracles: dict[str, Any] = {
        "adamw": lambda: torch.optim.AdamW(theirs, 0.01, (0.8, 0.9), 1e-8, decay, fused=True),
        "adam": lambda: torch.optim.Adam(theirs, 0.01, (0.8, 0.9), 1e-8, decay, fused=True),
    }
    oracle = oracles.get(name, lambda: torch.optim.SGD(theirs, 0.01, momentum, 0, decay))()
    optimizer: Optimizer
    if name.startswith("adam"):
        optimizer = Adam(ours, 0.01, (0.8, 0.9), decay, is_decoupled=name == "adamw")
    else:
        optimizer = SGD(ours, 0.01, momentum, decay, is_decoupled=False)
    generator = torch.Generator().manual_seed(0)
    for _ in range(4):
        for parameter, other in zip(ours, theirs, strict=True):
            parameter.grad = torch.randn(parameter.shape, generator=generator)
            other.grad = parameter.grad.clone()
        optimizer.step()
        oracle.step()
        assert all(map(torch.equal, ours, theirs))


def test_muon_takes_the_matrices_of_the_blocks_and_adamw_the_rest() -> None:
    state = make_state(optimizer="muon", learning_rate=0.02, muon_learning_rate=0.05)
    owners = {
        id(p): (type(o).__name__, group["peak_lr"], group["weight_decay"])
        for o in state.optimizers
        for group in o.param_groups
        for p in group["params"]
    }
    named = dict(state.model.named_parameters())
    assert len(owners) == len(named)
    for name, parameter in named.items():
        is_matrix = name.startswith("blocks.") and parameter.dim() == 2
        owner, rate, decay = owners[id(parameter)]
        assert (owner, rate) == (("Muon", 0.05) if is_matrix else ("Adam", 0.02))
        assert decay == (0.1 if is_decayed(name) else 0.0)
    assert getattr(named["blocks.0.attention.qkv.weight"], "muon_parts", 1) == 3
    assert getattr(named["blocks.0.feedforward.up.weight"], "muon_parts", 1) == 1


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd", "muon"])
def test_tied_weights_are_updated_once(optimizer: str) -> None:
    state = make_state(optimizer=optimizer, ema_decay=0.9)
    owned = [id(p) for o in state.optimizers for g in o.param_groups for p in g["params"]]
    assert len(owned) == len(set(owned)) == len(list(state.model.parameters()))
    state.step([window().numpy()], 1.0)
    assert state.model.head.weight is state.model.embedding.weight
    with state.averaged() as model:
        assert model.head.weight.data_ptr() == model.embedding.weight.data_ptr()


def test_gradient_that_overflows_under_a_finite_loss_changes_nothing() -> None:
    state = make_state()
    before = weights(state)
    bias = state.model.get_parameter("norm.bias")
    bias.register_hook(lambda gradient: gradient * 1e30)  # its square is beyond float32
    result = state.step([window().numpy()], 1.0)
    assert math.isfinite(result.loss) and not math.isfinite(result.grad_norm)
    assert not result.applied
    assert all(torch.equal(before[name], after) for name, after in weights(state).items())


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "muon"])
def test_figures_that_are_read_after_the_update_change_nothing(optimizer: str) -> None:
    early, late = (make_state(optimizer=optimizer, ema_decay=0.9) for _ in range(2))
    late.reads_late = True
    for seed in range(3):
        results = [s.step([window(seed=seed).numpy()], 1.0) for s in (early, late)]
        assert results[0] == results[1] and results[1].applied
    assert all(map(torch.equal, weights(early).values(), weights(late).values()))
    assert all(map(torch.equal, early.ema, late.ema))


class Replayed:
    """A ``StepGraph`` where there is no CUDA: does what was captured at each replay."""

    def __init__(self, *captured: Any) -> None:
        self._made, self._applied, _, batches, soft = captured
        self.shapes = [tensor.shape for tensor in (*batches, *soft)]

    def fits(self, batches: Any, soft: Any) -> bool:
        return [tensor.shape for tensor in (*batches, *soft)] == self.shapes

    def gradients(self, batches: Any, soft: Any) -> Any:
        total, self._norm = self._made(batches, soft)
        return total, self._norm

    def update(self) -> None:
        self._applied(self._norm)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_steps_that_are_captured_are_the_steps(
    monkeypatch: pytest.MonkeyPatch, optimizer: str
) -> None:
    graphs = []

    def capture(*captured: Any) -> Replayed:
        graphs.append(Replayed(*captured))
        return graphs[-1]

    monkeypatch.setattr(torch_state, "StepGraph", capture)
    plain, captured = (make_state(optimizer=optimizer, ema_decay=0.9) for _ in range(2))
    captured.capture_steps()
    captured.rehearse(window().numpy())
    assert len(graphs) == 1
    graphs.clear()
    for step in range(8):
        # The seventh is of another shape.
        windows = [window(2 if step == 6 else 4, seed=step).numpy()]
        how = {"rate_factor": 1 - step / 10, "measures_layers": step in (1, 5)}
        results = [state.step(windows, **how) for state in (plain, captured)]
        assert len(graphs) == (step > 2)
        assert results[1].loss == pytest.approx(results[0].loss, abs=1e-6)
        assert results[1].grad_norm == pytest.approx(results[0].grad_norm, rel=1e-5)
        assert (results[1].layers is None) == (results[0].layers is None)
    after = weights(captured)
    for name, expected in weights(plain).items():
        torch.testing.assert_close(after[name], expected, rtol=1e-4, atol=1e-6)


def test_a_rehearsal_of_what_is_not_finite_leaves_the_weights(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch_state, "StepGraph", Replayed)
    state = make_state()
    state.capture_steps()
    before = weights(state)
    state.model.get_parameter("norm.bias").register_hook(lambda gradient: gradient * math.nan)
    state.rehearse(window().numpy())
    assert all(torch.equal(before[name], after) for name, after in weights(state).items())


def test_a_change_puts_the_capture_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a load too: what optimisers begin with, a graph would make at each replay anew."""
    graphs: list[Any] = []
    monkeypatch.setattr(torch_state, "StepGraph", lambda *captured: graphs.append(captured))
    state = make_state(optimizer="muon")
    state.capture_steps()
    for _ in range(3):
        state.step([window().numpy()], 1.0)
    state.precision = "bfloat16"
    for _ in range(3):
        state.step([window().numpy()], 1.0)
    assert not graphs


def test_an_update_that_should_not_have_been_leaves_no_sound_state() -> None:
    state = make_state()
    state.reads_late = True
    assert state.is_sound()
    hook = state.model.get_parameter("norm.bias").register_hook(lambda gradient: gradient * 1e30)
    assert not state.step([window().numpy()], 1.0).applied
    hook.remove()
    # Whatever it has done to the weights, they are not saved.
    assert not state.is_sound()


def test_bfloat16_step_is_near_the_float32_step() -> None:
    for optimizer in ("adamw", "muon"):
        exact = make_state(optimizer=optimizer)
        rough = make_state("bfloat16", optimizer=optimizer)
        for seed in range(3):
            losses = [state.step([window(16, seed).numpy()], 1.0).loss for state in (exact, rough)]
            assert losses[0] != losses[1]
            assert losses[1] == pytest.approx(losses[0], rel=0.02)
        assert all(p.dtype == torch.float32 for p in rough.model.parameters())


def test_gradient_pass_leaves_no_trace() -> None:
    state = make_state()
    before = weights(state)
    state.gradient_pass(window(), "bfloat16")
    assert all(p.grad is None for p in state.model.parameters())
    assert all(torch.equal(before[name], after) for name, after in weights(state).items())
