"""Turn text into token ids and back: the protocol, and tokens that are characters.

A token is bytes, not a character: it may be several characters, or a part of one. What counts
therefore says what it counts, and what shows text decodes it by ``decoder``, which never gives half
a character.
"""

import codecs
import hashlib
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

import numpy as np
import numpy.typing as npt

from shakespeare_tui.data.tokenizers.kinds import TOKENIZERS, tokenizer_kind
from shakespeare_tui.errors import UserError
from shakespeare_tui.files import parse_json, read_bounded, reason, write_json_atomically

_MOST_BYTES = 1 << 25
_TOKENS_A_COUNT = 1 << 22
_ASCII = 128

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
    """What the rest of the program needs of a tokenizer.

    A new kind derives from this and is named in ``kinds``: what has a body here rests on
    ``token_bytes`` and need not be written again.

    Attributes:
        name: The kind's name, as in ``data.tokenizer`` and in ``tokenizer.json``.
        learned_bytes: Of the training text at most so much is learned from, spread over it; 0 where
            nothing is learned: then ``from_corpus`` is given every character of the whole corpus,
            the validation text's too, once.
    """

    name: ClassVar[str]
    learned_bytes: ClassVar[int] = 0

    @classmethod
    def to_fetch(cls) -> str:
        """What ``from_corpus`` would have to fetch first, as a note; empty where nothing."""
        return ""

    @classmethod
    def from_corpus(cls, pieces: Iterable[str], vocab_size: int | None = None) -> Self:
        """A tokenizer for a text that comes in pieces; it may leave them unread.

        Args:
            pieces: The text, as ``learned_bytes`` has it.
            vocab_size: Number of ids, for kinds that have a choice; None leaves it to the kind.

        Raises:
            UserError: The text is empty, or it cannot have so many ids.
        """

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Self:
        """What ``as_json`` has written.

        Raises:
            ValueError: Says what is wrong with the record.
        """

    def as_json(self) -> dict[str, Any]:
        """All that decides the ids, for ``tokenizer.json``."""

    @property
    def vocab_size(self) -> int:
        """Number of distinct ids."""

    @property
    def fingerprint(self) -> str:
        """A hash of everything that decides the ids."""

    def encode(self, text: str) -> TokenArray:
        """Ids of ``text`` in the smallest unsigned type that holds all ids, shape [tokens].

        Raises:
            UserError: The text cannot be expressed.
        """

    def encode_stream(
        self, pieces: Iterable[str], *, is_beginning: bool = True
    ) -> Iterator[TokenArray]:
        """Ids of a text that comes in pieces: together those of the whole, however it was cut.

        This is for tokenizers whose tokens do not reach from one character into the next.

        Args:
            pieces: The text.
            is_beginning: Whether nothing stands before it, for tokenizers that mark where a text
                begins.

        Raises:
            UserError: The text cannot be expressed.
        """
        return map(self.encode, pieces)

    def cuts(self, text: str) -> Sequence[int]:
        """Where a text can be cut, in order, so that both sides give the tokens of the whole.

        This is for tokenizers whose tokens do not reach from one character into the next.
        """
        return range(len(text) + 1)

    def encode_in_place(
        self, text: str, *, is_beginning: bool = True
    ) -> tuple[TokenArray, npt.NDArray[np.int64]]:
        """Ids of ``text`` [n], and the first character of each in it with the text's end [n + 1].

        A token that only goes on with a character begins where that one ends.

        Args:
            text: A text, or what lies between two of its ``cuts``.
            is_beginning: As for ``encode_stream``.

        Raises:
            UserError: The text cannot be expressed.
        """
        ids = np.concatenate(list(self.encode_stream([text], is_beginning=is_beginning)))
        return ids, token_starts(self, ids)

    def token_bytes(self, token: int) -> bytes:
        """What an id stands for: UTF-8, perhaps of a part of a character.

        Raises:
            UserError: The id is outside the vocabulary.
        """

    @property
    def is_lossless(self) -> bool:
        """Whether tokens say any text that they are made of to the byte."""
        return True

    @property
    def end_tokens(self) -> frozenset[int]:
        """Ids by which a model says that its text is over; none where the tokens are plain text."""
        return frozenset()

    def decoder(self) -> "IncrementalDecoder":
        """Decodes one stream, token by token."""
        return IncrementalDecoder(self)

    def decode(self, tokens: Iterable[int]) -> str:
        """Text of ``tokens``; what is no UTF-8 becomes U+FFFD.

        Raises:
            UserError: An id is outside the vocabulary.
        """
        decoder = self.decoder()
        return "".join([*map(decoder.feed, tokens), decoder.flush()])

    def sampling_defaults(self) -> Mapping[str, int | float]:
        """Values of sampling steps that suit these tokens, where they are not those of characters.

        By step, or by step and option: ``{"mirostat": 3.5, "dry.allowed": 2}``.
        """
        return {}

    def save(self, path: Path) -> None:
        """Write the tokenizer as JSON."""
        write_json_atomically(path, {"type": self.name, **self.as_json()})


