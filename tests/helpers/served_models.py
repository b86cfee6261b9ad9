"""A tiny model behind a server, and what it writes by itself."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import uvicorn
from starlette.types import ASGIApp

from shakespeare_tui.cli.serve import listen
from shakespeare_tui.config.schema import ModelConfig
from shakespeare_tui.data.tokenizers.chat_template import ChatTemplate
from shakespeare_tui.data.tokenizers.tokenizer import CharTokenizer
from shakespeare_tui.decoding.columns import Column, generate_columns
from shakespeare_tui.decoding.factory import decoder_maker, make_decoder
from shakespeare_tui.models.numpy_gpt import GPT
from shakespeare_tui.sampling import strategy_from_flags
from shakespeare_tui.serve.models import Opened, ServedModel

TOKENIZER = CharTokenizer("\n !,.:abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ|<>")
SHAPE = ModelConfig(d_model=16, n_heads=2, n_layers=1, d_ff=32, max_seq_len=16)
MODEL = GPT(SHAPE, TOKENIZER.vocab_size, np.random.default_rng(0))
TEMPLATE = ChatTemplate("{% for m in messages %}{{ m.role }}:{{ m.content }}|{% endfor %}")


def served(name: str, **values: Any) -> ServedModel:
    return ServedModel(
        name=name,
        tokenizer=TOKENIZER,
        open=values.pop("open", lambda: Opened(MODEL, decoder_maker(MODEL))),
        size_bytes=values.pop("size_bytes", 100),
        stream_bytes=10,
        **values,
    )


def alone(prompt: str, seed: int, tokens: int, temperature: float, samples: int = 1) -> list[str]:
    column = Column(strategy=strategy_from_flags(temperature), samples=samples, seed=seed)
    rows = generate_columns(
        make_decoder(MODEL, 1), TOKENIZER.encode(prompt).tolist(), [column], max_tokens=tokens
    )
    return [TOKENIZER.decode(stream) for stream in zip(*rows, strict=True)]


@contextmanager
def listening(app: ASGIApp) -> Iterator[str]:
    """A server in a thread; yields its address."""
    listener = listen("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
