"""Pictures of the Config screen: a preset as it is, edits with mistakes, a difference, ASCII."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
from config_harness import place
from lab_harness import MakeApp, press, until
from pictures import TOKEN_LOOKS, Pictured, Prepare
from textual.pilot import Pilot

from shakespeare_tui.config.draft import Origin
from shakespeare_tui.config.load import parse_config
from shakespeare_tui.machine import Memory


@pytest.fixture(autouse=True)
def same_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No corpus in the working folder."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def make_config_app(make_app: MakeApp) -> MakeApp:
    """Makes an app on a machine of known size, on the Config screen."""
    memory = Memory(16_000_000_000, 9_000_000_000)
    return partial(make_app, "config", usable_cores=lambda: 2, memory=lambda: memory)


async def settle(pilot: Pilot[Any]) -> None:
    """Wait for what the card asks in threads."""
    card = place(pilot.app).card  # type: ignore[arg-type]
    await until(lambda: card.is_settled)
    await pilot.pause()


# Like the presets of these names, but of values that no retuning changes.
QUICK = """
model: {d_model: 128, n_layers: 4, n_heads: 4, tie_weights: false, activation: relu2,
  norm: rmsnorm, qk_norm: true}
training: {minutes: 100s, batch_size: 16, optimizer: muon, muon_steps: 3, learning_rate: 0.005,
  min_lr: 0, scheduler: wsd, warmup_steps: 20}
"""
SHAKESPEARE = """
model: {d_model: 384, n_layers: 6, n_heads: 6, d_ff: 1536, max_seq_len: 256, dropout: 0.2}
training: {batch_size: 64, max_steps: 5000, min_lr: 0.0001}
sampling: {prompts: ["ROMEO:", "JULIET:", "HAMLET:"], max_tokens: 300}
"""


def before(name: str, yaml: str, edits: dict[str, str] | None = None, *keys: str) -> Prepare:
    """Begin with a config of known speed, edit it, and press keys."""

    async def prepare(pilot: Pilot[Any]) -> None:
        await settle(pilot)
        here = place(pilot.app)  # type: ignore[arg-type]
        config = parse_config(yaml, name)
        here.draft.load(Origin("preset", name, config, name))
        here.screen.show_draft()
        here.card.take_speed(config, 4780.0, "cpu (2 threads)")
        await pilot.pause()
        here.draft.set_texts(edits or {})
        here.screen.show_draft()
        await press(pilot, *keys)
        await settle(pilot)

    return prepare


MISTAKES = {
    "model.d_model": "130",
    "model.n_layers": "6",
    "training.learning_rate": "fast",
    "data.seq_len": "500",
}
CHANGES = {
    "model.n_layers": "8",
    "model.dropout": "0",
    "training.minutes": "30",
    "sampling.prompts": '["[bold]x[/]"]',
}


async def test_preset_as_it_is(pictured: Pictured, make_config_app: MakeApp) -> None:
    await pictured(make_config_app(), before("shakespeare", SHAKESPEARE))


async def test_edited_with_mistakes(pictured: Pictured, make_config_app: MakeApp) -> None:
    await pictured(make_config_app(), before("quick", QUICK, MISTAKES))


async def test_difference_from_the_preset(pictured: Pictured, make_config_app: MakeApp) -> None:
    await pictured(make_config_app(), before("shakespeare", SHAKESPEARE, CHANGES, "d"))


async def test_ascii_while_editing(pictured: Pictured, make_config_app: MakeApp) -> None:
    keys = ("down", "enter", "3")
    await pictured(make_config_app(ascii=True), before("quick", QUICK, CHANGES, *keys))


PAIRS = """
model: {d_model: 128, n_layers: 4, n_heads: 4}
data: {corpus: sample, tokenizer: bpe, vocab_size: 300}
training: {batch_size: 16, max_steps: 1000}
"""


async def test_byte_pairs(pictured: Pictured, make_config_app: MakeApp) -> None:
    await pictured(make_config_app(), before("pairs", PAIRS), TOKEN_LOOKS)


# Fewer heads of keys than of queries, one matrix for both ends, and low-rank products beside some.
TUNED = """
model: {d_model: 384, n_layers: 6, n_heads: 6, n_kv_heads: 2, max_seq_len: 256, activation: swiglu}
training: {lora_rank: 8, batch_size: 8, max_steps: 5000}
"""


async def test_parameters_and_sizes(pictured: Pictured, make_config_app: MakeApp) -> None:
    await pictured(make_config_app(), before("tuned", TUNED, None, "z"))