class IncrementalDecoder:
    """Turns a stream of tokens into text that is whole characters at every moment.

    Args:
        tokenizer: Whose tokens come.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._bytes = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, token: int) -> str:
        """The characters that the next token completes; the beginning of another one waits."""
        return self._bytes.decode(self._tokenizer.token_bytes(token))

    def flush(self) -> str:
        """What the stream's end leaves of a character that was begun: U+FFFD or nothing."""
        return self._bytes.decode(b"", final=True)


def smallest_dtype(vocab_size: int) -> np.dtype[np.unsignedinteger[Any]]:
    """The smallest unsigned integer type that holds ids below ``vocab_size``."""
    return np.dtype(np.min_scalar_type(max(vocab_size - 1, 0)))


@dataclass(frozen=True)
class TextSize:
    """How much text there is.

    Attributes:
        characters: Unicode code points.
        bytes: Of them in UTF-8.
    """

    characters: int
    bytes: int


def characters_begun(tokenizer: Tokenizer) -> npt.NDArray[np.int64]:
    """How many characters begin in each id, shape [vocab_size]: their sum counts a text's."""
    every = range(tokenizer.vocab_size)
    return np.array([_begun(tokenizer.token_bytes(token)) for token in every], np.int64)


def _begun(content: bytes) -> int:
    return sum(byte & 0xC0 != 0x80 for byte in content)


def text_size(tokenizer: Tokenizer, tokens: npt.NDArray[np.integer[Any]]) -> TextSize:
    """How much text ``tokens`` [n] are; a character counts where it begins."""
    counts = np.zeros(tokenizer.vocab_size, np.int64)
    for start in range(0, len(tokens), _TOKENS_A_COUNT):
        piece = tokens[start : start + _TOKENS_A_COUNT]
        counts += np.bincount(piece, minlength=tokenizer.vocab_size)
    lengths = [len(tokenizer.token_bytes(token)) for token in range(tokenizer.vocab_size)]
    return TextSize(
        int(counts @ characters_begun(tokenizer)), int(counts @ np.array(lengths, np.int64))
    )


def token_starts(
    tokenizer: Tokenizer, tokens: npt.NDArray[np.integer[Any]]
) -> npt.NDArray[np.int64]:
    """The first character of each token in the text of ``tokens`` [n], and its end: [n + 1].

    A token that only goes on with a character begins where that one ends. The token in which
    character c begins is the last i with ``starts[i] <= c``.
    """
    kinds, places = np.unique(tokens, return_inverse=True)
    begun = np.array([_begun(tokenizer.token_bytes(token)) for token in kinds.tolist()], np.int64)
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(begun[places])])


def unsaid_share(tokenizer: Tokenizer, text: str) -> float:
    """The share of a text's tokens that do not say it, as words outside the vocabulary do not.

    A loss about those is about less than the text, and none by its characters or bytes compares.
    """
    if tokenizer.is_lossless:
        return 0.0
    tokens, starts = tokenizer.encode_in_place(text)
    if tokenizer.decode(tokens.tolist()).removeprefix(" ") == text.removeprefix(" "):
        return 0.0  # a space may be put at the front
    places = zip(tokens.tolist(), starts.tolist(), starts[1:].tolist(), strict=False)
    unsaid = [shown_token(tokenizer, token) != text[start:stop] for token, start, stop in places]
    return sum(unsaid) / len(unsaid)


