"""Byte-pair encodings: one learned from the corpus, and GPT-2's.

Both are what Hugging Face's ``tokenizers`` makes of them, and are saved as such.
"""

import hashlib
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar, Self

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from shakespeare_tui.data.catalogue import GPT2_MERGES
from shakespeare_tui.data.tokenizers.hugging_face import (
    END_OF_TEXT,
    HuggingFaceTokenizer,
    byte_of_letter,
    whole_words,
)
from shakespeare_tui.errors import UserError
from shakespeare_tui.files import parse_json
from shakespeare_tui.paths import cache_folder

USUAL_VOCAB_SIZE = 512
_BYTES = 256
_GPT2_VOCAB_SIZE = 50257


class BytePairTokenizer(HuggingFaceTokenizer):
    """Byte-level BPE learned from the corpus (arXiv:1508.07909; words split as GPT-2 splits them).

    The end of a text, all bytes and the learned merges: every text can be written.
    """

    name: ClassVar[str] = "bpe"
    # Enough for every pair that is worth a token, and little enough to be counted in seconds.
    learned_bytes: ClassVar[int] = 1 << 27

    @classmethod
    def from_corpus(cls, pieces: Iterable[str], vocab_size: int | None = None) -> Self:
        """Learn merges from a text, of which only its distinct words are held.

        Raises:
            UserError: ``vocab_size`` has no room for the bytes.
        """
        vocab_size = vocab_size or USUAL_VOCAB_SIZE
        if vocab_size <= _BYTES:
            raise UserError(
                f"data.vocab_size must be at least {_BYTES + 1} for bpe, which has every byte and "
                f"the end of a text as tokens; got {vocab_size}"
            )
        backend = tokenizers.Tokenizer(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=[END_OF_TEXT],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        backend.train_from_iterator(whole_words(pieces), trainer)
        return cls(_record(backend))


class Gpt2Tokenizer(HuggingFaceTokenizer):
    """GPT-2's byte-pair encoding: the same ids as ``tiktoken``'s ``gpt2``."""

    name: ClassVar[str] = "gpt2"

    @classmethod
    def to_fetch(cls) -> str:
        """Its merges, where neither this program nor tiktoken has fetched them."""
        return "" if _merges_at_hand() else "GPT-2's vocabulary is not fetched yet"

    @classmethod
    def from_corpus(cls, pieces: Iterable[str], vocab_size: int | None = None) -> Self:
        """The tokenizer; the text is not read. Its merges are fetched where they are missing.

        Raises:
            UserError: The merges cannot be had, or another vocabulary is asked for.
        """
        if vocab_size not in (None, _GPT2_VOCAB_SIZE):
            raise UserError(
                f"gpt2 has {_GPT2_VOCAB_SIZE:,} tokens; leave data.vocab_size empty, "
                f"got {vocab_size}"
            )
        return cls.from_merges(_merges_at_hand() or _fetch_merges())

    @classmethod
    def from_merges(cls, text: str) -> Self:
        """The tokenizer of the content of OpenAI's ``vocab.bpe``.

        Ids are the bytes as GPT-2 orders them, the merges, then the end of a text.
        """
        merges = [tuple(line.split(" ")) for line in text.splitlines()[1:] if line]
        vocab = [*byte_of_letter(), *("".join(pair) for pair in merges), END_OF_TEXT]
        ids = {token: number for number, token in enumerate(vocab)}
        backend = tokenizers.Tokenizer(models.BPE(ids, [(a, b) for a, b in merges]))
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        backend.add_special_tokens([END_OF_TEXT])
        return cls(_record(backend))


def _record(backend: tokenizers.Tokenizer) -> dict[str, Any]:
    record: dict[str, Any] = parse_json(backend.to_str().encode())
    return record


def _merges_at_hand() -> str | None:
    """``vocab.bpe`` as this program or tiktoken has kept it; what is damaged does not count."""
    from shakespeare_tui.data.download import cached_file

    kept = [cached_file(GPT2_MERGES, cache_folder() / "models" / "gpt2_merges")]
    for source in GPT2_MERGES.sources:
        if url := getattr(source, "url", None):
            kept.append(_tiktoken_cache() / hashlib.sha1(url.encode()).hexdigest())
    for path in kept:
        if path is not None and path.is_file():
            content = path.read_bytes()
            if hashlib.sha256(content).hexdigest() == GPT2_MERGES.sha256:
                return content.decode()
    return None


def _tiktoken_cache() -> Path:
    """Where ``tiktoken.load.read_file_cached`` keeps what it has fetched."""
    for name in ("TIKTOKEN_CACHE_DIR", "DATA_GYM_CACHE_DIR"):
        if name in os.environ:
            return Path(os.environ[name])
    return Path(tempfile.gettempdir()) / "data-gym-cache"


def _fetch_merges() -> str:
    from shakespeare_tui.data.download import FetchFailedError, fetch_files

    try:
        path = fetch_files("gpt2_merges", [GPT2_MERGES]) / GPT2_MERGES.name
    except FetchFailedError as error:
        raise UserError(
            f"{error.reason}; connect to the network once, or use --set data.tokenizer=bpe"
        ) from None
    return path.read_text(encoding="utf-8")
