"""``gradcheck``: the NumPy model's gradients, or an edited copy's, against their oracles."""

import argparse
from typing import TYPE_CHECKING

from shakespeare_tui.cli.console import print_json, print_result, print_table
from shakespeare_tui.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.text import Text

    from shakespeare_tui.config.schema import ModelConfig
    from shakespeare_tui.models.gradcheck import GradientReport

# A few hundred weights: finite differences compute the loss twice for each.
_SMALL = {"d_model": 8, "n_heads": 2, "n_layers": 2, "d_ff": 12, "max_seq_len": 6}
_MOST_WEIGHTS = 20_000


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Describe the command."""
    parser = subparsers.add_parser(
        "gradcheck",
        help="check the NumPy model's gradients, or an edited copy's",
        description="Compare the gradients that models/numpy_gpt.py has by hand with finite "
        "differences and with PyTorch's, in float64: each function by itself, and each weight of a "
        "tiny model.",
        epilog="To learn: copy shakespeare_tui/models/numpy_gpt.py, rewrite a gradient, and see.",
    )
    parser.add_argument("--module", metavar="FILE", help="an edited copy of numpy_gpt.py")
    parser.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="model.KEY=VALUE",
        help="an option of the tiny model, as model.norm=rmsnorm",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Check and print; 1 where a gradient is wrong."""
    from dataclasses import asdict
    from pathlib import Path

    from shakespeare_tui.models import numpy_gpt
    from shakespeare_tui.models.gradcheck import check_gradients, load_module

    config = _tiny_model(arguments.overrides)
    module = load_module(Path(arguments.module)) if arguments.module else numpy_gpt
    report = check_gradients(config, module)
    first = report.first_disagreement
    if arguments.json:
        print_json(
            {
                "functions": [_finite(asdict(c)) | {"agrees": c.agrees} for c in report.functions],
                "weights": [_finite(asdict(c)) | {"agrees": c.agrees} for c in report.weights],
                "first_disagreement": first,
            }
        )
        return 0 if first is None else 1
    _print_tables(report)
    if first is None:
        print_result("every gradient agrees")
        return 0
    print_result(f"the first that disagrees, from the loss down: {first}")
    return 1


def _tiny_model(overrides: "Sequence[str]") -> "ModelConfig":
    from shakespeare_tui.config.load import load_config
    from shakespeare_tui.models.parameters import count_parameters

    for override in overrides:
        if not override.startswith("model."):
            raise UserError(f"--set {override}: only settings of the model count here")
    small = [f"model.{key}={value}" for key, value in _SMALL.items()]
    config = load_config("tiny", [*small, *overrides]).model
    if (weights := count_parameters(config, 11)) > _MOST_WEIGHTS:
        raise UserError(
            f"{weights:,} weights take too long; the loss is computed twice for each, so take a "
            f"model of {_MOST_WEIGHTS:,} at most"
        )
    return config


def _finite(figures: dict[str, object]) -> dict[str, object]:
    """JSON has no infinity: an error that is none is null."""
    return {key: None if value == float("inf") else value for key, value in figures.items()}


def _print_tables(report: "GradientReport") -> None:
    from rich.table import Table

    functions = Table("function", "by", "error", "", title="each function by itself")
    for check in report.functions:
        functions.add_row(check.function, check.argument, f"{check.error:.1e}", _word(check.agrees))
    weights = Table(title="each weight, from the loss down")
    for column in ("weight", "shape", "largest", "finite differences", "PyTorch", ""):
        weights.add_column(column)
    for weight in report.weights:
        by_torch = "-" if weight.torch_error is None else f"{weight.torch_error:.1e}"
        shape = " × ".join(map(str, weight.shape))
        errors = (f"{weight.largest:.1e}", f"{weight.finite_error:.1e}", by_torch)
        weights.add_row(weight.name, shape, *errors, _word(weight.agrees))
    print_table(functions)
    print_table(weights)


def _word(agrees: bool) -> "Text":
    from rich.text import Text

    return Text("ok") if agrees else Text("wrong", "bold red")
