"""What may be loaded when, looked at from outside: each program in a process of its own."""

import json
import resource
import subprocess
import sys
import time
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import grimp
import pytest
from real_cli import TINY

COMMANDS = (
    "train",
    "watch",
    "generate",
    "compare",
    "eval",
    "score",
    "runs",
    "data",
    "config",
    "doctor",
    "completion",
)


def modules_after(program: str, folder: Path) -> set[str]:
    """The top-level modules that a Python program has loaded at its end."""
    report = "\nimport sys, json; print(json.dumps(sorted({m.split('.')[0] for m in sys.modules})))"
    done = subprocess.run(
        [sys.executable, "-c", program + report],
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


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
    for command in COMMANDS:
        assert modules_after(running(command, "--help"), tmp_path) & {"torch", "textual"} == set()


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"]])
def test_help_is_there_at_once(arguments: list[str], tmp_path: Path) -> None:
    def seconds() -> float:
        started = time.perf_counter()
        command = [sys.executable, "-m", "shakespeare_tui", *arguments]
        subprocess.run(command, check=True, capture_output=True, cwd=tmp_path)
        return time.perf_counter() - started

    # The best of several: the machine may be busy with other things.
    assert min(seconds() for _ in range(5)) < 0.3


@pytest.mark.parametrize("command", ["generate", "compare"])
def test_help_that_lists_the_steps_costs_little(command: str, tmp_path: Path) -> None:
    def processor_seconds() -> float:
        # NumPy comes with the steps: by the clock, a busy machine would spoil the figure.
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        program = [sys.executable, "-m", "shakespeare_tui", command, "--help"]
        subprocess.run(program, check=True, capture_output=True, cwd=tmp_path)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert min(processor_seconds() for _ in range(5)) < 0.3


def test_training_without_the_lab_never_loads_textual(tmp_path: Path) -> None:
    loaded = modules_after(running("train", "--no-ui", *TINY, "--max-steps=2"), tmp_path)
    assert "torch" in loaded
    assert loaded & {"textual", "plotext"} == set()


def test_without_a_terminal_train_does_without_the_lab_and_no_command_prints_help(
    tmp_path: Path,
) -> None:
    loaded = modules_after(running("train", *TINY, "--max-steps=2"), tmp_path)
    assert "textual" not in loaded
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
