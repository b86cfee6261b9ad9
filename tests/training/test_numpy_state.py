"""NumPy's backend against PyTorch's: each step, and each going on from the other's checkpoints."""

from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from training_runs import make_config, post_at, resume, train, what_was_learned

from shakespeare_tui.config.load import load_config
from shakespeare_tui.config.schema import Config, ModelConfig, TrainingConfig
from shakespeare_tui.decoding.columns import Column, generate_columns
from shakespeare_tui.decoding.factory import make_decoder
from shakespeare_tui.decoding.score import attention_at, score_tokens
from shakespeare_tui.errors import UserError
from shakespeare_tui.models.numpy_gpt import GPT
from shakespeare_tui.models.transformer import Transformer
from shakespeare_tui.runs.commands import Stop
from shakespeare_tui.runs.events import StepCompleted
from shakespeare_tui.sampling import parse_strategy
from shakespeare_tui.training import numpy_state, torch_state
from shakespeare_tui.training.evaluate import evaluate
from shakespeare_tui.training.numpy_optimizers import orthogonalise
from shakespeare_tui.training.numpy_state import NumpyTrainState
from shakespeare_tui.training.optimizers import orthogonalise as orthogonalise_by_torch
from shakespeare_tui.training.request import TrainingRequest
from shakespeare_tui.training.schedules import learning_rate_factor
from shakespeare_tui.training.session import Hooks, open_session
from shakespeare_tui.training.torch_state import TorchTrainState

VOCAB = 11

OPTIMIZERS: dict[str, dict[str, Any]] = {
    "adamw": {"learning_rate": 3e-3, "weight_decay": 0.3},
    "adam-ema": {"optimizer": "adam", "ema_decay": 0.95},
    "sgd": {"optimizer": "sgd", "learning_rate": 0.1, "momentum": 0.9},
    "sgd-plain-no-clip": {"optimizer": "sgd", "learning_rate": 0.1, "momentum": 0, "grad_clip": 0},
    "muon": {"optimizer": "muon", "muon_learning_rate": 0.02, "weight_decay": 0.1},
    "normuon": {"optimizer": "muon", "muon_beta2": 0.9, "weight_decay": 0.1},
    "muon-ema-three-steps": {"optimizer": "muon", "muon_steps": 3, "ema_decay": 0.9},
}
SHAPES: dict[str, dict[str, Any]] = {
    "gpt2": {"positions": "learned", "bias": True},
    "llama": {
        "norm": "rmsnorm",
        "activation": "swiglu",
        "qk_norm": True,
        "n_kv_heads": 2,
        "tie_weights": False,
    },
}


def make_states(
    shape: dict[str, Any], training: dict[str, Any], *, has_coupled_decay: bool = False
) -> tuple[NumpyTrainState, TorchTrainState]:
    """Both backends with the same weights."""
    config = ModelConfig(d_model=16, n_heads=4, n_layers=2, max_seq_len=8, **shape)
    settings = TrainingConfig(**training)
    ours = GPT(config, VOCAB, np.random.default_rng(1))
    theirs = Transformer(config, VOCAB)
    for name, parameter in theirs.named_parameters():
        parameter.data = torch.from_numpy(ours.weights[name].copy())
    return (
        NumpyTrainState(
            ours, settings, np.random.default_rng(0), has_coupled_decay=has_coupled_decay
        ),
        TorchTrainState(
            theirs.train(),
            settings,
            torch.device("cpu"),
            has_coupled_decay=has_coupled_decay,
        ),
    )


def drawn_windows(steps: int, micro_batches: int = 2) -> list[list[NDArray[np.int64]]]:
    """Of a text with something to learn: each token tells of the next."""
    generator = np.random.default_rng(2)
    text = np.cumsum(generator.integers(1, 3, 4000)) % VOCAB
    starts = generator.integers(0, len(text) - 9, (steps, micro_batches, 4))
    return [[text[places[:, None] + np.arange(9)] for places in step] for step in starts]


def close_losses(
    ours: NumpyTrainState,
    theirs: TorchTrainState,
    steps: int,
    tolerance: float,
    scheduler: str = "cosine",
) -> None:
    training = TrainingConfig(warmup_steps=5, scheduler=scheduler)
    for step, windows in enumerate(drawn_windows(steps)):
        factor = learning_rate_factor(training, step, step / steps, 5 / steps)
        mine, other = ours.step(windows, factor), theirs.step(windows, factor)
        assert mine.applied and other.applied
        assert mine.loss == pytest.approx(other.loss, abs=tolerance), step
        assert mine.grad_norm == pytest.approx(other.grad_norm, rel=1e-2)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("shape", SHAPES)
