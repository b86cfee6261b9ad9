"""What may be loaded when, looked at from outside: each program in a process of its own."""

import ast
import functools
import re
import subprocess
import sys
from collections import Counter
from graphlib import CycleError, TopologicalSorter
from importlib.metadata import packages_distributions
from pathlib import Path

import grimp
import pytest
from loaded_modules import all_modules_after, modules_after
from real_cli import TINY

COMMANDS = (
    "train",
    "watch",
    "generate",
    "compare",
    "eval",
    "score",
    "runs",
    "experiment",
    "data",
    "export",
    "config",
    "gradcheck",
    "doctor",
    "completion",
)


def running(*arguments: str) -> str:
    return f"""
from shakespeare_tui.cli.main import main
try:
    main({list(arguments)!r})
except SystemExit as ending:
    assert not ending.code, ending.code
"""


def test_help_loads_neither_torch_nor_textual(tmp_path: Path) -> None:
    heavy = {"torch", "textual", "numpy", "pydantic", "rich", "plotext"}
    assert modules_after(running("--help"), tmp_path) & heavy == set()
    every = "".join(running(command, "--help") for command in COMMANDS)
    assert modules_after(every, tmp_path) & {"torch", "textual"} == set()


@pytest.mark.parametrize(
    ("arguments", "libraries", "most"),
    [
        (["--help"], set(), 42),
        (["train", "--help"], set(), 42),
        # NumPy comes with the steps that they list.
        (["generate", "--help"], {"numpy"}, 60),
        (["compare", "--help"], {"numpy"}, 60),
    ],
)
def test_help_loads_little(
    arguments: list[str], libraries: set[str], most: int, tmp_path: Path
) -> None:
    """How long it takes is measured by ``bench screens``."""
    loaded = all_modules_after(running(*arguments), tmp_path) - all_modules_after("", tmp_path)
    own = {name for name in loaded if name.partition(".")[0] == "shakespeare_tui"}
    assert len(own) <= most
    assert loaded & packages_distributions().keys() - {"shakespeare_tui"} <= libraries


def test_training_without_the_lab_or_a_terminal_never_loads_textual(tmp_path: Path) -> None:
    steps = (*TINY, "--max-steps=2")
    both = running("train", "--no-ui", *steps) + running("train", *steps)
    loaded = all_modules_after(both, tmp_path)
    assert "torch" in loaded
    # Nor PyTorch's compiler, which takes a second.
    assert loaded & {"textual", "plotext", "torch._dynamo"} == set()


def test_without_a_terminal_no_command_prints_help(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "shakespeare_tui"], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0
    assert "usage: shakespeare-tui" in done.stdout


def test_mounting_every_place_loads_no_torch(tmp_path: Path) -> None:
    program = """
import asyncio
from pathlib import Path
from shakespeare_tui.ui.app import LabApp
from shakespeare_tui.ui.services import Services
from shakespeare_tui.ui.settings import memory_settings
from shakespeare_tui.ui.engine.training import TrainingController

async def walk():
    root = Path("runs")
    services = Services(runs_root=root, training=TrainingController(), preload=False)
    app = LabApp(settings=memory_settings(), services=services)
    async with app.run_test() as pilot:
        for key in "234512345":
            await pilot.press(key)
            await pilot.pause()
        await pilot.press("question_mark", "escape", "ctrl+p", "escape")

asyncio.run(walk())
"""
    loaded = modules_after(program, tmp_path)
    assert "textual" in loaded
    assert "torch" not in loaded


