"""The compiled loss and gradients against the plain model's, and runs that are trained by them."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from compiling_once import compiling_once, with_numba
from torch import Tensor
from training_runs import make_config, post_at, resume, train, what_was_learned

from shakespeare_tui.config.schema import ModelConfig, TrainingConfig
from shakespeare_tui.models.compiling import compile_kernels
from shakespeare_tui.models.transformer import Transformer
from shakespeare_tui.runs.commands import Stop
from shakespeare_tui.runs.events import StepCompleted
from shakespeare_tui.training.checkpoints import read_state
from shakespeare_tui.training.optimizers import Adam
from shakespeare_tui.training.torch_state import TorchTrainState

CPU = torch.device("cpu")
FITTING: dict[str, Any] = {"model__d_model": 32, "model__n_heads": 1}
VOCAB = 19
# Of each: [B, T]; 33, 7 and 21 fill no tile of scores.
SHAPES: dict[str, tuple[dict[str, Any], tuple[int, int]]] = {
    "rope-rmsnorm-relu2-qk_norm": (
        {"norm": "rmsnorm", "activation": "relu2", "qk_norm": True, "tie_weights": False},
        (2, 33),
    ),
    "learned-layernorm-gelu-biases": ({"positions": "learned", "bias": True}, (3, 7)),
    "grouped-swiglu": (
        {"norm": "rmsnorm", "activation": "swiglu", "n_kv_heads": 1, "attention_bias": "qkv"},
        (1, 64),
    ),
    "sinusoidal-grouped-qk_norm-wide-heads": (
        {"positions": "sinusoidal", "qk_norm": True, "head_dim": 64, "n_kv_heads": 1},
        (2, 21),
    ),
    "one-token": ({"norm": "rmsnorm", "qk_norm": True, "short_convolution": 2}, (4, 1)),
    "convolution": ({"norm": "rmsnorm", "activation": "relu2", "short_convolution": 4}, (3, 9)),
}


@pytest.fixture(scope="module", autouse=True)
def compiled() -> Iterator[None]:
    with with_numba():
        compile_for("float32")
        yield


def compile_for(precision: str) -> None:
    from shakespeare_tui.models import fused

    with compiling_once():
        for shape, _ in SHAPES.values():
            model = ModelConfig(**shape, dropout=0.1, ngram_embedding=2)
            compile_kernels(fused.kernels([precision], model))


def make_model(**changes: Any) -> Transformer:
    shape = {"d_model": 64, "n_heads": 2, "n_layers": 2, "d_ff": 48, "max_seq_len": 64}
    model = Transformer(
        ModelConfig(**(shape | changes)), VOCAB, torch.Generator().manual_seed(3)
    ).train()
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for parameter in model.parameters():
            # Not 0 and 1, by which a mistake would not show.
            drawn = torch.rand(parameter.shape, generator=generator)
            parameter.copy_(parameter + 0.2 * drawn if parameter.dim() < 2 else 5 * parameter)
    return model


def windows(batch: int, tokens: int, seed: int = 0) -> Tensor:
    return torch.randint(VOCAB, (batch, tokens + 1), generator=torch.Generator().manual_seed(seed))


def learn(model: Transformer, batch: Tensor, loss_of: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss and its gradient by name."""
    names, parameters = zip(*model.named_parameters(), strict=True)
    loss = loss_of(batch[:, :-1], batch[:, 1:])
    return loss.detach(), dict(zip(names, torch.autograd.grad(loss, parameters), strict=True))


def fused_loss(model: Transformer) -> Any:
    from shakespeare_tui.models import fused

    return lambda tokens, targets: fused.loss(model, tokens, targets)


@pytest.mark.parametrize("name", SHAPES)
def test_loss_and_gradients_are_those_of_autograd_in_float64(name: str) -> None:
    changes, shape = SHAPES[name]
    model = make_model(**changes)
    loss, gradients = learn(model, windows(*shape), fused_loss(model))
    exact = make_model(**changes).double()
    expected, exact_gradients = learn(exact, windows(*shape), exact.loss)
    torch.testing.assert_close(loss, expected.float(), rtol=1e-5, atol=1e-5)
    for key, gradient in exact_gradients.items():
        scale = float(gradient.abs().max())
        torch.testing.assert_close(
            gradients[key], gradient.float(), rtol=1e-4, atol=2e-5 * scale + 1e-6, msg=key
        )


