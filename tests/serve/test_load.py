"""The server under load: many clients at once, good ones and bad ones, then its end by SIGTERM.

Good clients ask again and again, some for streams, each time for another text; afterwards every
text is written anew alone, with its seed, and compared. Meanwhile bad clients send what is no JSON,
too much, a byte a second, or leave amid their text. In the end SIGTERM comes while texts are
written. Before all that, one client asks by itself, for the figures to compare with, which are
printed:

    NUMBA_DISABLE_JIT=0 python -m pytest -n 0 -m slow -s tests/serve/test_load.py
"""

import asyncio
import json
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest

from shakespeare_tui.decoding.columns import Column, generate_columns
from shakespeare_tui.decoding.factory import decoder_maker
from shakespeare_tui.paths import runs_folder
from shakespeare_tui.runs.folder import find_checkpoint
from shakespeare_tui.sampling import strategy_from_flags
from shakespeare_tui.training.session import open_model

PROMPTS = ("ROMEO:", "To be, or not to be", "JULIET:\n", "First Citizen:\n", "The ", "\n")
_CLIENTS, _SECONDS = 100, 60.0
_MOST_GROWTH_BYTES = 400_000_000
_DRAINED = 8
_TRIED_AGAIN = (429, 503)


@dataclass(frozen=True)
class Order:
    """One text that is asked for."""

    prompt: str
    seed: int
    temperature: float
    max_tokens: int


@dataclass
class Tally:
    """What came of a load.

    Attributes:
        texts: What was written, by its order.
        seconds: From each request to its last byte.
        tokens: Written in all.
        elapsed: Of the whole load, in seconds.
        processor_seconds: What the server took of its cores meanwhile.
        lost: Why requests had no text.
        later: Requests that were told to come again.
        bad: Statuses that bad clients were given, by what they did.
    """

    texts: dict[Order, str] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    tokens: int = 0
    elapsed: float = 0.0
    processor_seconds: float = 0.0
    lost: Counter[str] = field(default_factory=Counter)
    later: int = 0
    bad: dict[str, Counter[str]] = field(default_factory=dict)

    def report(self, name: str) -> None:
        """Print the figures."""
        p50, p95 = (statistics.quantiles(self.seconds, n=20)[place] for place in (9, 18))
        print(
            f"{name}: {len(self.seconds):,} texts, {self.tokens / self.elapsed:,.0f} tokens/s, "
            f"{self.tokens / self.processor_seconds:,.0f} tokens by second of processor time, "
            f"latency p50 {p50 * 1000:,.0f} ms, p95 {p95 * 1000:,.0f} ms"
        )


@asynccontextmanager
async def serving(run: str) -> AsyncIterator[tuple[str, asyncio.subprocess.Process]]:
    """The real program, and its address."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "shakespeare_tui", "serve", run, "--port=0", "--json"),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    lines = b""
    while not lines.endswith(b"}\n"):
        lines += await process.stdout.readline()
    url = json.loads(lines)["url"]
    try:
        yield url, process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_nothing_is_lost_or_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHAKESPEARE_TUI_RUNS", str(tmp_path))
    command = ["train", "--no-ui", "--config=quick", "--name=load", "--max-steps=20"]
    subprocess.run(
        [sys.executable, "-m", "shakespeare_tui", *command], check=True, stdout=subprocess.DEVNULL
    )
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=None)
    async with (
        serving("load") as (url, process),
        httpx2.AsyncClient(base_url=url, timeout=300, limits=limits) as client,
    ):
        alone = await loaded(client, process.pid, 1, _SECONDS / 6)
        first_bytes = resident_bytes(process.pid)
        watching = asyncio.create_task(watched(process.pid))
        together = await loaded(client, process.pid, _CLIENTS, _SECONDS, url)
        watching.cancel()
        most_bytes = await watching
        drained = await drain(client, process)
    alone.report("one client")
    together.report(f"{_CLIENTS} clients")
    ratio = (together.tokens / together.elapsed) / (alone.tokens / alone.elapsed)
    print(f"tokens/s of all together: {ratio:.2f} times those of one at a time")
    print(f"told to come again: {together.later}")
    print(f"memory: {first_bytes / 1e6:,.0f} MB before, {most_bytes / 1e6:,.0f} MB at most")
    for what, statuses in sorted(together.bad.items()):
        print(f"{what}: {dict(statuses)}")
    assert not together.lost
    assert wrong_texts("load", together.texts) == 0
    assert most_bytes - first_bytes < _MOST_GROWTH_BYTES
    assert drained == _DRAINED
    assert all(map(is_as_expected, together.bad.items()))


def resident_bytes(pid: int) -> int:
    """What a process occupies."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    return int(found[1]) * 1024 if found else 0