def numpy_run(name: str, *more: str) -> str:
    """A whole life: trained, resumed, sampled, measured, scored, compared and checked."""
    return "".join(
        (
            running("train", "--no-ui", *TINY, f"--name={name}", "--max-steps=4", *more),
            running("train", "--no-ui", f"--resume={name}", "--max-steps=6", *more),
            running("generate", name, "--prompt=A", "--max-tokens=9"),
            running("generate", name, "--prompt=A", "--max-tokens=9", f"--draft={name}"),
            running("compare", name, "--strategies=classic", "--prompt=A", "--max-tokens=3"),
            running("eval", name),
            running("score", name, "--text=A man"),
            running("runs", "check", name),
            # And as the lab does it: its preloading, its views, its measurement of speed.
            f"""
from shakespeare_tui.config.load import load_config
from shakespeare_tui.paths import runs_folder
from shakespeare_tui.training.measure_speed import measure_throughput
from shakespeare_tui.ui.engine import scoring
root = runs_folder()
scoring.score_text({name!r}, root, "A man", 0)
scoring.expectation_at({name!r}, root, "A man", 2)
scoring.attention_of({name!r}, root, "A man", 2)
config = load_config("tiny", ["training.backend=numpy"])
assert measure_throughput(config, 0.01) > 0
""",
        )
    )


def test_a_numpy_run_never_loads_torch(tmp_path: Path) -> None:
    compiled = "import os; os.environ['NUMBA_DISABLE_JIT'] = '0'\n"
    loaded = modules_after(compiled + numpy_run("mine", "--backend=numpy"), tmp_path)
    assert "numba" in loaded
    assert "torch" not in loaded


def test_without_torch_and_numba_numpy_does_it_all(tmp_path: Path) -> None:
    without = "import os, sys; sys.modules['torch'] = sys.modules['numba'] = None\n"
    without += "os.environ['NUMBA_DISABLE_JIT'] = '0'\n"
    preloaded = "from shakespeare_tui.ui.engine.trainer_thread import preload; preload([])\n"
    after = "\ndel sys.modules['torch'], sys.modules['numba']"
    loaded = modules_after(without + preloaded + numpy_run("mine") + after, tmp_path)
    assert "torch" not in loaded
    refused = (
        ("train", "--no-ui", *TINY, "--backend=torch"),
        ("train", "--no-ui", *TINY, "--set=training.lora_rank=2"),
        ("generate", "mine", "--prompt=A", "--precision=int8"),
        ("eval", "mine", "--device=cuda"),
        ("import", str(tmp_path)),
    )
    calls = f"""
from shakespeare_tui.cli.main import main
for arguments in {refused!r}:
    print("code", main(list(arguments)), file=sys.stderr)
"""
    done = subprocess.run(
        [sys.executable, "-c", without + calls], capture_output=True, text=True, cwd=tmp_path
    )
    said = [line for line in done.stderr.splitlines() if line.startswith(("error: ", "code "))]
    errors, codes = said[::2], said[1::2]
    assert codes == ["code 2"] * len(refused)
    assert all(line.startswith("error: ") and "not installed here" in line for line in errors)


WITHOUT_TORCH = ("config", "data", "runs", "diagnosis", "sampling", "measures")
WITH_TORCH = ("models", "training", "decoding")


@pytest.mark.parametrize("packages", [WITHOUT_TORCH, WITH_TORCH], ids=["light", "torch"])
def test_lower_layers_load_no_screens(packages: tuple[str, ...], tmp_path: Path) -> None:
    program = f"""
import importlib, pkgutil
for package in {packages!r}:
    layer = importlib.import_module("shakespeare_tui." + package)
    for module in pkgutil.walk_packages(layer.__path__, layer.__name__ + "."):
        importlib.import_module(module.name)
"""
    loaded = modules_after(program, tmp_path)
    assert loaded & {"textual", "rich", "plotext"} == set()
    assert ("torch" in loaded) == (packages == WITH_TORCH)


