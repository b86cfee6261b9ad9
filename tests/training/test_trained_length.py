"""A model that was trained on windows shorter than it can read is used at their length everywhere.

The oracle is a model of that length with the same weights: it has no later positions at all.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from training_runs import Trained, make_config, train

from shakespeare_tui.decoding.columns import Column, generate_columns
from shakespeare_tui.decoding.factory import make_decoder
from shakespeare_tui.decoding.score import attention_at, logits_at, score_tokens
from shakespeare_tui.decoding.torch_decoder import TorchDecoder
from shakespeare_tui.models.transformer import Transformer
from shakespeare_tui.runs.events import EvalCompleted, SampleGenerated
from shakespeare_tui.sampling import parse_strategy
from shakespeare_tui.training.evaluate import evaluate, evaluate_nanogpt
from shakespeare_tui.training.torch_state import load_model

CPU = torch.device("cpu")
TRAINED, LONGEST = 8, 32


def shorter(model: Transformer) -> Transformer:
    """The same weights in a model that ends where training ended."""
    config = model.config.model_copy(update={"max_seq_len": TRAINED})
    copy = Transformer(config, model.vocab_size)
    weights = {name: tensor.clone() for name, tensor in model.named_parameters()}
    if "positions.weight" in weights:
        weights["positions.weight"] = weights["positions.weight"][:TRAINED]
    copy.load_state_dict(weights | {"head.weight": weights["embedding.weight"]})
    return copy.eval()


@pytest.fixture(scope="module", params=["learned", "rope", "sinusoidal"])
def trained_short(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Trained:
    config = make_config(
        model__positions=request.param,
        model__max_seq_len=LONGEST,
        data__seq_len=TRAINED,
        training__max_steps=8,
    )
    folder: Path = tmp_path_factory.mktemp("short")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHAKESPEARE_TUI_CACHE", str(folder / "cache"))
        return train(folder / "runs", config)


def write(model: Transformer, **options: Any) -> list[list[int]]:
    column = Column(strategy=parse_strategy("temperature=0.9"), seed=3)
    return list(
        generate_columns(make_decoder(model, 1, **options), [1, 2], [column], max_tokens=60)
    )


def test_what_a_checkpoint_says_ends_where_training_ended(trained_short: Trained) -> None:
    model, _ = load_model(trained_short.run.checkpoint(8), CPU)
    oracle = shorter(model)
    tokens = np.asarray(trained_short.session.val[:200]).astype(np.int64)
    assert evaluate(model, tokens) == evaluate(oracle, tokens)
    assert evaluate(model, tokens, windows=3) == evaluate(oracle, tokens, windows=3)
    drawn = [evaluate_nanogpt(m, tokens, batches=3, batch_size=4, seed=1) for m in (model, oracle)]
    assert drawn[0] == drawn[1]
    np.testing.assert_array_equal(
        score_tokens(model, tokens).nats, score_tokens(oracle, tokens).nats
    )
    for position in (5, 60):
        for read in (logits_at, attention_at):
            np.testing.assert_array_equal(
                read(model, tokens, position), read(oracle, tokens, position)
            )
    for options in ({}, {"use_cache": False}, {"precision": "bfloat16"}):
        assert write(model, **options) == write(oracle, **options)
    assert {make_decoder(model, 1).context, TorchDecoder(model, 1).context} == {TRAINED}


def test_a_run_in_training_is_measured_and_sampled_there(trained_short: Trained) -> None:
    model, tokenizer = load_model(trained_short.run.checkpoint(8), CPU)
    oracle = shorter(model)
    final = trained_short.of(EvalCompleted)[-1]
    assert final.val_loss == pytest.approx(evaluate(oracle, trained_short.session.val).loss)
    sample = trained_short.of(SampleGenerated)[-1]
    sampling = trained_short.session.config.sampling
    column = Column(
        strategy=parse_strategy(f"temperature={sampling.temperature}"), seed=sampling.seed
    )
    prompt = tokenizer.encode(sample.prompt).tolist()
    decoder = make_decoder(oracle, 1)
    rows = generate_columns(decoder, prompt, [column], max_tokens=sampling.max_tokens)
    assert sample.text == tokenizer.decode(row[0] for row in rows)


def test_more_than_was_trained_is_refused(trained_short: Trained) -> None:
    model, _ = load_model(trained_short.run.checkpoint(8), CPU)
    with pytest.raises(ValueError, match="9 tokens are more than the context of 8"):
        model(torch.zeros(1, 9, dtype=torch.int64))
