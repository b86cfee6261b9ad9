"""``gradcheck``: right gradients pass, and a wrong one is named where it first shows."""

import json
from pathlib import Path

import pytest
from real_cli import CommandLine

from shakespeare_tui.models import numpy_gpt

SOURCE = Path(numpy_gpt.__file__).read_text(encoding="utf-8")


def edited(folder: Path, before: str, after: str) -> str:
    assert before in SOURCE
    path = folder / "mine.py"
    path.write_text(SOURCE.replace(before, after), encoding="utf-8")
    return f"--module={path}"


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["norm=rmsnorm", "activation=swiglu", "qk_norm=true", "n_kv_heads=1"],
        ["positions=learned", "bias=true", "tie_weights=false"],
        ["positions=sinusoidal", "activation=relu2", "dropout=0.3"],
    ],
    ids=",".join,
)
def test_the_shipped_gradients_agree(options: list[str], cli: CommandLine) -> None:
    outcome = cli("gradcheck", "--json", *(f"--set=model.{option}" for option in options))
    assert outcome.code == 0, outcome.err
    report = json.loads(outcome.out)
    assert report["first_disagreement"] is None
    functions = {check["function"] for check in report["functions"]}
    assert {"attention", "layer_norm", "rms_norm", "swiglu", "cross_entropy"} <= functions
    assert all(check["error"] < 1e-6 for check in report["functions"])
    assert all(check["finite_error"] < 1e-6 for check in report["weights"])
    assert all(check["torch_error"] < 1e-9 for check in report["weights"])


def test_the_table_names_every_weight(cli: CommandLine) -> None:
    outcome = cli("gradcheck")
    assert outcome.code == 0
    assert "blocks.1.feedforward.up.weight" in outcome.out
    assert outcome.out.splitlines()[-1] == "every gradient agrees"


WRONG = {
    "rms_norm_backward, by x": ("d_x -= normed * _mean_of_product(d_x, normed)", "pass"),
    "attention_backward, by query": (
        "np.matmul(d_scores, k, out=",
        "np.matmul(d_p, k, out=",
    ),
    "linear_backward, by bias": ("None if bias is None else rows.sum(0)", "bias"),
    "cross_entropy_backward, by logits": (
        "probabilities[np.arange(len(targets)), targets] -= 1",
        "pass",
    ),
}


@pytest.mark.parametrize("where", WRONG)
def test_the_first_wrong_gradient_of_a_copy_is_named(
    where: str, cli: CommandLine, tmp_path: Path
) -> None:
    option = edited(tmp_path, *WRONG[where])
    outcome = cli("gradcheck", option, "--set=model.norm=rmsnorm", "--set=model.bias=true")
    assert outcome.code == 1
    last = outcome.out.splitlines()[-1]
    assert last == f"the first that disagrees, from the loss down: {where}"
    assert "wrong" in outcome.out


def test_another_function_with_its_right_gradient_differs_from_pytorch_alone(
    cli: CommandLine, tmp_path: Path
) -> None:
    option = edited(
        tmp_path, "_GELU_CUBE = math.sqrt(2 / math.pi), 0.044715", "_GELU_CUBE = 0.8, 0.04"
    )
    outcome = cli("gradcheck", option, "--json")
    assert outcome.code == 1
    report = json.loads(outcome.out)
    assert report["first_disagreement"] == "norm.weight"
    assert all(check["finite_error"] < 1e-6 for check in report["weights"])


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("def gelu(", "def gelu(:", "SyntaxError"),
        ("    half = x.shape[-1] // 2", "    raise KeyError('here')", "KeyError: 'here'"),
        ("def swiglu(", "def swish_glu(", "lacks swiglu"),
    ],
)
def test_a_copy_that_does_not_run_is_one_line(
    before: str, after: str, words: str, cli: CommandLine, tmp_path: Path
) -> None:
    outcome = cli("gradcheck", edited(tmp_path, before, after))
    assert outcome.code == 2
    (line,) = outcome.err.splitlines()
    assert words in line and "mine.py" in line


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--module=nowhere.py"], "nowhere.py is no Python file"),
        (["--set=training.seed=1"], "only settings of the model count here"),
        (["--set=model.d_model=512"], "weights take too long"),
        (["--set=model.norm=none"], "model.norm"),
    ],
)
def test_wrong_input_is_one_line(arguments: list[str], words: str, cli: CommandLine) -> None:
    outcome = cli("gradcheck", *arguments)
    assert outcome.code == 2
    (line,) = outcome.err.splitlines()
    assert words in line
