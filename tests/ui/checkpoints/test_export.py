"""``e`` in Checkpoints: what fits is offered, what is chosen written, what goes wrong told."""

import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from lab_harness import MakeApp, press, shown, until
from listed_runs import is_read, runs
from pictures import TOKEN_LOOKS, Pictured
from textual.pilot import Pilot
from textual.widgets import Input
from trained_run import trained

from shakespeare_tui.errors import RunFailedError, check_cancelled
from shakespeare_tui.runs.folder import RunFolder
from shakespeare_tui.ui.app import LabApp
from shakespeare_tui.ui.checkpoints.export_dialog import ExportDialog
from shakespeare_tui.ui.engine.exporting import ExportProgress, ExportRequest
from shakespeare_tui.ui.services import Engine

__all__ = ["trained"]

UNFIT = {
    "gguf": "gguf has no equivalent of model.activation relu2; the nearest layout, qwen3, takes "
    "activation swiglu. The formats safetensors, onnx, torchscript and html take every model",
    "html": "this format takes the package onnx, which is not installed: "
    "pip install 'shakespeare-tui[onnx]'",
}
DONE = [
    "quick-1-2000-hf: hf, 3.2 MB, loaded in 0.21 s, 2,310 tokens/s",
    "verified by transformers: logits differ by at most 1.9e-06 (6 lengths from 1 to 128); greedy "
    "text equal for 64 tokens",
]


class Scripted(Engine):
    """Stands where exports are made: each waits until it is told to end."""

    def __init__(self) -> None:
        self.requests: list[ExportRequest] = []
        self.may_end = threading.Event()
        self.problem = ""

    def unfit_formats(
        self, reference: str, runs_root: Path, cancelled: Callable[[], bool]
    ) -> Mapping[str, str]:
        return UNFIT

    def export(
        self, request: ExportRequest, progress: ExportProgress, cancelled: Callable[[], bool]
    ) -> list[str]:
        self.requests.append(request)
        progress.begin("measuring")
        progress.measured(43, 100)
        while not self.may_end.wait(0.01):
            check_cancelled(cancelled, "the export")
        if self.problem:
            raise RunFailedError(self.problem)
        return DONE


@pytest.fixture
def scripted_exports(
    make_app: MakeApp, runs_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[LabApp, Scripted]:
    monkeypatch.chdir(tmp_path)
    runs(runs_root)
    engine = Scripted()
    return make_app("checkpoints", engine=engine), engine


async def opened(app: LabApp, pilot: Pilot[int], *keys: str) -> None:
    """The dialog over the screen, once it knows which formats fit."""
    await until(lambda: is_read(app))
    await press(pilot, *keys, "e")
    assert isinstance(app.screen, ExportDialog)
    await until(lambda: "no equivalent of" in shown(app))
    await pilot.pause()


async def test_what_is_chosen_is_exported_and_what_came_of_it_is_told(
    scripted_exports: tuple[LabApp, Scripted], tmp_path: Path
) -> None:
    app, engine = scripted_exports
    async with app.run_test(size=(100, 40)) as pilot:
        await opened(app, pilot, "down", "down")
        # Past gguf, which does not fit, to onnx; its second precision, with a cache.
        await press(pilot, "down", "down", "right", "k")
        name = "quick-1-fork-1-1000-onnx-int8-kv-cache.onnx"
        assert app.screen.query_one(Input).value == name
        await press(pilot, "enter")
        await until(lambda: "measuring 43%" in shown(app))
        assert "esc cancels" in shown(app)
        engine.may_end.set()
        await until(lambda: "text equal for 64 tokens" in shown(app))
        (request,) = engine.requests
        assert (request.reference, request.format) == ("quick-1-fork-1@1000", "onnx")
        assert (request.dtype, request.kv_cache, request.prune) == ("int8", True, 0)
        # What is there already is replaced at the second asking only.
        (tmp_path / name).write_text("")
        await press(pilot, "enter")
        await until(lambda: "enter again replaces" in shown(app))
        assert len(engine.requests) == 1
        await press(pilot, "enter")
        await until(lambda: len(engine.requests) == 2)
        await press(pilot, "escape")
        assert not isinstance(app.screen, ExportDialog)


async def test_it_can_be_called_off_and_a_full_disk_is_one_line(
    scripted_exports: tuple[LabApp, Scripted],
) -> None:
    app, engine = scripted_exports
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(app, pilot, "down")
        await press(pilot, "plus", "plus", "minus", "tab", "end", *"-2", "enter")
        await until(lambda: engine.requests)
        assert (engine.requests[0].format, engine.requests[0].prune) == ("safetensors", 10)
        assert engine.requests[0].target.name.endswith("-safetensors-2")
        await press(pilot, "escape")
        await until(lambda: "cancelled; nothing was left behind" in shown(app))
        engine.problem = "x cannot be written: No space left on device; nothing was left behind"
        engine.may_end.set()
        await press(pilot, "enter")
        await until(lambda: "No space left on device" in shown(app))


async def test_marked_checkpoints_are_exported_into_one_folder(
    scripted_exports: tuple[LabApp, Scripted], tmp_path: Path
) -> None:
    app, engine = scripted_exports
    engine.may_end.set()
    async with app.run_test(size=(100, 30)) as pilot:
        await opened(app, pilot, "down", "space", "space")
        await press(pilot, "down", "enter")
        await until(lambda: len(engine.requests) == 2)
        assert {str(request.target) for request in engine.requests} == {
            f"exports/{request.reference.replace('@', '-')}-hf" for request in engine.requests
        }
        assert (tmp_path / "exports").is_dir()


async def test_a_real_checkpoint_is_written_and_verified(
    make_app: MakeApp, trained: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    app = make_app("checkpoints")
    async with app.run_test(size=(100, 40)) as pilot:
        await until(lambda: is_read(app))
        await press(pilot, "down", "e")
        await until(lambda: "looking which" not in shown(app), 60)
        await press(pilot, "enter")
        await until(lambda: "greedy text equal for 64 tokens" in shown(app), 60)
        (folder,) = tmp_path.glob("alpha-*-safetensors")
        assert (folder / "model.safetensors").is_file()
        await press(pilot, "tab", "ctrl+u", *"nowhere/at-all", "enter")
        await until(lambda: "there is no folder" in shown(app))


async def test_pictures_of_the_formats(
    pictured: Pictured, scripted_exports: tuple[LabApp, Scripted]
) -> None:
    app, _ = scripted_exports

    async def prepare(pilot: Pilot[int]) -> None:
        await opened(app, pilot, "down")

    await pictured(app, prepare, TOKEN_LOOKS)


async def test_pictures_of_a_result(
    pictured: Pictured, scripted_exports: tuple[LabApp, Scripted]
) -> None:
    app, engine = scripted_exports
    engine.may_end.set()

    async def prepare(pilot: Pilot[int]) -> None:
        await opened(app, pilot, "down")
        await press(pilot, "down", "enter")
        await until(lambda: "text equal for 64 tokens" in shown(app))

    await pictured(app, prepare, TOKEN_LOOKS)