async def watched(pid: int) -> int:
    """The most that a process occupied, until this is cancelled."""
    most = 0
    try:
        while True:
            most = max(most, resident_bytes(pid))
            await asyncio.sleep(0.2)
    except asyncio.CancelledError:
        return most


def processor_seconds(pid: int) -> float:
    """What a process has taken of the cores so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def loaded(
    client: httpx2.AsyncClient, pid: int, clients: int, seconds: float, bad_at: str | None = None
) -> Tally:
    """So many good clients for so long, and bad ones beside them at an address."""
    tally, began, taken = Tally(), time.perf_counter(), processor_seconds(pid)
    end = began + seconds
    seeds = iter(range(clients * 1_000_000, 10**12))
    good = [asked(client, end, tally, seeds) for _ in range(clients)]
    bad: list[Coroutine[Any, Any, None]] = []
    if bad_at is not None:
        bad = [misbehaved(bad_at, end, tally, what) for what in MISBEHAVIOURS]
    await asyncio.gather(*good, *bad)
    tally.elapsed = time.perf_counter() - began
    tally.processor_seconds = processor_seconds(pid) - taken
    return tally


async def asked(client: httpx2.AsyncClient, end: float, tally: Tally, seeds: Any) -> None:
    """One good client."""
    draw = random.Random(next(seeds))
    while time.perf_counter() < end:
        order = Order(
            draw.choice(PROMPTS),
            next(seeds),
            draw.choice((0.5, 0.8, 1.0, 1.2)),
            draw.randint(50, 250),
        )
        began = time.perf_counter()
        try:
            text, tokens = await (streamed if draw.random() < 0.3 else whole)(client, order)
        except httpx2.HTTPStatusError as error:
            if error.response.status_code in _TRIED_AGAIN:
                tally.later += 1
                await asyncio.sleep(1)
            else:
                tally.lost[f"status {error.response.status_code}"] += 1
        except (httpx2.HTTPError, ValueError) as error:
            tally.lost[type(error).__name__] += 1
        else:
            tally.seconds.append(time.perf_counter() - began)
            tally.texts[order] = text
            tally.tokens += tokens


def body_of(order: Order, **values: Any) -> dict[str, Any]:
    """As OpenAI's clients ask."""
    return {
        "prompt": order.prompt,
        "seed": order.seed,
        "temperature": order.temperature,
        "max_tokens": order.max_tokens,
        **values,
    }


async def whole(client: httpx2.AsyncClient, order: Order) -> tuple[str, int]:
    """A text at once."""
    answer = await client.post("/v1/completions", json=body_of(order))
    found = answer.raise_for_status().json()
    return found["choices"][0]["text"], found["usage"]["completion_tokens"]


async def streamed(client: httpx2.AsyncClient, order: Order) -> tuple[str, int]:
    """A text in pieces."""
    text, tokens = "", 0
    body = body_of(order, stream=True, stream_options={"include_usage": True})
    async with client.stream("POST", "/v1/completions", json=body) as answer:
        if answer.is_error:
            await answer.aread()
        answer.raise_for_status()
        async for line in answer.aiter_lines():
            record = line.removeprefix("data: ")
            if not record or record == "[DONE]":
                continue
            chunk = json.loads(record)
            if "error" in chunk:
                raise ValueError(chunk["error"]["message"])
            text += "".join(choice["text"] for choice in chunk["choices"])
            tokens = (chunk.get("usage") or {}).get("completion_tokens", tokens)
    return text, tokens


