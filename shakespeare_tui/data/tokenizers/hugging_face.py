"""Tokenizers that Hugging Face's ``tokenizers`` runs: of pretrained models, any ``tokenizer.json``.

The run's own ``tokenizer.json`` is such a file, which ``tokenizers`` and ``transformers`` open.
"""

import functools
import hashlib
import itertools
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import tokenizers

from shakespeare_tui.data.tokenizers.tokenizer import (
    CharTokenizer,
    TokenArray,
    Tokenizer,
    smallest_dtype,
)
from shakespeare_tui.errors import UserError
from shakespeare_tui.files import write_json_atomically

END_OF_TEXT = "<|endoftext|>"
# Of a document, or of a turn of a conversation, by the families of models that can be imported.
_ENDS = {
    END_OF_TEXT,
    "<|im_end|>",
    "<|end_of_text|>",
    "<|eot_id|>",
    "<|end|>",
    "<end_of_turn>",
    "<eos>",
    "</s>",
}
_NO_UTF8 = "the text holds characters that no UTF-8 has; remove them"
_PIECE_CHARACTERS = 1 << 16
_PIECES_AT_ONCE = 16
_MANY_TOKENS = 4096
# Before a space, or before any white space behind a letter or digit: there no split of words that
# passes ``_PROBES`` looks across.
_CUT = re.compile(r"(?<=\S)(?= )|(?<=[^\W_])(?=\s)")
_PROBES = [
    (before + behind, len(before))
    for before in ("a", "1", "é", "中", "it's")
    for behind in (" ", "  b", " b", "\n", "\n\nb", "\tb", "\r\n", " 1", " .", "\n ")
] + [(f"{before} {behind}", len(before)) for before in (".", "_", "a'", "…") for behind in "b1."]
# Normalizers that look at one character and its marks only: a piece gives what the whole gives.
_LOCAL_NORMALIZERS = ("NFC", "NFD", "NFKC", "NFKD", "Lowercase")
_ANY_CHARACTER = r"[\s\S]"
_SPACE = "\u2581"
_SPACES = {"type": "Replace", "pattern": {"String": " "}, "content": _SPACE}
_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")


@functools.cache
def byte_of_letter() -> dict[str, int]:
    """The bytes by the letters that stand for them in byte-level vocabularies, as GPT-2 has them.

    Their order is that of GPT-2's ids.
    """
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = {chr(byte): byte for byte in shown}
    hidden = (byte for byte in range(256) if byte not in set(shown))
    return letters | {chr(256 + place): byte for place, byte in enumerate(hidden)}


def as_hugging_face(tokenizer: Tokenizer) -> dict[str, Any]:
    """A ``tokenizer.json`` that ``tokenizers`` and ``transformers`` open, of any tokenizer.

    Characters become a vocabulary of words of one character; one that is not in it is refused.

    Raises:
        UserError: There can be none.
    """
    if isinstance(tokenizer, HuggingFaceTokenizer):
        return tokenizer.as_json()
    if not isinstance(tokenizer, CharTokenizer):
        raise UserError(f"data.tokenizer {tokenizer.name} cannot be written as a tokenizer.json")
    return characters_record(list(tokenizer.vocab))


def characters_record(characters: Sequence[str]) -> dict[str, Any]:
    """The ``tokenizer.json`` whose ids are these characters in their order."""
    vocab = {character: number for number, character in enumerate(characters)}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Split",
            "pattern": {"Regex": _ANY_CHARACTER},
            "behavior": "Isolated",
            "invert": False,
        },
        "post_processor": None,
        "decoder": {"type": "Fuse"},
        # No unknown word: what has no token is refused, not passed over.
        "model": {"type": "WordLevel", "vocab": vocab, "unk_token": ""},
    }


