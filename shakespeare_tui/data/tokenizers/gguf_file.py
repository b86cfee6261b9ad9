"""GGUF files, llama.cpp's, by the ``gguf`` package: settings, tensors, and the tokenizer."""

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from shakespeare_tui.data.tokenizers.chat_template import ChatTemplate
from shakespeare_tui.data.tokenizers.hugging_face import HuggingFaceTokenizer, characters_record
from shakespeare_tui.errors import UserError

# What the package's reader makes of a file that is cut short or damaged.
_DAMAGE = (ValueError, IndexError, KeyError, TypeError, OverflowError, struct.error, EOFError)
_MODEL = "tokenizer.ggml.model"
NORMAL, CONTROL, USER_DEFINED = 1, 3, 4
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


class GgufFile:
    """The settings and tensors of a file.

    Args:
        path: Where.

    Raises:
        UserError: It is damaged, or the package is missing.
    """

    def __init__(self, path: Path) -> None:
        self.origin = str(path)
        try:
            from gguf import GGUFReader
        except ImportError:
            raise UserError(
                "reading GGUF files takes a package that is not installed: "
                "pip install 'shakespeare-tui[gguf]'"
            ) from None
        try:
            self._reader: GGUFReader = GGUFReader(path)
            self._tensors = {tensor.name: tensor for tensor in self._reader.tensors}
            self.shapes = {
                name: tuple(int(size) for size in reversed(tensor.shape))
                for name, tensor in self._tensors.items()
            }
        except _DAMAGE as error:
            raise UserError(
                f"{path} is cut short, damaged or no GGUF file ({str(error).splitlines()[0]}); "
                "fetch it again"
            ) from None

    def value(self, key: str, default: Any = None) -> Any:
        """A setting."""
        field = self._reader.fields.get(key)
        if field is None:
            return default
        try:
            return field.contents()
        except _DAMAGE:
            raise UserError(f"{self.origin} is damaged: {key} cannot be read") from None

    def number(self, key: str, default: int | None = None) -> int:
        """A whole number above 0."""
        value = self.value(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 1 << 31:
            raise UserError(f"{self.origin}: {key} must be a whole number above 0, got {value!r}")
        return value

    def real(self, key: str, default: float) -> float:
        """A number, which is kept in 32 bits: as it was before."""
        return float(f"{float(self.value(key, default)):.7g}")

    def read(self, name: str) -> npt.NDArray[np.float32]:
        """One tensor in float32."""
        from gguf import dequantize

        tensor = self._tensors[name]
        try:
            array = dequantize(tensor.data, tensor.tensor_type)
        except (NotImplementedError, *_DAMAGE):
            kind = tensor.tensor_type.name
            raise UserError(
                f"{self.origin}: {name} is quantised as {kind}, which cannot be read"
            ) from None
        # A copy: the array may be a view of the file.
        return np.array(array, np.float32)

    def is_same(self, one: str, other: str) -> bool:
        """Whether two tensors are the same bytes."""
        first, second = self._tensors[one], self._tensors[other]
        is_same_kind = first.tensor_type == second.tensor_type
        return is_same_kind and np.array_equal(first.data, second.data)


def gguf_tokenizer(path: Path) -> HuggingFaceTokenizer:
    """The tokenizer in a file, without its weights.

    Raises:
        UserError: The file is damaged, or its tokenizer is of a kind that cannot be read.
    """
    file = GgufFile(path)
    record = tokenizer_record(file)
    if record is None:
        raise UserError(f"{path}: {tokenizer_problem(file)}; give a tokenizer.json")
    try:
        return HuggingFaceTokenizer(record)
    except ValueError as error:
        raise UserError(f"{path} is damaged: {error}") from None


def tokenizer_problem(file: GgufFile) -> str:
    """Of a file that brings no tokenizer that can be read: why that is so."""
    kind, before = file.value(_MODEL), file.value("tokenizer.ggml.pre", "")
    if kind is None:
        return "it has no tokenizer"
    detail = f" with tokenizer.ggml.pre {before!r}" if kind == "gpt2" and before else ""
    return f"its tokenizer is of the kind {kind!r}{detail}, which cannot be read exactly"


def tokenizer_record(file: GgufFile) -> dict[str, Any] | None:
    """The tokenizer as Hugging Face writes it; None where its kind is not known.

    Raises:
        UserError: It is damaged.
    """
    kind, before = file.value(_MODEL), file.value("tokenizer.ggml.pre", "gpt-2")
    if kind == "gpt2" and before in _PRE_TOKENIZERS:
        return _record(file, **_byte_pairs(file, before))
    if kind == "llama":
        return _characters(file) or _record(file, **_sentence_pieces(file))
    return None


def chat_template(file: GgufFile) -> ChatTemplate | None:
    """How the model reads chats; None where it was not made for them."""
    tokens = _list(file, "tokens")

    def named(end: str) -> str:
        number = file.value(f"tokenizer.ggml.{end}_token_id")
        known = isinstance(number, int) and 0 <= number < len(tokens)
        return str(tokens[number]) if known else ""

    record = {
        "chat_template": file.value("tokenizer.chat_template"),
        "bos_token": named("bos"),
        "eos_token": named("eos"),
    }
    return ChatTemplate.from_tokenizer_config(record)


def _list(file: GgufFile, name: str) -> list[Any]:
    found = file.value(f"tokenizer.ggml.{name}", [])
    if not isinstance(found, list):
        raise UserError(f"{file.origin} is damaged: its tokenizer cannot be read")
    return found


def _record(
    file: GgufFile,
    normalizer: dict[str, Any] | None,
    pre_tokenizer: dict[str, Any] | None,
    decoder: dict[str, Any],
    **model: Any,
) -> dict[str, Any]:
    tokens, kinds = _list(file, "tokens"), _list(file, "token_type")
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
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": None,
        "decoder": decoder,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {token: number for number, token in enumerate(tokens)},
            **model,
        },
    }


