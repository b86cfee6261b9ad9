"""Check gradients written by hand, function by function and weight by weight, in float64.

Finite differences ask the loss itself: move one number by ±h, and see how far it goes. PyTorch's
autograd, where it is installed, knows the model that is meant: a copy with right gradients of some
other function differs from it alone.
"""

import importlib.util
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shakespeare_tui.config.schema import ModelConfig
from shakespeare_tui.errors import UserError
from shakespeare_tui.machine import has_torch
from shakespeare_tui.models import numpy_gpt

Array = NDArray[np.float64]
VOCAB_SIZE = 11
# Where rounding and the third derivative cost about as much: the cube root of float64's precision.
_STEP = 6e-6
FINITE_TOLERANCE = 1e-6
"""Largest relative error that finite differences leave to a right gradient."""
TORCH_TOLERANCE = 1e-9
"""As of PyTorch's gradient, which is exact but for rounding."""


@dataclass(frozen=True)
class FunctionCheck:
    """The gradient of one function with respect to one argument.

    Attributes:
        function: Its name.
        argument: Its argument's.
        error: Largest distance to finite differences over the largest gradient.
    """

    function: str
    argument: str
    error: float

    @property
    def agrees(self) -> bool:
        """Whether it is a gradient of the function."""
        return self.error <= FINITE_TOLERANCE


@dataclass(frozen=True)
class WeightCheck:
    """The gradient of the model's loss with respect to one weight.

    Attributes:
        name: The weight's.
        shape: Its shape.
        largest: Its gradient's largest number.
        finite_error: As of ``FunctionCheck``.
        torch_error: The same to PyTorch's gradient; None where PyTorch is not installed.
    """

    name: str
    shape: tuple[int, ...]
    largest: float
    finite_error: float
    torch_error: float | None

    @property
    def agrees(self) -> bool:
        """Whether every oracle says the same."""
        return self.finite_error <= FINITE_TOLERANCE and (
            self.torch_error is None or self.torch_error <= TORCH_TOLERANCE
        )


@dataclass(frozen=True)
class GradientReport:
    """All checks of a module, each from the loss down, as the chain rule goes.

    Attributes:
        functions: Of each function by itself.
        weights: Of the whole model.
    """

    functions: tuple[FunctionCheck, ...]
    weights: tuple[WeightCheck, ...]

    @property
    def first_disagreement(self) -> str | None:
        """The first function, or else weight, whose gradient is wrong; None where all agree."""
        wrong = (f"{c.function}_backward, by {c.argument}" for c in self.functions if not c.agrees)
        names = (check.name for check in self.weights if not check.agrees)
        return next(wrong, None) or next(names, None)