def test_what_is_learned_from_teachers_is_what_autograd_says() -> None:
    from shakespeare_tui.models import fused

    model, batch = make_model(), windows(2, 33)
    exact = make_model().double()
    p = torch.rand(2, 33, VOCAB, generator=torch.Generator().manual_seed(1)).softmax(-1)
    loss, gradients = learn(model, batch, lambda *window: fused.loss(model, *window, soft=(p, 0.7)))
    q = exact(batch[:, :-1]).log_softmax(-1).flatten(0, 1)
    of_labels = torch.nn.functional.nll_loss(q, batch[:, 1:].flatten())
    divergence = torch.nn.functional.kl_div(q, p.double().flatten(0, 1), reduction="batchmean")
    torch.testing.assert_close(loss, of_labels.detach().float(), rtol=1e-5, atol=1e-5)
    names, parameters = zip(*exact.named_parameters(), strict=True)
    expected = torch.autograd.grad(0.3 * of_labels + 0.7 * divergence, parameters)
    for name, gradient in zip(names, expected, strict=True):
        scale = float(gradient.abs().max())
        torch.testing.assert_close(
            gradients[name], gradient.float(), rtol=1e-4, atol=2e-5 * scale + 1e-6, msg=name
        )


@pytest.mark.slow
@pytest.mark.parametrize("name", SHAPES)
def test_in_bfloat16_they_are_as_near_to_float32_as_the_plain_models(name: str) -> None:
    compile_for("bfloat16")
    changes, shape = SHAPES[name]
    model = make_model(**changes)
    _, exact = learn(model, windows(*shape), model.loss)
    distances = []
    for loss_of in (fused_loss(model), model.loss):
        with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
            _, found = learn(model, windows(*shape), loss_of)
        pairs = [(found[key] - exact[key], exact[key]) for key in exact]
        distances.append(max(float(d.norm() / (of.norm() + 1e-6)) for d, of in pairs))
    assert distances[0] < 1.3 * distances[1] + 1e-3


def test_attention_too_long_to_fuse_is_left_to_pytorch() -> None:
    from shakespeare_tui.models import fused

    model = make_model(n_layers=1, max_seq_len=fused.LONGEST + 1)
    batch = windows(1, fused.LONGEST + 1)
    loss, gradients = learn(model, batch, fused_loss(model))
    expected, plain = learn(model, batch, model.loss)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(gradients, plain, rtol=1e-3, atol=1e-5)


def test_dropout_and_its_gradient_drop_the_same() -> None:
    """Against differences along the gradient: what is dropped is the same in each pass."""
    from shakespeare_tui.models import fused

    model = make_model(dropout=0.3, qk_norm=True)
    batch, keys = windows(3, 21), list(range(7, 7 + fused.keys_of(model.config)))

    def loss_of(keys: list[int] | None = keys) -> Tensor:
        return fused.loss(model, batch[:, :-1], batch[:, 1:], keys)

    gradients = torch.autograd.grad(loss_of(), [*model.parameters()])
    length = math.sqrt(sum(float(g.square().sum()) for g in gradients))
    found = []
    with torch.no_grad():
        for step in (0.01, -0.02):
            for parameter, gradient in zip(model.parameters(), gradients, strict=True):
                parameter.add_(gradient, alpha=step / length)
            found.append(float(loss_of()))
        assert (found[0] - found[1]) / 0.02 == pytest.approx(length, rel=0.02)
        assert float(loss_of([key + 1 for key in keys])) != found[1] != float(loss_of(None))


def test_a_share_of_numbers_is_dropped_and_their_mean_stays() -> None:
    from shakespeare_tui.models.fused_kernels import dropout

    ones, found = np.ones(2**16, np.float32), []
    for key in (0, 1, 2**40 + 1):
        y = np.empty_like(ones)
        dropout(ones, key, round(0.3 * 2**32), y)
        assert np.unique(y).tolist() == pytest.approx([0, 1 / 0.7])
        found.append(y == 0)
    for dropped in (*found, found[0][1:] ^ found[0][:-1]):
        share = 0.3 if len(dropped) == len(ones) else 2 * 0.3 * 0.7
        # Five standard errors.
        assert dropped.mean() == pytest.approx(share, abs=0.01)
    correlations = np.corrcoef(np.stack(found))[np.triu_indices(3, 1)]
    assert np.abs(correlations).max() < 0.02


def test_a_second_derivative_is_refused() -> None:
    model = make_model()
    batch, weight = windows(2, 8), model.norm.weight
    loss = fused_loss(model)(batch[:, :-1], batch[:, 1:])
    with pytest.raises(RuntimeError, match="no second derivative"):
        torch.autograd.grad(loss, weight, create_graph=True)


def test_a_target_outside_of_the_vocabulary_is_an_error() -> None:
    model = make_model()
    tokens = torch.zeros((1, 4), dtype=torch.int64)
    with pytest.raises(IndexError):
        fused_loss(model)(tokens, tokens + VOCAB)


