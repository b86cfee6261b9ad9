"""Sampling: strategies as one line of text, and what they make of a model's logits.

A strategy is steps in the order in which they are applied, ``min_p=0.1 temperature=1.2``. A kind of
step is one frozen dataclass under ``register`` in one of the modules imported here; its declaration
is all that parsing, help and screens need.
"""

from shakespeare_tui.core.sampling import (  # noqa: F401  (each registers its steps)
    exclusion,
    methods,
    mirostat,
    penalties,
    repeats,
    temperatures,
    truncation,
    typicality,
)
from shakespeare_tui.core.sampling.kinds import (
    STEP_KINDS,
    Method,
    Parameter,
    Step,
    StepKind,
    register,
)
from shakespeare_tui.core.sampling.parsing import (
    CLASSIC,
    parse_strategies,
    parse_strategy,
    strategy_from_flags,
)
from shakespeare_tui.core.sampling.recording import Draw, Recording
from shakespeare_tui.core.sampling.sampler import Sampler
from shakespeare_tui.core.sampling.situation import Situation, StepState
from shakespeare_tui.core.sampling.strategy import Strategy
from shakespeare_tui.core.sampling.tracing import TraceStage, trace

__all__ = [
    "CLASSIC",
    "STEP_KINDS",
    "Draw",
    "Method",
    "Parameter",
    "Recording",
    "Sampler",
    "Situation",
    "Step",
    "StepKind",
    "StepState",
    "Strategy",
    "TraceStage",
    "parse_strategies",
    "parse_strategy",
    "register",
    "strategy_from_flags",
    "trace",
]
