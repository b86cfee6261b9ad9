"""The server's page and the lab in a real browser: they are painted, and what is typed works."""

import signal
from pathlib import Path

import pytest
from browser import CHROMIUM, Page
from real_cli import CliProcess, wait_until
from served_models import alone, listening, served

from shakespeare_tui.cli.serve import listen
from shakespeare_tui.serve.app import create_app
from shakespeare_tui.serve.limits import Limits
from shakespeare_tui.serve.models import ModelStore
from shakespeare_tui.serve.service import Service

pytestmark = pytest.mark.skipif(not CHROMIUM, reason="no Chromium is installed")


def test_the_page_writes_what_the_model_writes(tmp_path: Path) -> None:
    store = ModelStore([served("first", prompts=("ROMEO:",)), served("second")], 1000)
    with listening(create_app(Service(store, Limits(), 2))) as url:
        page = Page(url, tmp_path / "profile")
        try:
            page.wait_for("document.getElementById('status')?.textContent === 'ready'")
            assert page.value("document.getElementById('prompt').value") == "ROMEO:"
            page.value(
                "document.getElementById('prompt').value = '';"
                "document.getElementById('prompt').focus();"
                "document.getElementById('seed').value = 5;"
                "document.getElementById('count').value = 40"
            )
            page.type("To be")
            page.value("document.getElementById('write').click()")
            page.wait_for("document.getElementById('text').dataset.done === 'true'")
            text = page.value("document.getElementById('text').textContent")
            assert text == "To be" + alone("To be", 5, 40, 0.8)[0]
            assert "nats" in page.value("document.querySelector('#text span:last-child').title")
            spans = "[...document.querySelectorAll('#text span')]"
            assert page.value(f"new Set({spans}.map((s) => s.style.background)).size") > 5
        finally:
            page.close()


def events_of(runs_root: Path) -> str:
    return "".join(path.read_text() for path in runs_root.glob("*/events.jsonl"))


@pytest.mark.slow
@pytest.mark.usefixtures("own_processes")
def test_the_lab_is_painted_obeys_keys_and_trains(tmp_path: Path, runs_root: Path) -> None:
    pytest.importorskip("textual_serve")
    with listen("127.0.0.1", 0) as free:
        port = free.getsockname()[1]
    server = CliProcess(["web", f"--port={port}"], tmp_path / "server")
    page = Page(f"http://127.0.0.1:{port}", tmp_path / "profile")
    try:
        page.wait_for("document.body.classList.contains('-first-byte')")
        page.wait_for_text("Train")
        assert page.colours() > 50
        page.value("document.querySelector('.xterm-helper-textarea').focus()")
        page.press("1")
        page.wait_for_text("Corpora")
        page.press("3")
        page.press("s")
        wait_until(lambda: "StepCompleted" in events_of(runs_root), "a step", 200)
        page.wait_for_text("tokens/s")
    finally:
        page.close()
        server.send(signal.SIGINT)
        assert server.wait().code in (0, 130)
