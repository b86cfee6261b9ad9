"""Runs of format 1 keep computing as they were trained, wherever they are used.

Format 1 did not scale token embeddings under sinusoidal positions, and let the weight decay of adam
and sgd go through their moments.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from training_runs import Trained, make_config, resume, train, what_was_learned

from shakespeare_tui.decoding.factory import make_decoder
from shakespeare_tui.decoding.score import score_tokens
from shakespeare_tui.decoding.torch_decoder import TorchDecoder
from shakespeare_tui.models.transformer import Transformer
from shakespeare_tui.runs.commands import CommandInbox, Stop
from shakespeare_tui.runs.events import Event, StepCompleted
from shakespeare_tui.runs.folder import RunFolder
from shakespeare_tui.training.optimizers import make_optimizers
from shakespeare_tui.training.request import TrainingRequest
from shakespeare_tui.training.session import Session, open_session
from shakespeare_tui.training.torch_state import load_model

CPU = torch.device("cpu")


def make_format_1(session: Session) -> None:
    """Turn a new session into what the program of format 1 would have opened."""
    path = session.run.path / "run.json"
    record = json.loads(path.read_text())
    del record["embedding_scale"]
    path.write_text(json.dumps(record | {"format": 1}))
    session.fingerprint = replace(session.fingerprint, format=1, embedding_scale=1.0)
    state = session.state
    state.model.embedding_scale = 1.0
    state.optimizers = make_optimizers(state.model, session.config.training, has_coupled_decay=True)


def stop_at_12(event: Event, inbox: CommandInbox) -> None:
    if isinstance(event, StepCompleted) and event.step == 12:
        inbox.post(Stop())


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_resumed_equals_uninterrupted(optimizer: str, tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "model__positions": "sinusoidal",
        "training__optimizer": optimizer,
        "training__weight_decay": 0.5,
    }
    config = make_config(**settings)
    whole = train(tmp_path / "a", config, prepare=make_format_1)
    stopped = train(tmp_path / "b", config, prepare=make_format_1, on_event=stop_at_12)
    assert stopped.finished.step == 12
    resume(tmp_path / "b")
    assert what_was_learned(stopped.run) == what_was_learned(whole.run)
    # The definition of today is another one: nothing here is equal by chance.
    today = train(tmp_path / "c", config)
    assert what_was_learned(today.run) != what_was_learned(whole.run)


@pytest.fixture
def old(tmp_path: Path) -> Trained:
    config = make_config(model__positions="sinusoidal", training__max_steps=8)
    return train(tmp_path / "runs", config, prepare=make_format_1)


def plain_logits(run: RunFolder, tokens: Tensor) -> Tensor:
    """Logits by the definition of format 1: tokens' vectors and sines, added as they are."""
    model, _ = load_model(run.checkpoint(8), CPU)
    x = model.embedding.weight[tokens] + model.get_buffer("position_table")[: tokens.size(1)]
    for block in model.blocks:
        x = block(x, None, None)
    return model.norm(x) @ model.embedding.weight.T


@torch.no_grad()
def test_every_reader_of_a_checkpoint_computes_as_it_was_trained(old: Trained) -> None:
    model, tokenizer = load_model(old.run.checkpoint(8), CPU)
    tokens = torch.tensor([tokenizer.encode("What is it").tolist()])
    expected = plain_logits(old.run, tokens)
    close = dict(rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model(tokens), expected, **close)
    ids = tokens.numpy()
    for decoder in (make_decoder(model, 1), TorchDecoder(model, 1)):
        np.testing.assert_allclose(decoder.read_all(ids), expected.numpy(), **close)
    surprise = score_tokens(model, ids[0])
    nats = -expected[0].log_softmax(-1)[torch.arange(len(ids[0]) - 1), tokens[0, 1:]]
    np.testing.assert_allclose(surprise.nats[1:], nats.numpy(), **close)


def test_a_run_that_starts_from_its_weights_computes_alike(old: Trained, tmp_path: Path) -> None:
    root = old.run.path.parent
    with open_session(
        TrainingRequest(config=old.run.config(), root=root, name="tuned", start_from="run@8")
    ) as session:
        tokens = torch.tensor([session.tokenizer.encode("What is it").tolist()])
        torch.testing.assert_close(
            session.state.model(tokens), plain_logits(old.run, tokens), rtol=1e-4, atol=1e-5
        )
        assert session.run.info().format > 1


def test_new_runs_scale_tied_embeddings_where_they_are_read_only() -> None:
    config = make_config(model__positions="sinusoidal").model
    model = Transformer(config, 11, torch.Generator().manual_seed(1))
    tokens = torch.tensor([[3, 1, 4]])
    embedding = model.embedding.weight
    # arXiv:1706.03762, section 3.4; d_model is 16.
    x = 4 * embedding[tokens] + model.get_buffer("position_table")[:3]
    for block in model.blocks:
        x = block(x, None, None)
    expected = model.norm(x) @ embedding.T
    torch.testing.assert_close(model(tokens), expected)
