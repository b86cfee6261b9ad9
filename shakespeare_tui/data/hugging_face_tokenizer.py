"""Tokenizers that Hugging Face's ``tokenizers`` runs: of pretrained models, any ``tokenizer.json``.

The run's own ``tokenizer.json`` is such a file, which ``tokenizers`` and ``transformers`` open.
"""

import functools
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from shakespeare_tui.data.tokenizers import TokenArray, Tokenizer, smallest_dtype
from shakespeare_tui.errors import UserError
from shakespeare_tui.files import write_json_atomically

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Backend

_STREAM_CHARACTERS = 1 << 20
# Before white space behind a letter or digit: there no split of words looks across.
_CUT = re.compile(r"(?<=[^\W_])(?=\s)")
_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")


@functools.cache
def _byte_of_letter() -> dict[str, int]:
    """The bytes by the letters that stand for them in byte-level vocabularies (GPT-2's)."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = {chr(byte): byte for byte in shown}
    hidden = (byte for byte in range(256) if byte not in set(shown))
    return letters | {chr(256 + place): byte for place, byte in enumerate(hidden)}


class HuggingFaceTokenizer(Tokenizer):
    """The tokenizer of a ``tokenizer.json``.

    Args:
        record: Its content.

    Raises:
        ValueError: ``tokenizers`` cannot make a tokenizer of it.
        UserError: The package is missing.
    """

    name: ClassVar[str] = "huggingface"

    def __init__(self, record: Mapping[str, Any]) -> None:
        try:
            import tokenizers
        except ImportError:
            raise UserError(
                "tokenizers of pretrained models take a package that is not installed: "
                "pip install 'shakespeare-tui[pretrained]'"
            ) from None
        self._record = dict(record)
        try:
            self._backend: Backend = tokenizers.Tokenizer.from_str(json.dumps(self._record))
        except Exception as error:  # noqa: BLE001 — the package raises nothing narrower
            raise ValueError(f"no tokenizer can be made of it ({error})") from None
        self._backend.no_padding()
        self._backend.no_truncation()
        self._is_byte_level = "ByteLevel" in json.dumps(self._record.get("decoder"))

    @classmethod
    def from_corpus(cls, pieces: Iterable[str]) -> Self:
        """There is none of a text alone.

        Raises:
            UserError: Always.
        """
        raise UserError(
            "a tokenizer of this kind comes with a pretrained model; start from a run that was "
            "imported: --from RUN"
        )

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Self:
        """The tokenizer of a file's content.

        Raises:
            ValueError: It is none.
        """
        return cls(record)

    def as_json(self) -> dict[str, Any]:
        """The file's content."""
        return self._record

    def save(self, path: Path) -> None:
        """Write the file as other programs read it."""
        write_json_atomically(path, self._record)

    def padded(self, vocab_size: int) -> "HuggingFaceTokenizer":
        """With names for ids that only the model has: its table of embeddings is often rounded up.

        Raises:
            UserError: The tokenizer does not fit a model of so many ids.
        """
        own = self.vocab_size
        if not 0 <= vocab_size - own <= max(64, vocab_size // 100):
            raise UserError(
                f"the tokenizer does not fit the weights: it has {own:,} tokens, and they "
                f"{vocab_size:,}"
            )
        plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
        added = [
            {"id": token, "content": f"[PAD{token}]", "special": True, **plain}
            for token in range(own, vocab_size)
        ]
        known = self._record.get("added_tokens") or []
        return HuggingFaceTokenizer({**self._record, "added_tokens": [*known, *added]})

    @property
    def vocab_size(self) -> int:
        """Number of ids."""
        return self._backend.get_vocab_size(with_added_tokens=True)

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the file's content."""
        text = json.dumps(self._record, sort_keys=True)
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()

    def encode(self, text: str) -> TokenArray:
        """Ids of ``text``, none added at its ends, shape [tokens].

        Raises:
            UserError: The text holds half of a UTF-16 pair.
        """
        try:
            ids = self._backend.encode(text, add_special_tokens=False).ids
        except (UnicodeEncodeError, TypeError):
            raise UserError("the text holds characters that no UTF-8 has; remove them") from None
        return np.array(ids, smallest_dtype(self.vocab_size))

    def encode_stream(self, pieces: Iterable[str]) -> Iterator[TokenArray]:
        """Ids of a text that comes in pieces: together those of the whole, however it was cut."""
        if not self._is_byte_level:
            yield self.encode("".join(pieces))
            return
        waiting: list[str] = []
        length = 0
        for piece in pieces:
            waiting.append(piece)
            length += len(piece)
            if length < _STREAM_CHARACTERS:
                continue
            text = "".join(waiting)
            cut = max((match.start() for match in _CUT.finditer(text, len(text) // 2)), default=0)
            if cut:
                yield self.encode(text[:cut])
            waiting, length = [text[cut:]], len(text) - cut
        yield self.encode("".join(waiting))

    def token_bytes(self, token: int) -> bytes:
        """What an id stands for: UTF-8, perhaps of a part of a character.

        Raises:
            UserError: The id is outside the vocabulary.
        """
        if not 0 <= token < self.vocab_size:
            raise UserError(f"token ids must be below the vocabulary size {self.vocab_size}")
        return self._bytes[token]

    @functools.cached_property
    def _bytes(self) -> list[bytes]:
        added = {entry["id"] for entry in self._record.get("added_tokens") or []}
        found = [b""] * self.vocab_size
        for text, token in self._backend.get_vocab(with_added_tokens=True).items():
            if token < len(found):
                found[token] = text.encode() if token in added else self._plain(text)
        return found

    def _plain(self, text: str) -> bytes:
        if self._is_byte_level:
            letters = _byte_of_letter()
            if all(letter in letters for letter in text):
                return bytes(letters[letter] for letter in text)
        elif byte := _BYTE_TOKEN.fullmatch(text):
            return bytes([int(byte[1], 16)])
        return text.replace("\u2581", " ").encode("utf-8", "replace")

    def sampling_defaults(self) -> Mapping[str, int | float]:
        """What suits tokens of some four bytes."""
        return {"mirostat": 5.0, "dry.allowed": 2}
