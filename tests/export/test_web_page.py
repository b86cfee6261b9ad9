"""The page in a real browser, without any network."""

from pathlib import Path

import numpy as np
import pytest
from browser import CHROMIUM, Page
from exported_runs import make_run

from shakespeare_tui.errors import UserError
from shakespeare_tui.export.export import export
from shakespeare_tui.export.registry import FORMATS
from shakespeare_tui.export.source import ExportSource, Options, open_source

pytest.importorskip("onnxruntime")


def likeliest(source: ExportSource, prompt: str, count: int) -> str:
    """By the window that the text of a prompt has while it grows, in a plain loop."""
    tokens = source.tokenizer.encode(prompt).astype(np.int64)
    context, hop = source.model.context, source.model.context // 2
    for _ in range(count):
        beyond = len(tokens) - context
        start = 0 if beyond <= 0 else -(-beyond // hop) * hop
        best = source.model.last_logits(tokens[None, start:], 1)[0, 0].argmax()
        tokens = np.append(tokens, best)
    return source.tokenizer.decode(tokens)


@pytest.mark.slow
@pytest.mark.skipif(not CHROMIUM, reason="no Chromium is installed")
@pytest.mark.parametrize(
    ("shape", "tokenizer"), [("quick", "char"), ("quick", "bpe"), ("convolution", "char")]
)
def test_a_browser_writes_what_the_model_writes(shape: str, tokenizer: str, tmp_path: Path) -> None:
    source = open_source(make_run(tmp_path / "runs", shape, tokenizer))
    page_path = tmp_path / "page.html"
    try:
        export(source, FORMATS["html"], Options(), page_path)
    except UserError as error:
        pytest.skip(str(error))
    page = Page(page_path.as_uri(), tmp_path / "profile")
    try:
        page.wait_for("document.getElementById('status')?.textContent === 'ready'")
        prompt = "Is the day so young?"
        page.value(
            "document.getElementById('prompt').value = '';"
            "document.getElementById('prompt').focus();"
            "document.getElementById('temperature').value = 0;"
            "document.getElementById('count').value = 40"
        )
        page.type(prompt)
        page.value("document.getElementById('write').click()")
        page.wait_for("document.getElementById('text').dataset.done === 'true'")
        text = page.value("document.getElementById('text').textContent")
        assert text == likeliest(source, prompt, 40)
        assert page.value("document.querySelectorAll('#text span.prompt').length") == len(
            source.tokenizer.encode(prompt)
        )
        assert "nats" in page.value("document.querySelector('#text span:last-child').title")
        spans = "[...document.querySelectorAll('#text span')]"
        assert page.value(f"new Set({spans}.map((s) => s.style.background)).size") > 5
        assert page.value("performance.getEntriesByType('resource').length") <= 2  # both its own
    finally:
        page.close()
