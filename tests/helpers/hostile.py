"""Contents that are no mistake: files made to break whoever reads them."""

import json
import struct
from collections.abc import Iterator
from typing import Any

DEEP = 100_000

TEXTS: dict[str, bytes] = {
    "nothing": b"",
    "a brace": b"{",
    "null": b"null",
    "a list": b"[]",
    "a number": b"1e999",
    "digits": b"9" * 5000,
    "deep lists": b"[" * DEEP,
    "closed deep lists": b"[" * DEEP + b"]" * DEEP,
    "deep objects": b'{"a":' * DEEP,
    "half a surrogate pair": b'{"name": "\\ud800"}',
    "no UTF-8": b"\xff\xfe\x00{",
    "zeros": bytes(4096),
    "megabytes": b"a" * 5_000_000,
    "escapes": b'"\x1b]0;title\x07\x1b[2J"',
}
"""For every reader of text."""

YAMLS: dict[str, bytes] = {
    "laughs": b"a0: &a0 [x, x]\n"
    + b"".join(
        b"a%d: &a%d [*a%d, *a%d, *a%d]\n" % (n, n, n - 1, n - 1, n - 1) for n in range(1, 40)
    ),
    "a list in itself": b"model: &a [*a]\n",
    "a mapping in itself": b"&a model: {d_model: 8}\nmore: &b {b: *b}\n",
    "merged with itself": b"a: &a\n  <<: *a\n  d_model: 8\n",
    "a date": b"training:\n  seed: 2026-01-01\ntheme: 2026-01-01 10:00:00\n",
    "a date as a key": b"2026-01-01: 1\nplaces: {2026-13-45: x}\n",
    "a date that cannot be": b"theme: 2026-13-45\n",
    "an object": b"model: !!python/object/apply:os.system [id]\n",
    "binary": b"theme: !!binary abc\n",
    "a set": b"model: !!set {a, b}\n",
    "digits": b"training:\n  seed: " + b"9" * 5000 + b"\nplaces: {n: " + b"9" * 5000 + b"}\n",
    "sexagesimal": b"training:\n  seed: 190:20:30\n  minutes: 1:30\n",
    "no number": b"training:\n  learning_rate: .nan\nplaces: {x: .nan, y: .inf}\n",
    "a complex key": b"? [a, b]\n: c\n? {a: b}\n: d\n",
    "documents": b"---\na: 1\n---\nb: 2\n",
    "deep lists": b"[" * 20_000,
    "deep blocks": b"".join(b" " * n + b"a:\n" for n in range(400)),
    "tabs": b"model:\n\td_model: 8\n",
    "a mark": b"\xef\xbb\xbfmodel:\n  d_model: 16\n",
    "control characters": b"theme: \x00\x01\x1b\n",
    "twice": b"theme: a\ntheme: b\nmodel: {}\nmodel: {}\n",
    "a long key": b"a" * 2000 + b": 1\n",
}
"""For every reader of YAML."""

ODD_VALUES: tuple[Any, ...] = (
    *(None, True, [], {}, "", "x" * 100_000, -1, 2**70, 10**400, 1e308, 0.5, float("nan"), [[[]]]),
)


def odd_records(record: dict[str, Any]) -> Iterator[tuple[str, bytes]]:
    """The record with each of its values odd in turn, and without each."""
    for name in record:
        for number, value in enumerate(ODD_VALUES):
            yield f"{name} odd {number}", _as_json(record | {name: value})
        yield f"no {name}", _as_json({k: v for k, v in record.items() if k != name})


def _as_json(value: Any) -> bytes:
    # 10**400 is more than Python writes by itself.
    text = json.dumps(value, default=str) if 10**400 not in _values(value) else ""
    if not text:
        text = json.dumps({k: v if v != 10**400 else "@" for k, v in value.items()})
        text = text.replace('"@"', "1" + "0" * 5000)
    return text.encode()


