"""Tokens that are words, as in the word-level releases of WikiText."""

import sys
from collections.abc import Iterable
from typing import ClassVar, Self

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from shakespeare_tui.data.tokenizers.hugging_face import HuggingFaceTokenizer, whole_words
from shakespeare_tui.errors import UserError
from shakespeare_tui.files import parse_json

UNKNOWN = " <unk>"
"""What a word outside the vocabulary becomes: a word of its own in WikiText."""
_WORDS = r" ?\S+| ?\n|\s"
_MOST_WORDS = 1_000_000


class WordTokenizer(HuggingFaceTokenizer):
    """One id a word with the space before it, and one a line's end.

    Of WikiText this gives the tokens that published losses are counted in: every word, and each
    line's end. The text comes back as it was, but for words outside the vocabulary.
    """

    name: ClassVar[str] = "word"
    learned_bytes: ClassVar[int] = sys.maxsize

    @classmethod
    def from_corpus(cls, pieces: Iterable[str], vocab_size: int | None = None) -> Self:
        """The distinct words of a text, the most frequent ones where they are too many.

        Raises:
            UserError: ``vocab_size`` has no room for a word beside the unknown one.
        """
        if vocab_size is not None and vocab_size < 2:
            raise UserError(
                f"data.vocab_size must be at least 2 for word, which has {UNKNOWN.strip()} as a "
                f"token; got {vocab_size}"
            )
        backend = tokenizers.Tokenizer(models.WordLevel())
        backend.pre_tokenizer = pre_tokenizers.Split(tokenizers.Regex(_WORDS), "isolated")
        trainer = trainers.WordLevelTrainer(
            vocab_size=vocab_size or _MOST_WORDS, show_progress=False
        )
        backend.train_from_iterator(whole_words(pieces), trainer)
        ids = backend.get_vocab()
        words = sorted(ids, key=lambda word: ids[word])
        if UNKNOWN not in ids:
            words = [UNKNOWN, *words[: None if vocab_size is None else vocab_size - 1]]
        vocab = {word: number for number, word in enumerate(words)}
        backend.model = models.WordLevel(vocab, unk_token=UNKNOWN)
        backend.decoder = decoders.Fuse()
        return cls(parse_json(backend.to_str().encode()))