def _byte_pairs(file: GgufFile, before: str) -> dict[str, Any]:
    steps = _steps(before)
    return {
        "normalizer": {"type": _normalizer(before)} if _normalizer(before) else None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": steps},
        "decoder": steps[-1],
        "ignore_merges": before == "llama-bpe",
        "merges": _list(file, "merges"),
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


def _characters(file: GgufFile) -> dict[str, Any] | None:
    """The tokenizer of a vocabulary of single characters, as exports of this program have it."""
    tokens = _list(file, "tokens")
    characters = [" " if token == SPACE else token for token in tokens]
    is_plain = all(len(c) == 1 for c in characters) and len(set(characters)) == len(tokens)
    if not is_plain or file.value("tokenizer.ggml.add_space_prefix", True):
        return None
    return characters_record(characters)


def _sentence_pieces(file: GgufFile) -> dict[str, Any]:
    """SentencePiece's byte-pair encoding (arXiv:1808.06226), as llama.cpp and its authors run it.

    Of two neighbours the pair is joined that makes the piece with the highest score, the leftmost
    of equals; what is no piece becomes bytes. So the merges are all ways to cut a piece into two,
    those of the highest score first. Only pieces of text are joined: bytes, control and unknown
    tokens never come of it.
    """
    tokens, kinds = _list(file, "tokens"), _list(file, "token_type")
    scores = _list(file, "scores")
    if len(scores) != len(tokens) or len(kinds) != len(tokens):
        raise UserError(f"{file.origin} is damaged: its tokenizer's scores are not of its tokens")
    pieces = {
        token: (-score, number)
        for number, (token, score, kind) in enumerate(zip(tokens, scores, kinds, strict=True))
        if kind == NORMAL
    }
    ranked = [
        (*rank, place, token)
        for token, rank in pieces.items()
        for place in range(1, len(token))
        if token[:place] in pieces and token[place:] in pieces
    ]
    unknown = file.value("tokenizer.ggml.unknown_token_id")
    has_unknown = isinstance(unknown, int) and 0 <= unknown < len(tokens)
    spaces = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
    steps = [{"type": "Prepend", "prepend": SPACE}, spaces]
    return {
        "normalizer": {
            "type": "Sequence",
            "normalizers": steps
            if file.value("tokenizer.ggml.add_space_prefix", True)
            else [spaces],
        },
        "pre_tokenizer": None,
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
                {"type": "Strip", "content": " ", "start": 1, "stop": 0},
            ],
        },
        "unk_token": tokens[unknown] if has_unknown else None,
        "fuse_unk": True,
        "byte_fallback": "<0x00>" in tokens,
        "merges": [[token[:place], token[place:]] for _, _, place, token in sorted(ranked)],
    }
