"""The kinds of tokenizers by name; none is loaded before it is used.

A new kind is a class that derives from ``tokenizer.Tokenizer``, and a line here.
"""

import importlib
import re
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


TOKENIZER_FILE = r"[/\\]|\.(json|gguf)$"
"""What names a file or a folder, in place of a kind, holds this."""
NEW_KINDS = tuple(kind for kind in TOKENIZERS if kind != "huggingface")
"""The kinds that can be had without a file."""


def is_tokenizer_file(spec: str) -> bool:
    """Whether ``data.tokenizer`` names a file or a folder, and no kind."""
    return re.search(TOKENIZER_FILE, spec, re.IGNORECASE) is not None


def token_noun(spec: object) -> str:
    """What a token of a tokenizer, as ``data.tokenizer`` has it, is called beside a loss."""
    return "word" if spec == "word" else "token"


def tokenizer_kind(name: str) -> "type[Tokenizer]":
    """The class of a kind.

    Raises:
        KeyError: There is none of that name.
    """
    module, _, kind = TOKENIZERS[name].partition(":")
    found: type[Tokenizer] = getattr(importlib.import_module(module), kind)
    return found