def _values(value: dict[str, Any]) -> list[Any]:
    return [item for item in value.values() if isinstance(item, int) and item > 2**70]


def odd_tensors(content: bytes) -> Iterator[tuple[str, bytes]]:
    """A safetensors file, spoilt in every way."""
    size = struct.unpack("<Q", content[:8])[0]
    header: dict[str, Any] = json.loads(content[8 : 8 + size])
    data = content[8 + size :]

    def with_header(changed: object) -> bytes:
        text = changed if isinstance(changed, bytes) else json.dumps(changed).encode()
        return struct.pack("<Q", len(text)) + text + data

    name, entry = next((n, e) for n, e in header.items() if n != "__metadata__" and e["shape"])
    begin, end = entry["data_offsets"]

    def with_entry(**values: Any) -> bytes:
        return with_header(header | {name: entry | values})

    yield "half", content[: len(content) // 2]
    yield "one byte short", content[:-1]
    yield "one byte long", content + b"\0"
    yield "no data", content[: 8 + size]
    for length in (2**63, 2**64 - 1, 10**9, size + 1, size - 1, 0):
        yield f"a header of {length}", struct.pack("<Q", length) + content[8:]
    yield "no JSON", with_header(b"x" * size)
    yield "deep header", with_header(b'{"a":' * 50_000)
    yield "a list", with_header([])
    yield "no tensors", with_header({})
    yield "a huge header", with_header(json.dumps(header).encode() + b" " * 5_000_000)
    for dtype in ("F64", "F16", "BF16", "I64", "BOOL", "F8_E5M2", "NOTHING", 3, None):
        yield f"of type {dtype}", with_entry(dtype=dtype)
    yield "transposed", with_entry(shape=entry["shape"][::-1])
    yield "flat", with_entry(shape=[(end - begin) // 4])
    yield "no shape", with_entry(shape=[])
    yield "of no size", with_entry(shape=[0], data_offsets=[begin, begin])
    yield "negative", with_entry(shape=[-1, *entry["shape"]])
    yield "overflowing", with_entry(shape=[2**32, 2**32, *entry["shape"]])
    yield "beyond the end", with_entry(data_offsets=[begin + len(data), end + len(data)])
    yield "backwards", with_entry(data_offsets=[end, begin])
    yield "at minus one", with_entry(data_offsets=[-1, end])
    yield "missing", with_header({n: e for n, e in header.items() if n != name})
    yield "renamed", with_header({("x" if n == name else n): e for n, e in header.items()})
    yield (
        "with an odd name",
        with_header({("\x1b[31m" if n == name else n): e for n, e in header.items()}),
    )
    yield "with odd metadata", with_header(header | {"__metadata__": {"progress": "[" * 50_000}})
    yield "with metadata of numbers", with_header(header | {"__metadata__": {"progress": 1}})
    yield "without metadata", with_header({n: e for n, e in header.items() if n != "__metadata__"})
    for words, value in (("NaN", float("nan")), ("infinite", float("inf")), ("huge", 3e38)):
        count = len(data) // 4
        yield words, content[: 8 + size] + struct.pack("<f", value) * count + data[count * 4 :]
    flipped = bytearray(content)
    flipped[-2] ^= 1
    yield "with a flipped bit", bytes(flipped)


def odd_metadata(content: bytes) -> Iterator[tuple[str, bytes]]:
    """A training state whose progress has each of its values odd in turn."""
    size = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + size])
    metadata = header["__metadata__"]
    changed = [
        ("progress " + how, {"progress": text.decode()})
        for how, text in odd_records(json.loads(metadata["progress"]))
    ]
    changed += [
        (f"ema_updates {value}", {"ema_updates": value})
        for value in ("-11", "x", "", "1e9", "9" * 5000)
    ]
    for how, values in changed:
        text = json.dumps(header | {"__metadata__": metadata | values}).encode()
        yield how, struct.pack("<Q", len(text)) + text + content[8 + size :]