def test_steps_are_those_of_pytorch(shape: str, optimizer: str) -> None:
    ours, theirs = make_states(SHAPES[shape], OPTIMIZERS[optimizer])
    close_losses(ours, theirs, 20, 2e-5)
    mine, other = ours.arrays(), theirs.arrays()
    assert mine.weights.keys() == other.weights.keys()
    for name, weight in other.weights.items():
        np.testing.assert_allclose(mine.weights[name], weight, atol=2e-4, err_msg=name)
    remembered = {key for key in other.rest if not key.startswith("rng.")}
    assert {key for key in mine.rest if not key.startswith("rng.")} == remembered
    assert mine.ema_updates == other.ema_updates
    assert all(mine.rest[key].shape == other.rest[key].shape for key in remembered)


def parameters_by_layer(weights: dict[str, Any], n_layers: int) -> dict[str, list[str]]:
    """Which parameters make up a layer, spelled out."""
    starts = {"embedding": ("embedding.", "positions.")}
    for block in range(n_layers):
        for part in ("attention", "feedforward"):
            name = f"blocks.{block}.{part}"
            starts[name] = (f"{name}.", f"{name}_norm.")
    starts["head"] = ("norm.", "head.")
    return {
        layer: [name for name in weights if name.startswith(beginnings)]
        for layer, beginnings in starts.items()
    }


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "muon-ema-three-steps"])
@pytest.mark.parametrize("shape", SHAPES)
def test_both_measure_layers_alike_and_as_autograd_does(shape: str, optimizer: str) -> None:
    # Norms are those before clipping: here everything is clipped.
    states = make_states(SHAPES[shape], OPTIMIZERS[optimizer] | {"grad_clip": 0.01})
    model = states[1].model
    for windows in drawn_windows(3):
        parameters = dict(model.named_parameters())
        batches = [torch.from_numpy(window) for window in windows]
        loss = sum(model.loss(batch[:, :-1], batch[:, 1:]) for batch in batches) / len(batches)
        found = torch.autograd.grad(loss, [*parameters.values()])
        gradients = dict(zip(parameters, found, strict=True))
        before = {name: parameter.detach().clone() for name, parameter in parameters.items()}
        mine, theirs = (state.step(windows, 0.5, measures_layers=True).layers for state in states)
        assert mine is not None and theirs is not None
        layers = parameters_by_layer(before, 2)
        assert mine.layers == theirs.layers == [*layers]

        def norms(tensors: dict[str, torch.Tensor], layers: dict[str, list[str]] = layers):
            return [
                torch.cat([tensors[name].flatten() for name in parts]).double().norm().item()
                for parts in layers.values()
            ]

        changes = {name: p.detach() - before[name] for name, p in parameters.items()}
        ratios = np.divide(norms(changes), norms(before))
        for measured in (mine, theirs):
            assert measured.grad_norms == pytest.approx(norms(gradients), rel=1e-4)
            assert measured.update_ratios == pytest.approx(ratios, rel=1e-3)
        assert mine.update_ratios == pytest.approx(theirs.update_ratios, rel=1e-3)
    assert not any(state.step(windows, 0.5).layers for state in states)


SCHEDULES = get_args(TrainingConfig.model_fields["scheduler"].annotation)


