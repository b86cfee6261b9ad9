"""Losses over large vocabularies, and activations computed twice: equal numbers, less memory."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from shakespeare_tui.config.schema import ModelConfig
from shakespeare_tui.models.parameters import MOST_LOGITS
from shakespeare_tui.models.transformer import Transformer

VOCAB = 40_000
TOKENS = torch.randint(VOCAB, (9, 65), generator=torch.Generator().manual_seed(1))


def make_model(**changes: Any) -> Transformer:
    shape = {"d_model": 32, "n_heads": 2, "n_layers": 3, "max_seq_len": 64} | changes
    return Transformer(ModelConfig(**shape), VOCAB, torch.Generator().manual_seed(0)).train()


def gradients(model: Transformer, loss: torch.Tensor) -> list[torch.Tensor]:
    for parameter in model.parameters():
        parameter.grad = None
    (loss * 0.5).backward()  # type: ignore[no-untyped-call]
    return [
        parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None
    ]


@pytest.mark.parametrize("tie_weights", [True, False])
def test_loss_and_gradients_are_those_of_all_logits_together(tie_weights: bool) -> None:
    model = make_model(tie_weights=tie_weights)
    inputs, targets = TOKENS[:, :-1], TOKENS[:, 1:]
    assert inputs.numel() * VOCAB > MOST_LOGITS
    loss = model.loss(inputs, targets)
    whole = F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())
    torch.testing.assert_close(loss, whole)
    for found, expected in zip(gradients(model, loss), gradients(model, whole), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-8)


def test_the_logits_are_never_there_together() -> None:
    model = make_model()
    activity = torch.profiler.ProfilerActivity.CPU
    with torch.profiler.profile(activities=[activity], profile_memory=True) as profile:
        model.loss(TOKENS[:, :-1], TOKENS[:, 1:]).backward()  # type: ignore[no-untyped-call]
    current = most = 0
    events = profile.profiler.kineto_results.events()
    for event in sorted(events, key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            current += event.nbytes()
            most = max(most, current)
    assert most < 3 * 4 * MOST_LOGITS


def test_a_frozen_output_layer_gets_no_gradient() -> None:
    model = make_model(tie_weights=False)
    model.head.weight.requires_grad_(False)
    found = gradients(model, model.loss(TOKENS[:, :-1], TOKENS[:, 1:]))
    assert model.head.weight.grad is None and len(found) == len(list(model.parameters())) - 1


def test_sums_of_losses_are_those_of_all_logits_together() -> None:
    model = make_model().eval()
    found, correct = model.sum_losses([np.asarray(TOKENS)])
    with torch.no_grad():
        logits = model(TOKENS[:, :-1]).flatten(0, 1)
    targets = TOKENS[:, 1:].flatten()
    assert found == pytest.approx(float(F.cross_entropy(logits, targets, reduction="sum")))
    assert correct == int((logits.argmax(-1) == targets).sum())


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_activations_computed_twice_give_the_same_gradients(dropout: float) -> None:
    found = []
    for recomputes in (False, True):
        model = make_model(dropout=dropout, positions="rope", qk_norm=True, norm="rmsnorm")
        model.recomputes = recomputes
        torch.manual_seed(5)
        found.append(gradients(model, model.loss(TOKENS[:2, :-1], TOKENS[:2, 1:])))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-9)
