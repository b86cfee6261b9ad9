"""The kinds of tokenizers by name; none is loaded before it is used.

A new kind is a class that derives from ``tokenizer.Tokenizer``, and a line here.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shakespeare_tui.data.tokenizers.tokenizer import Tokenizer

TOKENIZERS: dict[str, str] = {
    "char": "shakespeare_tui.data.tokenizers.tokenizer:CharTokenizer",
    "bpe": "shakespeare_tui.data.tokenizers.byte_pair:BytePairTokenizer",
    "gpt2": "shakespeare_tui.data.tokenizers.byte_pair:Gpt2Tokenizer",
    "word": "shakespeare_tui.data.tokenizers.word:WordTokenizer",
    "huggingface": "shakespeare_tui.data.tokenizers.hugging_face:HuggingFaceTokenizer",
}
"""``module:Class`` by the name that stands in ``data.tokenizer`` and in ``tokenizer.json``."""


def tokenizer_kind(name: str) -> "type[Tokenizer]":
    """The class of a kind.

    Raises:
        KeyError: There is none of that name.
    """
    module, _, kind = TOKENIZERS[name].partition(":")
    found: type[Tokenizer] = getattr(importlib.import_module(module), kind)
    return found