def test_no_import_goes_round_in_a_circle() -> None:
    # Imports inside of functions count too; only those for annotations do not.
    graph = grimp.build_graph("shakespeare_tui", exclude_type_checking_imports=True, cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        pytest.fail(" <- ".join(error.args[1]))


def test_the_training_loop_loads_no_backend(tmp_path: Path) -> None:
    modules = ("loop", "session", "checkpoints", "evaluate", "verify")
    imports = "\n".join(f"import shakespeare_tui.training.{name}" for name in modules)
    assert "torch" not in modules_after(imports, tmp_path)


def test_screens_never_call_from_a_thread() -> None:
    folder = Path(__file__).parents[1] / "shakespeare_tui" / "ui"
    sources = {path.name: path.read_text(encoding="utf-8") for path in folder.rglob("*.py")}
    assert {name for name, text in sources.items() if "call_from_thread" in text} == set()


PRODUCT = Path(__file__).parents[1] / "shakespeare_tui"
Name = tuple[str, str]
"""Of a class: its module and its own."""


@functools.cache
def product_modules() -> dict[str, ast.Module]:
    """The syntax trees of the product by the names of the modules."""
    return {
        ".".join(path.relative_to(PRODUCT.parent).with_suffix("").parts): ast.parse(
            path.read_text(encoding="utf-8")
        )
        for path in PRODUCT.rglob("*.py")
    }


def named(module: str, expression: ast.expr, imports: dict[str, Name]) -> Name:
    """The class that an expression in a module names."""
    while isinstance(expression, ast.Subscript):
        expression = expression.value
    name = ast.unparse(expression)
    return imports.get(name, (module, name))


def test_no_class_exists_for_one_subclass() -> None:
    bases: dict[Name, list[Name]] = {}
    called: set[Name] = set()
    for module, tree in product_modules().items():
        imports = {
            alias.asname or alias.name: (node.module or "", alias.name)
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                bases[module, node.name] = [named(module, base, imports) for base in node.bases]
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Subscript):
                called.add(named(module, node.func, imports))
    subclasses = Counter(base for each in bases.values() for base in each)
    single = {name for name, n in subclasses.items() if n == 1 and name in bases} - called
    assert {name for name in single if ("typing", "Protocol") not in bases[name]} == set()


KERNELS = {
    f"shakespeare_tui.{name}"
    for name in (
        "decoding.compiled",
        "decoding.compiled_draws",
        "models.fused",
        "models.fused_kernels",
        "models.numpy_kernels",
    )
}
"""What is imported with numba switched off stays uncompiled for the rest of the process."""


def test_kernels_are_imported_when_they_are_compiled_and_not_before() -> None:
    root = PRODUCT.parent
    files = [path for folder in ("benchmarks", "tests") for path in (root / folder).rglob("*.py")]
    texts = {str(path): path.read_text(encoding="utf-8") for path in files}
    words = {name.rpartition(".")[2] for name in KERNELS}
    trees = {
        path: ast.parse(text) for path, text in texts.items() if any(word in text for word in words)
    }
    early = {
        file
        for file, tree in {**product_modules(), **trees}.items()
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        and {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)} & KERNELS
    }
    assert early == KERNELS - {"shakespeare_tui.models.numpy_kernels"}


REGISTRIES = {"shakespeare_tui.sampling.registry"}
"""Where what is registered fills in what a base leaves open."""


def test_no_parent_waits_for_its_children() -> None:
    waiting = {
        module
        for module, tree in product_modules().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Raise)
        and node.exc is not None
        and "NotImplementedError" in ast.unparse(node.exc)
    }
    assert waiting <= REGISTRIES


def test_tests_use_no_private_name_of_the_product() -> None:
    private = re.compile(
        r"^\s*from shakespeare_tui\S* import .*\b_[a-zA-Z]|shakespeare_tui(\.\w+)*\._[a-zA-Z]"
        r"|setattr\([\w.]+, \"_[a-zA-Z]",
        re.MULTILINE,
    )
    folder = Path(__file__).parent
    texts = {path: path.read_text(encoding="utf-8") for path in folder.rglob("*.py")}
    found = {path.name: match[0] for path, text in texts.items() if (match := private.search(text))}
    assert found == {}