# --- bad clients ---------------------------------------------------------------------------------

_HEAD = "POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"


async def no_json(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
    """Something else."""
    writer.write(f"{_HEAD}Content-Length: 7\r\n\r\n{{[nope]".encode())
    return await status_of(reader)


async def no_http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
    """Something else altogether."""
    writer.write(os.urandom(200) + b"\r\n\r\n")
    return await status_of(reader)


async def too_much(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
    """Two megabytes, in pieces of a length that is not said before."""
    writer.write(f"{_HEAD}Transfer-Encoding: chunked\r\n\r\n".encode())
    for _ in range(20):
        writer.write(b"186a0\r\n" + b" " * 100_000 + b"\r\n")
    return await status_of(reader)


async def too_slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
    """A byte a second."""
    writer.write(f"{_HEAD}Content-Length: 1000\r\n\r\n".encode())
    answer = asyncio.create_task(status_of(reader))
    while not answer.done():
        writer.write(b" ")
        await asyncio.wait([answer], timeout=1)
    return await answer


async def leaving(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
    """Away after the first piece of a long text."""
    body = json.dumps({"prompt": "ROMEO:", "max_tokens": 2000, "stream": True}).encode()
    writer.write(f"{_HEAD}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    return await status_of(reader)


_Misbehaviour = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, str]]
MISBEHAVIOURS: dict[str, tuple[_Misbehaviour, set[str]]] = {
    "no JSON": (no_json, {"400"}),
    "no HTTP": (no_http, {"400", "none"}),
    "too much": (too_much, {"413", "none"}),
    "a byte a second": (too_slow, {"408"}),
    "left amid a text": (leaving, {"200", "429"}),
}
"""What bad clients do, and what they may be told; ``none`` is a closed connection."""


async def status_of(reader: asyncio.StreamReader) -> str:
    """Of the answer."""
    line = await reader.readline()
    found = re.match(rb"HTTP/1.1 (\d+)", line)
    return found[1].decode() if found else "none"


async def misbehaved(url: str, end: float, tally: Tally, what: str) -> None:
    """One bad client, again and again."""
    host, _, port = url.removeprefix("http://").partition(":")
    act, _ = MISBEHAVIOURS[what]
    statuses = tally.bad.setdefault(what, Counter())
    while time.perf_counter() < end:
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            statuses[await asyncio.wait_for(act(reader, writer), 60)] += 1
        except ConnectionError:
            statuses["none"] += 1
        finally:
            writer.transport.abort()
        await asyncio.sleep(0.2)


def is_as_expected(found: tuple[str, Counter[str]]) -> bool:
    """Whether bad clients were told what they should be."""
    what, statuses = found
    return set(statuses) <= MISBEHAVIOURS[what][1]


# --- the end -------------------------------------------------------------------------------------


async def drain(client: httpx2.AsyncClient, process: asyncio.subprocess.Process) -> int:
    """SIGTERM amid texts: how many of them were written to their end; none where it ended badly."""
    orders = [Order("ROMEO:", seed, 1.0, 2000) for seed in range(_DRAINED)]
    texts = [asyncio.create_task(whole(client, order)) for order in orders]
    for _ in range(200):
        if (await client.get("/health")).json()["running"] >= _DRAINED // 2:
            break
        await asyncio.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    found = await asyncio.gather(*texts, return_exceptions=True)
    code = await asyncio.wait_for(process.wait(), 60)
    return 0 if code else sum(not isinstance(each, BaseException) for each in found)


def wrong_texts(run: str, texts: dict[Order, str]) -> int:
    """How many are not what is written alone."""
    model, tokenizer = open_model(find_checkpoint(run, runs_folder()), "cpu")
    make, wrong = decoder_maker(model), 0
    for order, text in texts.items():
        column = Column(strategy=strategy_from_flags(order.temperature), seed=order.seed)
        prompt = tokenizer.encode(order.prompt).tolist()
        rows = generate_columns(make(), prompt, [column], max_tokens=order.max_tokens)
        wrong += tokenizer.decode(row[0] for row in rows) != text
    return wrong
