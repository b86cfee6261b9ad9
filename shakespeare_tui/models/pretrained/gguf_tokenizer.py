"""The tokenizer in a GGUF file, as Hugging Face writes it; and what GGUF calls its parts."""

from collections.abc import Mapping
from typing import Any, Protocol

from shakespeare_tui.data.tokenizers.hugging_face import characters_record
from shakespeare_tui.errors import UserError

CONTROL, USER_DEFINED = 3, 4
"""Types of tokens."""
SPACE = "\u2581"
"""How a SentencePiece vocabulary writes it."""
# Splits of text before byte-pair encoding, by `tokenizer.ggml.pre`: by llama.cpp's names.
_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_WORDS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_SPLITS = {
    "llama-bpe": rf"{_CONTRACTIONS}|{_WORDS}|\p{{N}}{{1,3}}|{_REST}",
    "qwen2": rf"{_CONTRACTIONS}|{_WORDS}|\p{{N}}|{_REST}",
}
_BY_GPT2 = ("gpt-2", "smollm")
_PRE_TOKENIZERS = (*_BY_GPT2, *_SPLITS)


class Settings(Protocol):
    """A file's settings.

    Attributes:
        origin: How messages name the file.
    """

    origin: str

    def value(self, key: str, default: Any = None) -> Any:
        """One of them."""


def tokenizer_record(file: Settings) -> dict[str, Any] | None:
    """The tokenizer as Hugging Face writes it; None where its kind cannot be read.

    Byte-level BPE can, and SentencePiece vocabularies of single characters.

    Raises:
        UserError: It is damaged.
    """
    kind, before = file.value("tokenizer.ggml.model"), file.value("tokenizer.ggml.pre", "gpt-2")
    tokens, merges = file.value("tokenizer.ggml.tokens"), file.value("tokenizer.ggml.merges", [])
    kinds = file.value("tokenizer.ggml.token_type", [])
    if kind not in ("gpt2", "llama"):
        return None
    if not isinstance(tokens, list) or not isinstance(merges, list) or not isinstance(kinds, list):
        raise UserError(f"{file.origin} is damaged: its tokenizer cannot be read")
    if kind == "llama":
        characters = [" " if token == SPACE else token for token in tokens]
        is_plain = all(len(c) == 1 for c in characters) and len(set(characters)) == len(tokens)
        return characters_record(characters) if is_plain else None
    if before not in _PRE_TOKENIZERS:
        return None
    added = [
        {
            "id": number,
            "content": token,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": kind == CONTROL,
        }
        for number, (token, kind) in enumerate(zip(tokens, kinds, strict=False))
        if kind in (CONTROL, USER_DEFINED)
    ]
    steps = _steps(before)
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": {"type": _normalizer(before)} if _normalizer(before) else None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": steps},
        "post_processor": None,
        "decoder": steps[-1],
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": before == "llama-bpe",
            "vocab": {token: number for number, token in enumerate(tokens)},
            "merges": merges,
        },
    }


def _steps(before: str) -> list[dict[str, Any]]:
    """How a text is split before byte-pair encoding."""
    byte_level = {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": before in _BY_GPT2,
    }
    if before == "smollm":
        return [{"type": "Digits", "individual_digits": True}, byte_level]
    if before in _SPLITS:
        split = {"type": "Split", "behavior": "Isolated", "invert": False}
        return [{**split, "pattern": {"Regex": _SPLITS[before]}}, byte_level]
    return [byte_level]


def _normalizer(before: str) -> str | None:
    return "NFC" if before == "qwen2" else None


def splits_of_text(record: Mapping[str, Any]) -> str | None:
    """What GGUF calls the way in which a ``tokenizer.json`` splits text; None for no such name."""
    before = record.get("pre_tokenizer") or {}
    steps = before.get("pretokenizers", [before])
    normalizer = (record.get("normalizer") or {}).get("type")
    for name in _PRE_TOKENIZERS:
        same = _alike(steps) == _alike(_steps(name)) and normalizer == _normalizer(name)
        if same and record["model"].get("ignore_merges", False) == (name == "llama-bpe"):
            return name
    return None


def _alike(steps: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without what does not decide the tokens."""
    return [{key: value for key, value in step.items() if key != "trim_offsets"} for step in steps]