def shown_token(tokenizer: Tokenizer, token: int) -> str:
    """A token by itself: its text, or its bytes as ``<E2><82>`` where it is none."""
    return shown_bytes(tokenizer.token_bytes(token))


def shown_bytes(content: bytes) -> str:
    """Text by itself, or bytes as ``<E2><82>`` where they are none."""
    try:
        return content.decode()
    except UnicodeDecodeError:
        return "".join(f"<{byte:02X}>" for byte in content)


class SeenCharacters:
    """The distinct characters of a text that comes in pieces."""

    def __init__(self) -> None:
        self._seen = np.zeros(sys.maxunicode + 1, bool)
        self._known_bytes = b""

    def add(self, piece: str) -> None:
        """Take note of those of a piece."""
        # Bytes of ASCII are left out many times as fast as characters are looked up one by one.
        rest = piece.encode("utf-8", "surrogatepass").translate(None, self._known_bytes)
        if rest:
            characters = rest.decode("utf-8", "surrogatepass").encode("utf-32-le", "surrogatepass")
            self._seen[np.frombuffer(characters, np.uint32)] = True
            self._known_bytes = bytes(np.flatnonzero(self._seen[:_ASCII]).tolist())

    @property
    def vocabulary(self) -> str:
        """In code-point order."""
        return "".join(map(chr, np.flatnonzero(self._seen).tolist()))


class CharTokenizer(Tokenizer):
    """One id a character, in code-point order, fitted on a text.

    Args:
        text: The text whose distinct characters become the vocabulary; or call ``fit`` later.
    """

    name: ClassVar[str] = "char"

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
    def from_corpus(cls, pieces: Iterable[str], vocab_size: int | None = None) -> Self:
        """A tokenizer over the distinct characters of a text.

        Raises:
            UserError: The text is empty.
        """
        seen = SeenCharacters()
        for piece in pieces:
            seen.add(piece)
        return cls()._set(set(seen.vocabulary))

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

    def encode(self, text: str) -> TokenArray:
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

    def encode_stream(
        self, pieces: Iterable[str], *, is_beginning: bool = True
    ) -> Iterator[TokenArray]:
        """Ids of a text that comes in pieces.

        Raises:
            UnknownCharacterError: A character is not in the vocabulary; it is counted in the whole.
        """
        before = 0
        for piece in pieces:
            try:
                yield self.encode(piece)
            except UnknownCharacterError as error:
                raise UnknownCharacterError(error.character, before + error.position) from None
            before += len(piece)

    def token_bytes(self, token: int) -> bytes:
        """The character in UTF-8.

        Raises:
            UserError: The id is outside the vocabulary.
        """
        if not 0 <= token < len(self._characters):
            raise UserError(f"token ids must be below the vocabulary size {self.vocab_size}")
        return self._characters[token].encode("utf-8", "surrogatepass")

    def as_json(self) -> dict[str, Any]:
        """The characters in id order."""
        return {"characters": list(self._characters)}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Self:
        """The tokenizer of these characters.

        Raises:
            ValueError: They are not distinct characters in order.
        """
        characters = record.get("characters")
        if (
            not isinstance(characters, list)
            or not characters
            or not all(
                isinstance(c, str) and len(c) == 1 and not _is_surrogate(c) for c in characters
            )
            or characters != sorted(set(characters))
        ):
            raise ValueError("its characters are not distinct and in order")
        return cls.from_vocabulary(characters)


def load_tokenizer(path: Path) -> Tokenizer:
    """Read a tokenizer that was saved with a run, or as other programs save them.

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
    if not isinstance(record, dict) or not ("type" in record or "model" in record):
        raise UserError(f"{path} holds no tokenizer; name a tokenizer.json")
    name = record.get("type", "huggingface")  # without a type, as other programs write them
    if not isinstance(name, str) or name not in TOKENIZERS:
        raise UserError(
            f"{path} holds a tokenizer of unknown type {name!r}; update shakespeare-tui"
        )
    try:
        return tokenizer_kind(name).from_json(record)
    except ValueError as error:
        raise UserError(f"{path} is damaged: {error}") from None


def _is_surrogate(character: str) -> bool:
    """Whether it is half of a UTF-16 pair: no text has one, and none can be written as UTF-8."""
    return 0xD800 <= ord(character) <= 0xDFFF
