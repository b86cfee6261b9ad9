"""A tokenizer of UTF-8 bytes, made known as a new kind is: one class, one name in the registry.

A character may be several tokens and a token no character: what takes one for the other shows here.
Pairs of letters that are frequent are one token each, so that a token may also be two characters.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar, Self

import numpy as np
import pytest

from shakespeare_tui.data.tokenizers.kinds import TOKENIZERS
from shakespeare_tui.data.tokenizers.tokenizer import TokenArray, Tokenizer
from shakespeare_tui.errors import UserError

PAIRS = (b"th", b"e ", b"\n\n", b"ou", b"O:")


class ByteTokenizer(Tokenizer):
    name: ClassVar[str] = "bytes"

    def __init__(self) -> None:
        self._bytes = [bytes([byte]) for byte in range(256)] + list(PAIRS)

    @classmethod
    def from_corpus(cls, pieces: Iterable[str], vocab_size: int | None = None) -> Self:
        return cls()  # it knows all text

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Self:
        if record.get("pairs") != [pair.decode() for pair in PAIRS]:
            raise ValueError("it has other pairs")
        return cls()

    def as_json(self) -> dict[str, Any]:
        return {"pairs": [pair.decode() for pair in PAIRS]}

    @property
    def vocab_size(self) -> int:
        return len(self._bytes)

    @property
    def fingerprint(self) -> str:
        return "bytes-and-pairs"

    def encode(self, text: str) -> TokenArray:
        content, ids, place = text.encode(), [], 0
        while place < len(content):
            pair = content[place : place + 2]
            ids.append(256 + PAIRS.index(pair) if pair in PAIRS else content[place])
            place += 2 if pair in PAIRS else 1
        return np.array(ids, np.uint16)

    def encode_stream(
        self, pieces: Iterable[str], *, is_beginning: bool = True
    ) -> Iterator[TokenArray]:
        yield self.encode("".join(pieces))  # a pair may lie across two pieces

    def cuts(self, text: str) -> list[int]:
        return []

    def token_bytes(self, token: int) -> bytes:
        if not 0 <= token < self.vocab_size:
            raise UserError(f"token ids must be below the vocabulary size {self.vocab_size}")
        return self._bytes[token]

    def sampling_defaults(self) -> Mapping[str, int | float]:
        return {"mirostat": 2.0, "dry.allowed": 7}


@pytest.fixture
def bytes_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    """``data.tokenizer=bytes`` works."""
    monkeypatch.setitem(TOKENIZERS, "bytes", "byte_tokenizer:ByteTokenizer")
