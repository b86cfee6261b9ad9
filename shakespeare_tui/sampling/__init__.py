"""Sampling: strategies as one line of text, and what they make of a model's logits.

A strategy is steps in the order in which they are applied, ``min_p=0.1 temperature=1.2``. A kind of
step is one frozen dataclass under ``register`` in one of the modules of ``steps``; its declaration
is all that parsing, help and screens need.
"""

from shakespeare_tui.sampling import steps
from shakespeare_tui.sampling.context import SamplingContext, StepState
from shakespeare_tui.sampling.parse import (
    CLASSIC,
    parse_strategies,
    parse_strategy,
    strategy_from_flags,
)
from shakespeare_tui.sampling.registry import (
    STEP_KINDS,
    Method,
    Parameter,
    Step,
    StepKind,
    register,
)
from shakespeare_tui.sampling.sampler import Draw, Recording, Sampler, TraceStage, trace
from shakespeare_tui.sampling.strategy import Strategy

__all__ = [
    "CLASSIC",
    "STEP_KINDS",
    "Draw",
    "Method",
    "Parameter",
    "Recording",
    "Sampler",
    "SamplingContext",
    "Step",
    "StepKind",
    "StepState",
    "Strategy",
    "TraceStage",
    "parse_strategies",
    "parse_strategy",
    "register",
    "steps",
    "strategy_from_flags",
    "trace",
]
