"""A change that should not change training does not: the first losses of fixed configs.

Where a change is meant to alter them, write them anew:
``python tests/training/test_golden.py`` (and say why in the commit).
"""

import json
from pathlib import Path

import pytest
from training_runs import (
    BACKENDS,
    make_config,
    train,
)

from shakespeare_tui.config.schema import Config
from shakespeare_tui.runs.events import StepCompleted

GOLDEN = Path(__file__).with_name("golden_losses.json")
STEPS = 20


def golden_configs() -> dict[str, Config]:
    shape = {
        "model__d_model": 32,
        "model__n_heads": 4,
        "model__n_layers": 2,
        "model__d_ff": 64,
        "model__max_seq_len": 32,
        "training__max_steps": STEPS,
        "training__eval_every": 1000,
        "sampling__every": 0,
        "sampling__max_tokens": 1,
    }
    configs = {
        "adamw": dict(
            **shape,
            model__positions="learned",
            model__bias="true",
            training__scheduler="cosine",
        ),
        "muon": dict(
            **shape,
            model__norm="rmsnorm",
            model__activation="relu2",
            model__qk_norm="true",
            model__tie_weights="false",
            training__optimizer="muon",
            training__muon_steps=3,
            training__scheduler="wsd",
        ),
    }
    prefixes = {"torch": "", "numpy": "numpy-"}
    return {
        f"{prefixes[backend]}{name}": make_config(**settings, training__backend=backend)
        for backend in BACKENDS
        for name, settings in configs.items()
    }


def measure(root: Path, name: str) -> list[float]:
    trained = train(root, golden_configs()[name], name=name)
    return [event.loss for event in trained.of(StepCompleted)]


@pytest.mark.parametrize("name", ["adamw", "muon", "numpy-adamw", "numpy-muon"])
def test_losses_are_those_of_before(name: str, tmp_path: Path) -> None:
    expected = json.loads(GOLDEN.read_text())[name]
    assert len(expected) == STEPS
    # Processors round differently; a change of the method shows far above this.
    assert measure(tmp_path, name) == pytest.approx(expected, abs=1e-4)


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        losses = {name: measure(Path(folder), name) for name in golden_configs()}
    GOLDEN.write_text(json.dumps(losses, indent=1) + "\n")