def load_module(path: Path) -> ModuleType:
    """An edited copy of ``numpy_gpt.py``.

    Raises:
        UserError: It is not there, or does not run.
    """
    spec = importlib.util.spec_from_file_location("edited_numpy_gpt", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise UserError(f"{path} is no Python file; copy shakespeare_tui/models/numpy_gpt.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses and the like look for it
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise _in_copy(module, error) from error
    missing = [name for name in ("GPT", *_CASES) if not hasattr(module, name)]
    if missing:
        raise UserError(f"{path} lacks {missing[0]}; copy shakespeare_tui/models/numpy_gpt.py")
    return module


def _in_copy(module: ModuleType, error: Exception) -> UserError:
    """What an edited copy raised, in one line with the place in it."""
    line, trace = 0, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == module.__file__:
            line = trace.tb_lineno
        trace = trace.tb_next
    where = f"{module.__file__}:{getattr(error, 'lineno', None) or line}"
    reason = " ".join(str(error).split())
    return UserError(f"{where}: {type(error).__name__}: {reason}")


def check_gradients(config: ModelConfig, module: ModuleType = numpy_gpt) -> GradientReport:
    """Check every function of a module that has a gradient, and its model of a config.

    Args:
        config: Small: the loss is computed twice for each weight.
        module: ``numpy_gpt``, or an edited copy of it.

    Raises:
        UserError: An edited copy raised an error.
    """
    try:
        functions = tuple(check for name in _CASES for check in _check_function(module, name))
        return GradientReport(functions, tuple(_check_weights(module, config)))
    except Exception as error:
        if module is numpy_gpt:
            raise
        raise _in_copy(module, error) from error


# --- functions -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Case:
    """Arguments that a function is tried with, those that have a gradient first.

    Attributes:
        shapes: Of random arguments, by name.
        others: Arguments without a gradient.
    """

    shapes: Mapping[str, tuple[int, ...]]
    others: Callable[[], Sequence[Any]] = tuple


_TARGETS = np.array([[3, 0], [1, 4]])
_TURNS = np.linspace(0.1, 2.0, 4)[:, None, None] * np.array([1.0, 0.3])
_COSINES = np.concatenate((np.cos(_TURNS), np.cos(_TURNS)), axis=2)
_SINES = np.concatenate((-np.sin(_TURNS), np.sin(_TURNS)), axis=2)
_HEADS = {"query": (2, 4, 4, 3), "key": (2, 4, 2, 3), "value": (2, 4, 2, 3)}

# From the loss down.
_CASES = {
    "cross_entropy": _Case({"logits": (2, 2, 5)}, lambda: (_TARGETS,)),
    "linear": _Case({"x": (2, 3, 4), "weight": (5, 4), "bias": (5,)}),
    "layer_norm": _Case({"x": (2, 3, 6), "weight": (6,), "bias": (6,)}, lambda: (1e-5,)),
    "rms_norm": _Case({"x": (2, 3, 6), "weight": (6,)}, lambda: (1e-5,)),
    "dropout": _Case({"x": (3, 5)}, lambda: (0.4, np.random.default_rng(3))),
    "gelu": _Case({"x": (3, 5)}),
    "relu_squared": _Case({"x": (3, 5)}),
    "swiglu": _Case({"gate": (3, 5), "up": (3, 5)}),
    "short_convolution": _Case({"x": (2, 5, 3), "weight": (4, 3)}),
    "causal_softmax": _Case({"scores": (2, 4, 4)}, lambda: (0.7,)),
    "attention": _Case(_HEADS),
    "rotate": _Case({"x": (2, 4, 3, 4)}, lambda: (_COSINES, _SINES)),
    "embedding": _Case({"weight": (6, 3)}, lambda: (np.array([[1, 5, 1], [0, 1, 2]]),)),
}


def _check_function(module: ModuleType, name: str) -> Iterator[FunctionCheck]:
    case = _CASES[name]
    generator = np.random.default_rng(7)
    arguments = {key: generator.normal(size=shape) for key, shape in case.shapes.items()}

    def forward() -> tuple[Any, Any]:
        given = [*(array.copy() for array in arguments.values()), *case.others()]
        if name == "embedding":  # its tokens come first
            given.reverse()
        y = getattr(module, name)(*given)
        # The table that a rotation turns by is all it needs.
        return (y, case.others()) if name == "rotate" else y

    y, saved = forward()
    d_y = 1.0 if name == "cross_entropy" else generator.normal(size=y.shape)
    backward = getattr(module, f"{name}_backward")
    found = backward(d_y, *saved) if name == "rotate" else backward(d_y, saved)
    found = found if isinstance(found, tuple) else (found,)
    for (argument, array), gradient in zip(arguments.items(), found, strict=True):
        slopes = _slopes(lambda: float(np.sum(d_y * forward()[0])), array)
        yield FunctionCheck(name, argument, _error(np.asarray(gradient), slopes))


def _slopes(loss: Callable[[], float], array: Array) -> Array:
    """By how much ``loss`` changes with each number of ``array``, which is put back."""
    slopes = np.empty_like(array)
    for place in np.ndindex(array.shape):
        before = array[place]
        array[place] = before + _STEP
        above = loss()
        array[place] = before - _STEP
        slopes[place] = (above - loss()) / (2 * _STEP)
        array[place] = before
    return slopes


def _error(found: Array, expected: Array, least: float = 0.0) -> float:
    """Largest distance over the largest of ``expected``, or over ``least`` where that is more."""
    if found.shape != expected.shape:
        return math.inf
    distance, scale = np.abs(found - expected).max(), np.abs(expected).max()
    error = float(distance / max(scale, least, 1e-300))
    return error if math.isfinite(error) else math.inf


# --- weights -------------------------------------------------------------------------------------


def _check_weights(module: ModuleType, config: ModelConfig) -> Iterator[WeightCheck]:
    generator = np.random.default_rng(7)
    model = module.GPT(config, VOCAB_SIZE, dtype=np.float64)
    for weight in model.weights.values():
        # Larger than at a start, so that no gradient is near 0.
        weight[:] = generator.normal(0.0, 0.5, weight.shape) + (weight.ndim == 1)
    window = generator.integers(0, VOCAB_SIZE, (2, config.max_seq_len + 1))
    tokens, targets = window[:, :-1], window[:, 1:]
    model.loss_and_gradient(tokens, targets)
    by_torch = _torch_gradients(config, model.weights, window) if has_torch() else {}
    # Of weights that change nothing (the bias of keys), rounding is all there is: it is measured
    # against the largest gradient of the model.
    least = 1e-3 * max(float(np.abs(gradient).max()) for gradient in model.gradients.values())
    for name in reversed(list(model.weights)):
        gradient = model.gradients[name]
        slopes = _slopes(lambda: float(model.loss(tokens, targets)), model.weights[name])
        yield WeightCheck(
            name,
            gradient.shape,
            float(np.abs(gradient).max()),
            _error(gradient, slopes, least),
            _error(gradient, by_torch[name], least) if by_torch else None,
        )


def _torch_gradients(
    config: ModelConfig, weights: Mapping[str, Array], window: NDArray[np.int64]
) -> dict[str, Array]:
    import torch

    from shakespeare_tui.models.transformer import Transformer

    # Without dropout, whose draws are the library's own.
    model = Transformer(config, VOCAB_SIZE).double().eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.from_numpy(weights[name]))
    tokens = torch.from_numpy(window)
    model.loss(tokens[:, :-1], tokens[:, 1:]).backward()  # type: ignore[no-untyped-call]
    return {n: p.grad.numpy() for n, p in model.named_parameters() if p.grad is not None}
