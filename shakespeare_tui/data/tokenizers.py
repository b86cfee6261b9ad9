"""Turn text into token ids and back; character level here, byte-pair encodings fit the protocol."""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from shakespeare_tui.errors import UserError
from shakespeare_tui.files import parse_json, read_bounded, reason, write_json_atomically

_MOST_BYTES = 1 << 25

TokenArray = npt.NDArray[np.unsignedinteger[Any]]


class UnknownCharacterError(UserError):
    """A character that the tokenizer was not fitted on."""

    def __init__(self, character: str, position: int) -> None:
        self.character = character
        self.position = position
        super().__init__(
            f"character {character!r} (U+{ord(character):04X}) at position {position} is not in "
            "the vocabulary; use only characters that occur in the training corpus"
        )


class Tokenizer(Protocol):
    """What the rest of the program needs of a tokenizer."""

    @property
    def vocab_size(self) -> int:
        """Number of distinct ids."""

    @property
    def fingerprint(self) -> str:
        """A hash of everything that decides the ids."""

    def encode(self, text: str) -> list[int]:
        """Ids of ``text``; raises ``UserError`` where the text cannot be expressed."""

    def encode_array(self, text: str) -> TokenArray:
        """Ids of ``text`` as an array of the smallest unsigned type, shape [tokens]."""

    def decode(self, tokens: Iterable[int]) -> str:
        """Text of ``tokens``."""

    def save(self, path: Path) -> None:
        """Write the tokenizer as JSON."""


def smallest_dtype(vocab_size: int) -> np.dtype[np.unsignedinteger[Any]]:
    """The smallest unsigned integer type that holds ids below ``vocab_size``."""
    return np.dtype(np.min_scalar_type(max(vocab_size - 1, 0)))


class CharTokenizer:
    """One id a character, in code-point order, fitted on a text.

    Args:
        text: The text whose distinct characters become the vocabulary; or call ``fit`` later.
    """

    def __init__(self, text: str | None = None) -> None:
        self._characters = ""
        self._table = np.full(1, -1, dtype=np.int64)
        if text is not None:
            self.fit(text)

    def fit(self, text: str) -> Self:
        """Take the distinct characters of ``text`` as the vocabulary.

        Raises:
            UserError: The text is empty.
        """
        return self._set(set(text))

    @classmethod
    def from_vocabulary(cls, characters: Sequence[str]) -> Self:
        """A tokenizer over the given distinct characters, in code-point order."""
        return cls()._set(set(characters))

    def _set(self, characters: set[str]) -> Self:
        if not characters:
            raise UserError("a tokenizer needs at least one character of text")
        self._characters = "".join(sorted(characters))
        # Indexed by code point; -1 marks characters outside the vocabulary. One slot more than the
        # largest known code point, so that every larger one can be clipped onto it.
        self._table = np.full(ord(self._characters[-1]) + 2, -1, dtype=np.int64)
        self._table[[ord(c) for c in self._characters]] = np.arange(len(self._characters))
        return self

    @property
    def vocab(self) -> dict[str, int]:
        """Id of every character."""
        return {character: index for index, character in enumerate(self._characters)}

    @property
    def vocab_size(self) -> int:
        """Number of distinct characters."""
        return len(self._characters)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the vocabulary."""
        return hashlib.sha256(self._characters.encode("utf-8", "surrogatepass")).hexdigest()

    def encode(self, text: str) -> list[int]:
        """Ids of ``text``.

        Raises:
            UnknownCharacterError: A character is not in the vocabulary.
        """
        return [int(token) for token in self.encode_array(text)]

    def encode_array(self, text: str) -> TokenArray:
        """Ids of ``text`` as the smallest unsigned type, shape [characters].

        Raises:
            UnknownCharacterError: A character is not in the vocabulary.
        """
        code_points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
        ids = self._table[np.minimum(code_points, len(self._table) - 1)]
        unknown = np.flatnonzero(ids < 0)
        if unknown.size:
            position = int(unknown[0])
            raise UnknownCharacterError(text[position], position)
        return ids.astype(smallest_dtype(self.vocab_size))

    def decode(self, tokens: Iterable[int]) -> str:
        """Text of ``tokens``.

        Raises:
            UserError: An id is outside the vocabulary.
        """
        try:
            return "".join([self._characters[self._checked(token)] for token in tokens])
        except IndexError:
            raise UserError(
                f"token ids must be below the vocabulary size {self.vocab_size}"
            ) from None

    @staticmethod
    def _checked(token: int) -> int:
        if token < 0:
            raise IndexError
        return token

    def save(self, path: Path) -> None:
        """Write the tokenizer as JSON: its type and its characters in id order."""
        write_json_atomically(path, {"type": "char", "characters": list(self._characters)})


def load_tokenizer(path: Path) -> Tokenizer:
    """Read a tokenizer that was saved with a run.

    Raises:
        UserError: The file is missing, damaged or of a newer version.
    """
    try:
        record = parse_json(read_bounded(path, _MOST_BYTES))
    except FileNotFoundError:
        raise UserError(
            f"{path} is missing; the run cannot be used without its tokenizer"
        ) from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as a tokenizer: {reason(error)}") from None
    kind = record.get("type") if isinstance(record, dict) else None
    characters = record.get("characters") if isinstance(record, dict) else None
    if kind != "char":
        raise UserError(
            f"{path} holds a tokenizer of unknown type {kind!r}; update shakespeare-tui"
        )
    if (
        not isinstance(characters, list)
        or not characters
        or not all(isinstance(c, str) and len(c) == 1 and not _is_surrogate(c) for c in characters)
        or characters != sorted(set(characters))
    ):
        raise UserError(f"{path} is damaged: its characters are not distinct and in order")
    return CharTokenizer.from_vocabulary(characters)


def _is_surrogate(character: str) -> bool:
    """Whether it is half of a UTF-16 pair: no text has one, and none can be written as UTF-8."""
    return 0xD800 <= ord(character) <= 0xDFFF
