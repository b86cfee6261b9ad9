"""Fine-tuning that learns less than all: low-rank products, and the last blocks alone."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from shakespeare_tui.config.estimate.figures import estimate_memory
from shakespeare_tui.config.load import parse_config
from shakespeare_tui.config.problems import ConfigError
from shakespeare_tui.config.schema import Config
from shakespeare_tui.models.parameters import parameter_report
from shakespeare_tui.models.transformer import Transformer
from shakespeare_tui.training.torch_state import TorchTrainState, published_parameters

VOCAB = 11
PARTS = ("attention", "feedforward")
WINDOW = np.random.default_rng(1).integers(0, VOCAB, (4, 9))


def make_state(config: Config) -> TorchTrainState:
    model = Transformer(config.model, VOCAB, torch.Generator().manual_seed(2)).train()
    return TorchTrainState(model, config.training, torch.device("cpu"))


def config_with(*overrides: str) -> Config:
    shape = ["model.d_model=16", "model.n_layers=3", "model.n_heads=4", "model.max_seq_len=8"]
    return parse_config("", "-", [*shape, "model.n_kv_heads=2", *overrides])


def weights(state: TorchTrainState) -> dict[str, Any]:
    return {name: array.copy() for name, array in state.arrays().whole.items()}


@pytest.mark.parametrize("matrices", ["attention", "feedforward", "all"])
def test_products_change_their_matrices_and_nothing_else(matrices: str) -> None:
    state = make_state(config_with("training.lora_rank=3", f"training.lora_matrices={matrices}"))
    before = weights(state)
    for _ in range(3):
        state.step([WINDOW], 1.0)
    for name, array in weights(state).items():
        part = "attention" if ".attention." in name else "feedforward"
        is_learned = ".blocks." in f".{name}" and array.ndim == 2 and matrices in (part, "all")
        change = array - before[name]
        assert change.any() == is_learned, name
        if is_learned:
            assert np.linalg.matrix_rank(change, tol=1e-5) <= 3


def test_merged_they_compute_what_they_did_beside_the_matrices() -> None:
    state = make_state(config_with("training.lora_rank=2"))
    for _ in range(5):
        state.step([WINDOW], 1.0)
    tokens = torch.from_numpy(WINDOW)[:, :-1]
    with torch.no_grad():
        beside = state.model(tokens)
        with state.averaged() as model:
            merged = model(tokens)
        plain = Transformer(state.model.config, VOCAB).eval()
        whole = state.arrays().whole
        for name, parameter in plain.named_parameters():
            parameter.copy_(torch.from_numpy(whole[name]))
        torch.testing.assert_close(merged, beside, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(plain(tokens), beside, rtol=1e-5, atol=1e-6)
        assert torch.equal(state.model(tokens), beside)


def test_only_the_last_blocks_learn() -> None:
    state = make_state(config_with("training.train_blocks=2", "training.optimizer=muon"))
    before = weights(state)
    state.step([WINDOW], 1.0)
    changed = {name for name, array in weights(state).items() if (array != before[name]).any()}
    assert changed == {n for n in before if n.startswith(("blocks.1.", "blocks.2.", "norm."))}


@pytest.mark.parametrize(
    "override",
    [
        "training.lora_rank=4",
        "training.train_blocks=1",
        "training.train_blocks=2",
        "training.optimizer=muon",
        "model.attention_bias=qkv",
    ],
)
def test_what_learns_is_counted(override: str) -> None:
    config = config_with("model.bias=true", "model.activation=swiglu", override)
    state = make_state(config)
    state.step([WINDOW], 1.0)
    learning = [p for p in state.model.parameters() if p.requires_grad]
    count = sum(parameter.numel() for parameter in learning)
    assert parameter_report(config.model, VOCAB, config.training).trained == count
    held = sum(
        value.nbytes
        for optimizer in state.optimizers
        for slots in optimizer.state.values()
        for value in slots.values()
        if isinstance(value, torch.Tensor) and value.dim() > 0
    )
    estimate = estimate_memory(config, VOCAB)
    assert (estimate.gradients, estimate.optimizer) == (4 * count, held)


def test_what_is_frozen_is_not_measured() -> None:
    last = ["blocks.2.attention", "blocks.2.feedforward"]
    for override, layers in (
        ("training.lora_rank=2", [f"blocks.{n}.{part}" for n in range(3) for part in PARTS]),
        ("training.lora_matrices=feedforward", [f"blocks.{n}.feedforward" for n in range(3)]),
        ("training.train_blocks=1", [*last, "head"]),
    ):
        rank = [] if "train_blocks" in override else ["training.lora_rank=2"]
        measured = make_state(config_with(*rank, override)).step(
            [WINDOW], 1.0, measures_layers=True
        )
        assert measured.layers is not None and measured.layers.layers == layers
        # The products begin as zero, through which nothing is taught to their first factors.
        assert all(norm is not None and norm > 0 for norm in measured.layers.grad_norms)


@pytest.mark.parametrize("override", ["training.lora_rank=2", "training.train_blocks=1"])
def test_a_restored_state_goes_on_with_the_same_losses(override: str) -> None:
    config = config_with(override, "model.dropout=0.2")
    state = make_state(config)
    torch.manual_seed(3)
    for _ in range(3):
        state.step([WINDOW], 1.0)
    arrays = state.arrays()
    kept = type(arrays)(
        weights={name: array.copy() for name, array in arrays.weights.items()},
        rest={name: array.copy() for name, array in arrays.rest.items()},
        frozen={name: array.copy() for name, array in arrays.frozen.items()},
        lora_scale=arrays.lora_scale,
    )
    expected = [state.step([WINDOW], 1.0).loss for _ in range(3)]
    again = make_state(config)
    checkpoint: Any = type("At", (), {"state_path": Path("s"), "weights_path": Path("w")})
    again.load(kept, checkpoint)
    assert [again.step([WINDOW], 1.0).loss for _ in range(3)] == expected
    assert {name for name, _ in published_parameters(again.model)} == set(kept.whole)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["training.lora_rank=2", "training.train_blocks=1"], "two ways"),
        (["training.lora_rank=2", "training.optimizer=muon"], "take optimizer adamw"),
        (["training.lora_rank=2", "training.ema_decay=0.9"], "averaged weights"),
    ],
)
def test_what_does_not_go_together_is_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config_with(*overrides)
