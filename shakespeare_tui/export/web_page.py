"""One HTML file that runs the model in a browser: no server, no network, nothing beside it.

It holds ONNX Runtime Web, the graph with a KV cache and the tokenizer, packed by gzip.
"""

import base64
import gzip
import html
import json
import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from shakespeare_tui.data.tokenizers.gguf_file import splits_of_text
from shakespeare_tui.data.tokenizers.hugging_face import HuggingFaceTokenizer
from shakespeare_tui.data.tokenizers.tokenizer import CharTokenizer, Tokenizer
from shakespeare_tui.decoding.exported_file import open_exported_file
from shakespeare_tui.decoding.onnx_decoder import cached
from shakespeare_tui.errors import UserError
from shakespeare_tui.export import onnx_graph
from shakespeare_tui.export.page import page
from shakespeare_tui.export.registry import Reopened
from shakespeare_tui.export.source import ExportSource, Options
from shakespeare_tui.export.web_runtime import check_web_runtime, web_runtime
from shakespeare_tui.files import write_atomically
from shakespeare_tui.formatting import format_bytes

_MOST_BYTES = 200_000_000
"""Of the graph: a browser holds it three times while it opens."""
_CONTRACTIONS = "'(?:[sS]|[tT]|[rR][eE]|[vV][eE]|[mM]|[lL][lL]|[dD])"
_LETTERS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_GPT2 = r"'(?:s|t|re|ve|m|ll|d)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_SPLITS = {
    "gpt-2": _GPT2,
    "llama-bpe": rf"{_CONTRACTIONS}|{_LETTERS}|\p{{N}}{{1,3}}|{_REST}",
    "qwen2": rf"{_CONTRACTIONS}|{_LETTERS}|\p{{N}}|{_REST}",
}
"""As JavaScript writes the splits that ``splits_of_text`` names."""


def check(source: ExportSource, options: Options) -> None:
    """The packages and the runtime must be had, and the tokenizer one that the page knows."""
    onnx_graph.check(source, replace(options, kv_cache=True))
    size = source.size_bytes // (4 if options.dtype == "int8" else 1)
    if size > _MOST_BYTES:
        smaller = "take --dtype int8, or " if options.dtype != "int8" else "take "
        raise UserError(
            f"a page would hold {format_bytes(size)} of weights, more than browsers open; "
            f"{smaller}a smaller model"
        )
    _tokenizer(source.tokenizer)
    check_web_runtime()


def write(source: ExportSource, options: Options, target: Path) -> None:
    """One page."""
    shape, runtime = source.model.config, web_runtime()
    settings: dict[str, Any] = {
        "title": source.checkpoint.reference,
        "context": source.model.context,
        "cached": cached(shape),
        "vocabSize": source.model.vocab_size,
        "prompt": next(iter(source.config.sampling.prompts), ""),
        "temperature": source.config.sampling.temperature,
        "ends": sorted(source.tokenizer.end_tokens),
        "tokenizer": _tokenizer(source.tokenizer),
    }
    graph = onnx_graph.graph_of(source, replace(options, kv_cache=True)).SerializeToString()
    held = {
        # In a script element nothing but its end tag is markup.
        ("settings", "application/json"): json.dumps(settings).replace("<", "\\u003c"),
        ("model", "text/plain"): _packed(graph),
        ("runtime", "text/plain"): _packed(runtime.script),
        ("wasm", "text/plain"): _packed(runtime.wasm),
    }
    scripts = [
        f'<script id="{name}" type="{kind}">{content}</script>'
        for (name, kind), content in held.items()
    ]
    text = page(
        "shakespeare_tui.export",
        TITLE=html.escape(source.checkpoint.reference),
        STATUS="opening the model …",
        BEFORE="",
        AFTER="\n".join(["<p>The model runs in this page. Nothing leaves it.</p>", *scripts]),
    )
    write_atomically(target, text)


def _packed(content: bytes) -> str:
    # Without the time: the same model gives the same page.
    return base64.b64encode(gzip.compress(content, 6, mtime=0)).decode()


def _tokenizer(tokenizer: Tokenizer) -> dict[str, Any]:
    """What the page needs: bytes of every token as Latin-1, how text is split, and the merges.

    Raises:
        UserError: The page knows no such tokenizer.
    """
    tokens = [tokenizer.token_bytes(n).decode("latin-1") for n in range(tokenizer.vocab_size)]
    if isinstance(tokenizer, CharTokenizer):
        return {"tokens": tokens, "special": [], "merges": None}
    record = tokenizer.as_json() if isinstance(tokenizer, HuggingFaceTokenizer) else {}
    split = splits_of_text(record) if record.get("model", {}).get("type") == "BPE" else None
    if split is None or not isinstance(tokenizer, HuggingFaceTokenizer):
        raise UserError(
            f"a page knows characters and byte-level BPE, not this tokenizer "
            f"(data.tokenizer {tokenizer.name}); take another format"
        )
    decoded = partial(bytes.decode, encoding="latin-1")
    return {
        "tokens": tokens,
        "special": [entry["id"] for entry in record.get("added_tokens") or []],
        "split": _SPLITS.get(split, _GPT2),
        "digits": split == "smollm",
        "nfc": split == "qwen2",
        "merges": [[decoded(a), decoded(b)] for a, b in tokenizer.merges],
    }


def reopen(source: ExportSource, options: Options, target: Path) -> Reopened:
    """The graph in the page, by ONNX Runtime."""
    text = target.read_text("utf-8")
    match = re.search(r'<script id="model"[^>]*>([^<]*)</script>', text)
    graph = target.with_name("model.onnx")
    graph.write_bytes(gzip.decompress(base64.b64decode(match[1] if match else "")))
    try:
        found = open_exported_file(graph)
    finally:
        graph.unlink()
    return Reopened(found.model, found.tokenizer, "ONNX Runtime, from the page")
