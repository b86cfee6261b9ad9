"""The figures of a run before it is trained: size, data, speed and time."""

from collections.abc import Mapping
from dataclasses import dataclass

from shakespeare_tui.config.estimate.corpus import CorpusFigures
from shakespeare_tui.config.estimate.memory import MemoryEstimate, estimate_memory
from shakespeare_tui.config.estimate.training_speed import MOST_OF_BUDGET, evaluation_seconds
from shakespeare_tui.config.schema import Config
from shakespeare_tui.models.parameters import parameter_counts

EVALUATION_SHARE = 0.05
"""Time of evaluations as a share of the training between them; the trainer keeps them below it."""


@dataclass(frozen=True, kw_only=True)
class Preflight:
    """What a run will be; None where it is not known.

    Attributes:
        parameters: Trainable parameters by component.
        memory: Bytes in training.
        tokens_per_step: Tokens that one optimiser step learns from.
        steps: Optimiser steps; with a time budget only known with the speed.
        tokens: Tokens seen in all, with repetitions.
        epochs: How often the training text is seen.
        tokens_per_second: Training speed.
        seconds: The whole run, evaluations included, the exact one at the end, too.
        is_budget: The time is given, and what can be done in it follows.
        problem: Why training could not begin; empty where nothing is in the way.
    """

    parameters: Mapping[str, int]
    memory: MemoryEstimate
    tokens_per_step: int
    steps: float | None
    tokens: float | None
    epochs: float | None
    tokens_per_second: float | None
    seconds: float | None
    is_budget: bool = False
    problem: str = ""

    @property
    def parameter_count(self) -> int:
        """All trainable parameters."""
        return sum(self.parameters.values())

    @property
    def tokens_per_parameter(self) -> float | None:
        """Tokens seen for each parameter; large models are balanced at about 20 (2203.15556)."""
        return None if self.tokens is None else self.tokens / self.parameter_count


def preflight(
    config: Config,
    corpus: CorpusFigures,
    *,
    tokens_per_second: float | None = None,
    is_half: bool = False,
    is_fused: bool = False,
) -> Preflight:
    """Work the figures out, by arithmetic alone.

    Args:
        config: What would be trained.
        corpus: Size and vocabulary.
        tokens_per_second: Training speed on this machine, where it is known.
        is_half: As for ``estimate_memory``.
        is_fused: As for ``estimate_memory``.
    """
    training = config.training
    tokens_per_step = training.batch_size * training.grad_accumulation * config.seq_len
    seconds = steps = None
    val_tokens = config.data.val_fraction * (corpus.characters or 0)
    exact = evaluation_seconds(val_tokens, tokens_per_second or 0.0, is_rounded=is_half)
    if training.minutes is None:
        steps = float(training.max_steps)
        if tokens_per_second:
            seconds = steps * tokens_per_step / tokens_per_second * (1 + EVALUATION_SHARE) + exact
    else:
        seconds = training.minutes * 60
        if tokens_per_second:
            # Where the exact evaluation does not fit, it is left to eval.
            left = seconds - exact if exact <= MOST_OF_BUDGET * seconds else seconds
            steps = left / (1 + EVALUATION_SHARE) * tokens_per_second / tokens_per_step
    tokens = None if steps is None else steps * tokens_per_step
    training_text = int((1 - config.data.val_fraction) * (corpus.characters or 0))
    return Preflight(
        parameters=parameter_counts(config.model, corpus.vocab_size),
        memory=estimate_memory(config, corpus.vocab_size, is_half=is_half, is_fused=is_fused),
        tokens_per_step=tokens_per_step,
        steps=steps,
        tokens=tokens,
        epochs=tokens / training_text if tokens is not None and training_text else None,
        tokens_per_second=tokens_per_second,
        seconds=seconds,
        is_budget=training.minutes is not None,
        problem=corpus.problem(config.data.val_fraction, config.seq_len),
    )