# --- training ------------------------------------------------------------------------------------


def make_state(parts: int) -> TorchTrainState:
    config = TrainingConfig(optimizer="muon", weight_decay=0.1)
    model = make_model(qk_norm=True, ngram_embedding=3)
    return TorchTrainState(model, config, CPU, parts=parts)


def weights(state: TorchTrainState) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in state.model.named_parameters()}


def test_parts_of_a_batch_in_threads_learn_what_the_whole_does() -> None:
    """Micro-batches of five and of one row: the parts are not alike, and one is empty."""
    batches = [windows(5, 12).numpy(), windows(1, 12, seed=1).numpy()]
    plain, parted = make_state(0), make_state(2)
    ours, theirs = (state.step(batches, 1.0) for state in (parted, plain))
    assert ours.loss == pytest.approx(theirs.loss, rel=1e-5)
    assert ours.grad_norm == pytest.approx(theirs.grad_norm, rel=1e-4)
    torch.testing.assert_close(weights(parted), weights(plain), rtol=1e-3, atol=2e-4)


@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_rows_without_a_gradient_go_on_by_their_averages(decay: float) -> None:
    """A table of which each step reads a few rows, against PyTorch's AdamW, which reads all."""
    generator = torch.Generator().manual_seed(0)
    ours, theirs = (torch.linspace(-1, 1, 50 * 32).view(50, 32) for _ in range(2))
    begun = ours.clone()
    optimizer = Adam([ours], 0.01, (0.8, 0.9), decay, parts=3)
    oracle = torch.optim.AdamW([theirs], 0.01, (0.8, 0.9), 1e-8, decay)
    read = [[3, 49, 3], [0, 1, 2, 16], [], [17], [3, 48]]
    for step, rows in enumerate(read):
        values = torch.randn(len(rows), 32, generator=generator)
        places = torch.tensor([rows], dtype=torch.int64)
        gradient = torch.sparse_coo_tensor(places, values, ours.shape, check_invariants=True)
        ours.grad, theirs.grad = gradient.coalesce(), gradient.to_dense()
        if step == 3:  # as a checkpoint is loaded
            optimizer.state[ours] = {n: s.clone() for n, s in optimizer.state[ours].items()}
        optimizer.step()
        oracle.step()
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7)
    for slot in ("exp_avg", "exp_avg_sq"):
        torch.testing.assert_close(optimizer.state[ours][slot], oracle.state[theirs][slot])
    never = torch.ones(50, dtype=torch.bool)
    never[[row for rows in read for row in rows]] = False
    if not decay:
        assert torch.equal(ours[never], begun[never])


def test_steps_repeat_bit_for_bit() -> None:
    states = [make_state(2) for _ in range(2)]
    for step in range(3):
        results = [state.step([windows(4, 24, seed=step).numpy()], 1.0) for state in states]
        assert results[0] == results[1]
    torch.testing.assert_close(weights(states[0]), weights(states[1]), rtol=0, atol=0)


def test_a_stopped_run_goes_on_as_if_it_never_had_been(tmp_path: Path) -> None:
    changes = {"model__dropout": 0.2, "training__max_steps": 8, "training__eval_every": 4}
    changes["model__ngram_embedding"] = 2
    changes["sampling__every"] = 0  # the decoder would be compiled
    config = make_config(**FITTING, **changes)
    whole = train(tmp_path, config, name="whole")
    train(tmp_path, config, on_event=post_at(3, Stop()))
    resumed = resume(tmp_path)
    assert what_was_learned(resumed.run) == what_was_learned(whole.run)
    saved = read_state(resumed.run.checkpoint(8))
    assert saved.fingerprint is not None and "numba" in saved.fingerprint.torch


@pytest.mark.parametrize(
    "changes",
    [
        {"training__grad_checkpointing": "true"},
        {"model__n_heads": 2},
        {"model__d_model": 24, "model__head_dim": 32},
    ],
    ids=str,
)
def test_what_is_not_fused_is_trained_by_pytorch(changes: dict[str, Any], tmp_path: Path) -> None:
    config = make_config(
        **(FITTING | {"training__max_steps": 1, "training__warmup_steps": 0} | changes)
    )
    with pytest.MonkeyPatch.context() as patch:
        found = train(tmp_path, config, name="compiled")
        patch.setenv("NUMBA_DISABLE_JIT", "1")
        plain = train(tmp_path, config, name="plain")
    losses = [[event.loss for event in run.of(StepCompleted)] for run in (found, plain)]
    assert losses[0] == losses[1]
    assert found.session.fingerprint == plain.session.fingerprint