class HuggingFaceTokenizer(Tokenizer):
    """The tokenizer of a ``tokenizer.json``.

    Args:
        record: Its content.

    Raises:
        ValueError: ``tokenizers`` cannot make a tokenizer of it.
    """

    name: ClassVar[str] = "huggingface"

    def __init__(self, record: Mapping[str, Any]) -> None:
        self._record = dict(record)
        self._backend = _backend(self._record)
        decoder = json.dumps(self._record.get("decoder"), ensure_ascii=False)
        self._is_byte_level = "ByteLevel" in decoder
        self._is_metaspace = "Metaspace" in decoder or _SPACE in decoder

    @classmethod
    def from_corpus(cls, pieces: Iterable[str], vocab_size: int | None = None) -> Self:
        """There is none of a text alone.

        Raises:
            UserError: Always.
        """
        raise UserError(
            "a tokenizer of this kind comes with a pretrained model; start from an imported run, "
            "or name a file: --set data.tokenizer=PATH/tokenizer.json"
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

    @property
    def is_lossless(self) -> bool:
        """Whether every byte has a token, and nothing changes the text before."""
        return self._is_byte_level and not _flattened(self._record.get("normalizer"))

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

    @functools.cached_property
    def vocab_size(self) -> int:
        """Number of ids."""
        return max(self._backend.get_vocab(with_added_tokens=True).values(), default=-1) + 1

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
        return self._encode_batch([text])

    def _encode_batch(self, texts: list[str]) -> TokenArray:
        """Ids of the texts one after the other; several are encoded in several threads."""
        try:
            found = self._backend.encode_batch_fast(texts, add_special_tokens=False)
        except (UnicodeEncodeError, TypeError):
            raise UserError(_NO_UTF8) from None
        except Exception as error:  # noqa: BLE001 — the package raises nothing narrower
            raise UserError(
                f"the text holds something that the vocabulary does not ({error})"
            ) from None
        dtype = smallest_dtype(self.vocab_size)
        return np.concatenate([np.array(encoding.ids, dtype) for encoding in found])

    def encode_stream(
        self, pieces: Iterable[str], *, is_beginning: bool = True
    ) -> Iterator[TokenArray]:
        """Ids of a text that comes in pieces: together those of the whole, however it was cut."""
        texts = whole_words(pieces) if self._splits_words else iter(["".join(pieces)])
        if is_beginning and (first := next(texts, "")):
            yield self._encode_batch([first])
        while batch := list(itertools.islice(texts, _PIECES_AT_ONCE)):
            yield self._inside._encode_batch(batch)

    def cuts(self, text: str) -> Sequence[int]:
        """Places between words; none where tokens may reach from one into the next."""
        return [found.start() for found in _CUT.finditer(text)] if self._splits_words else []

    def encode_in_place(
        self, text: str, *, is_beginning: bool = True
    ) -> tuple[TokenArray, npt.NDArray[np.int64]]:
        """Ids of ``text`` and where each begins in it, though it may say something else."""
        if self.is_lossless:
            return super().encode_in_place(text, is_beginning=is_beginning)
        try:
            tokenizer = self if is_beginning else self._inside
            found = tokenizer._unprocessed.encode(text, add_special_tokens=False)
        except (UnicodeEncodeError, TypeError):
            raise UserError(_NO_UTF8) from None
        ends = np.array([stop for _, stop in found.offsets], np.int64)
        starts = np.concatenate([[0], np.maximum.accumulate(ends)]) if len(ends) else [0]
        return np.array(found.ids, smallest_dtype(self.vocab_size)), np.asarray(starts, np.int64)

    @functools.cached_property
    def _unprocessed(self) -> tokenizers.Tokenizer:
        """Finds where tokens lie in a text: a post-processor would leave out spaces."""
        return _backend({**self._record, "post_processor": None})

    @functools.cached_property
    def _inside(self) -> "HuggingFaceTokenizer":
        """The same for a text before which another one stands: no space is put at its front."""
        record = _without_front(self._record)
        is_same = all(
            _flattened(record[key]) == _flattened(self._record.get(key))
            for key in ("normalizer", "pre_tokenizer")
        )
        return self if is_same else HuggingFaceTokenizer(record)

    @functools.cached_property
    def _splits_words(self) -> bool:
        """Whether the text may be cut between words, as no token reaches from one into the next."""
        record = self._inside._record
        steps = _flattened(record.get("normalizer"))
        if not all(step["type"] in _LOCAL_NORMALIZERS or step == _SPACES for step in steps):
            return False
        before = self._inside._backend.pre_tokenizer
        if before is None or all(map(_cuts_nothing, _flattened(record["pre_tokenizer"]))):
            # Then pairs are merged in all of the text, but only to what is a token.
            tokens = self._backend.get_vocab(with_added_tokens=True)
            is_pairs = record["model"].get("type") == "BPE"
            return is_pairs and not any(_CUT.search(token.replace(_SPACE, " ")) for token in tokens)
        return all(
            place in {start for _, (start, _) in before.pre_tokenize_str(text)}
            for text, place in _PROBES
        )

    def token_bytes(self, token: int) -> bytes:
        """What an id stands for: UTF-8, perhaps of a part of a character.

        Raises:
            UserError: The id is outside the vocabulary.
        """
        if not 0 <= token < self.vocab_size:
            raise UserError(f"token ids must be below the vocabulary size {self.vocab_size}")
        return self._bytes[token]

    @functools.cached_property
    def end_tokens(self) -> frozenset[int]:
        """Those special tokens that end a text in the usual formats."""
        added = self._record.get("added_tokens") or []
        return frozenset(
            entry["id"] for entry in added if entry.get("special") and entry["content"] in _ENDS
        )

    @property
    def merges(self) -> list[tuple[bytes, bytes]]:
        """The pairs that were joined, in the order in which they were learned; none without BPE."""
        pairs = self._record["model"].get("merges") or []
        texts = (pair.split(" ") if isinstance(pair, str) else pair for pair in pairs)
        return [(self._plain(first), self._plain(second)) for first, second in texts]

    @functools.cached_property
    def _bytes(self) -> list[bytes]:
        added = {entry["id"] for entry in self._record.get("added_tokens") or []}
        found = [b""] * self.vocab_size
        for text, token in self._backend.get_vocab(with_added_tokens=True).items():
            found[token] = text.encode() if token in added else self._plain(text)
        return found

    def _plain(self, text: str) -> bytes:
        if self._is_byte_level:
            letters = byte_of_letter()
            if all(letter in letters for letter in text):
                return bytes(letters[letter] for letter in text)
        elif byte := _BYTE_TOKEN.fullmatch(text):
            return bytes([int(byte[1], 16)])
        return (text.replace(_SPACE, " ") if self._is_metaspace else text).encode()

    def sampling_defaults(self) -> Mapping[str, int | float]:
        """What suits tokens of some four bytes, or of some two where there are few of them."""
        if self.vocab_size < _MANY_TOKENS:
            return {"mirostat": 2.2, "mirostat1": 2.2, "dry.allowed": 8, "no_repeat_ngram": 12}
        return {"mirostat": 3.5, "mirostat1": 3.5, "dry.allowed": 4, "no_repeat_ngram": 6}


def _backend(record: Mapping[str, Any]) -> tokenizers.Tokenizer:
    # Without it, the package warns on stderr, also in the lab, when a process forks that has
    # encoded in several threads.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    try:
        backend = tokenizers.Tokenizer.from_str(json.dumps(record))
    except Exception as error:  # noqa: BLE001 — the package raises nothing narrower
        raise ValueError(f"no tokenizer can be made of it ({error})") from None
    backend.no_padding()
    backend.no_truncation()
    return backend


def _flattened(step: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    """A normalizer or a pre-tokenizer, or those that one is a sequence of."""
    if step is None:
        return []
    inner = step.get("normalizers", step.get("pretokenizers"))
    return [step] if inner is None else [part for one in inner for part in _flattened(one)]


def _without_front(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record whose tokenizer puts no space before a text."""
    steps = [step for step in _flattened(record.get("normalizer")) if step["type"] != "Prepend"]
    before = []
    for step in _flattened(record.get("pre_tokenizer")):
        silent = dict(step)
        if "prepend_scheme" in silent:
            silent["prepend_scheme"] = "never"
        elif step["type"] == "Metaspace" or silent.get("add_prefix_space"):
            silent["add_prefix_space"] = False
        before.append(silent)
    return {
        **record,
        "normalizer": {"type": "Sequence", "normalizers": steps} if steps else None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": before} if before else None,
    }


def _cuts_nothing(step: Mapping[str, Any]) -> bool:
    return step["type"] == "Metaspace" and not step.get("split", True)


def whole_words(pieces: Iterable[str], least: int = _PIECE_CHARACTERS) -> Iterator[str]:
    """The same text, cut between words only, into pieces of at least so many characters."""
    waiting, searched = "", 0
    for piece in pieces:
        waiting += piece
        start = 0
        while match := _CUT.search(waiting, max(start + least, searched)):
            yield waiting[start : match.start()]
            start = match.start()
        waiting = waiting[start:]
        # A cut at the end shows when the character behind it is there.
        searched = max(0, len(waiting) - 1)
    if waiting:
        yield waiting