@pytest.mark.slow
@pytest.mark.parametrize("scheduler", SCHEDULES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_two_hundred_steps_are_those_of_pytorch(optimizer: str, scheduler: str) -> None:
    states = make_states(SHAPES["gpt2"], OPTIMIZERS[optimizer])
    close_losses(*states, 200, 1e-4, scheduler)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_coupled_decay_is_that_of_pytorch(optimizer: str) -> None:
    training = {"optimizer": optimizer, "weight_decay": 0.3, "learning_rate": 0.01}
    close_losses(*make_states(SHAPES["gpt2"], training, has_coupled_decay=True), 15, 2e-5)


@pytest.mark.parametrize("shape", [(2, 3, 8), (1, 8, 3), (3, 4, 4)])
def test_orthogonalising_is_that_of_pytorch(shape: tuple[int, ...]) -> None:
    matrices = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    expected = orthogonalise_by_torch(torch.from_numpy(matrices), 5).numpy()
    np.testing.assert_allclose(orthogonalise(matrices, 5), expected, atol=1e-4)


# --- runs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("first", "then"), [("numpy", "torch"), ("torch", "numpy")])
@pytest.mark.parametrize(
    "settings",
    [
        {"training__optimizer": "muon", "training__ema_decay": 0.9},
        {"model__dropout": 0.2},
    ],
    ids=["muon-ema", "dropout"],
)
def test_each_backend_goes_on_from_the_others_checkpoint_and_says_so(
    first: str, then: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    config = make_config(training__backend=first, **settings)
    whole = train(tmp_path, config, name="whole")
    train(tmp_path, config, on_event=post_at(16, Stop()))
    notices: list[str] = []
    request = TrainingRequest(root=tmp_path, resume="run", overrides=(f"training.backend={then}",))
    with open_session(request, Hooks(notice=notices.append)) as session:
        assert session.progress.step == 16
        assert session.backend.arithmetic().backend == then
    (notice,) = notices
    assert f"the backend is {then}, was {first}" in notice and "up to rounding" in notice
    resumed = resume(tmp_path, overrides=[f"training.backend={then}"])
    assert resumed.finished.reason == "completed"
    ours = [line[2] for line in what_was_learned(resumed.run) if line[0] == "StepCompleted"]
    theirs = [event.loss for event in whole.of(StepCompleted)]
    assert ours[:16] == theirs[:16]
    tolerance = 0.3 if "model__dropout" in settings else 1e-3
    assert ours[16:] == pytest.approx(theirs[16:], abs=tolerance)
    # And back again, from what the second has saved.
    longer = [f"training.backend={first}", "training.max_steps=28"]
    assert resume(tmp_path, overrides=longer).finished.step == 28


@pytest.mark.parametrize("backend", ["torch", "numpy"])
def test_both_libraries_measure_write_and_score_alike(backend: str, tmp_path: Path) -> None:
    shape = {"model__qk_norm": "true", "model__n_kv_heads": 1, "data__seq_len": 12}
    trained = train(tmp_path, make_config(training__backend=backend, **shape))
    checkpoint = trained.run.checkpoint(24)
    ours, tokenizer = numpy_state.load_model(checkpoint)
    theirs, _ = torch_state.load_model(checkpoint, torch.device("cpu"))
    assert ours.context == theirs.context == 12
    val = np.asarray(trained.session.val)
    mine, other = evaluate(ours, val), evaluate(theirs, val)
    assert mine.loss == pytest.approx(other.loss, rel=1e-5)
    assert mine.accuracy == pytest.approx(other.accuracy, abs=1e-3)
    text = tokenizer.encode("The king is here, and all the lords.")
    ours_scored, theirs_scored = score_tokens(ours, text), score_tokens(theirs, text)
    for kind in ("nats", "entropy"):
        found, expected = getattr(ours_scored, kind)[1:], getattr(theirs_scored, kind)[1:]
        np.testing.assert_allclose(found, expected, atol=1e-4)
    for position in (1, 5, 12, 20, len(text)):
        expected = theirs_scored.logits_at(position)
        np.testing.assert_allclose(ours_scored.logits_at(position), expected, atol=1e-4)
        looked = attention_at(ours, text, position)
        np.testing.assert_allclose(looked, attention_at(theirs, text, position), atol=1e-5)
        np.testing.assert_allclose(looked.sum(-1), 1, atol=1e-5)
    column = Column(strategy=parse_strategy("temperature=0.7"), seed=3)
    written = [
        [row[0] for row in generate_columns(make_decoder(model, 1), [1], [column], max_tokens=30)]
        for model in (ours, theirs)
    ]
    assert written[0] == written[1]


def test_a_run_that_was_trained_in_bfloat16_goes_on_in_float32(tmp_path: Path) -> None:
    config = make_config(training__precision="bfloat16", training__backend="torch")
    train(tmp_path, config, on_event=post_at(8, Stop()))
    changes = ["training.backend=numpy", "training.precision=auto"]
    resumed = resume(tmp_path, overrides=changes)
    assert resumed.session.progress.precision == "float32"
    assert resumed.finished.reason == "completed"


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("training.device=cuda", "training.device cuda needs backend torch"),
        ("training.precision=bfloat16", "training.precision bfloat16 needs backend torch"),
        ("training.lora_rank=4", "training.lora_rank needs backend torch"),
        ("training.grad_checkpointing=true", "training.grad_checkpointing needs backend torch"),
        ("training.train_blocks=1", "training.train_blocks needs backend torch"),
    ],
)
def test_what_numpy_cannot_do_is_refused_with_the_config(setting: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        load_config("tiny", ["training.backend=numpy", setting])


def test_a_state_of_another_optimizer_or_generator_is_refused(tmp_path: Path) -> None:
    config: Config = make_config(training__backend="numpy", training__max_steps=8)
    trained = train(tmp_path, config)
    state, checkpoint = trained.session.state, trained.run.checkpoint(8)
    arrays = state.arrays()
    arrays.rest["rng.numpy"] = np.zeros(3, np.uint64)
    with pytest.raises(UserError, match="has no usable random state"):
        state.load(arrays, checkpoint, lambda: False)
    del arrays.rest["rng.numpy"]
    with pytest.raises(UserError, match="has no usable random state"):
        state.load(arrays, checkpoint, lambda: False)
    arrays.rest["optimizer.0.norm.weight.exp_avg"] = np.zeros(3, np.float32)
    with pytest.raises(UserError, match="does not fit the model"):
        state.load(arrays, checkpoint, lambda: False)
