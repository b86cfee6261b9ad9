"""Exported files that are read again: ONNX graphs and GGUF files, to be measured and decoded.

An ONNX file of ours holds the run's config and tokenizer among its metadata, a GGUF file the
config; GGUF files of others are read too, and have no corpus of their own.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shakespeare_tui.config.load import parse_config
from shakespeare_tui.config.schema import Config
from shakespeare_tui.data.tokenizers.chat_template import ChatTemplate
from shakespeare_tui.data.tokenizers.hugging_face import HuggingFaceTokenizer
from shakespeare_tui.data.tokenizers.kinds import TOKENIZERS, tokenizer_kind
from shakespeare_tui.data.tokenizers.tokenizer import Tokenizer
from shakespeare_tui.errors import UserError
from shakespeare_tui.files import parse_json

if TYPE_CHECKING:
    from shakespeare_tui.decoding.factory import AnyModel

CONFIG_KEY, TOKENIZER_KEY = "shakespeare_tui.config", "shakespeare_tui.tokenizer"
"""Of the metadata: the run's config as YAML, its tokenizer as JSON."""
_SUFFIXES = (".onnx", ".gguf")


@dataclass(frozen=True, eq=False)
class ExportedFile:
    """A model in a file.

    Attributes:
        path: Where.
        model: To be decoded with and measured.
        tokenizer: The model's.
        config: Of the run that it was exported from; None in files of other programs.
        chat_template: None where it was not made for chats.
    """

    path: Path
    model: "AnyModel"
    tokenizer: Tokenizer
    config: Config | None
    chat_template: ChatTemplate | None = None


def is_exported_file(reference: str) -> bool:
    """Whether a user names such a file, there or not, and no run."""
    return Path(reference).suffix.lower() in _SUFFIXES


def open_exported_file(path: Path) -> ExportedFile:
    """Read a file.

    Raises:
        UserError: It is not there, damaged, of another kind, or a package is missing.
    """
    if not path.is_file():
        raise UserError(f"there is no file {str(path)!r}; check the path")
    return _open_onnx(path) if path.suffix.lower() == ".onnx" else _open_gguf(path)


def _open_onnx(path: Path) -> ExportedFile:
    from shakespeare_tui.decoding.onnx_decoder import open_onnx

    make_model, metadata = open_onnx(path)
    if not metadata.keys() >= {CONFIG_KEY, TOKENIZER_KEY}:
        raise UserError(
            f"{path} was not exported by this program: it holds no tokenizer; export the run again"
        )
    config = parse_config(metadata[CONFIG_KEY], str(path))
    tokenizer, template = _tokenizer(metadata[TOKENIZER_KEY], path)
    return ExportedFile(path, make_model(config.model), tokenizer, config, template)


def tokenizer_text(tokenizer: Tokenizer, chat_template: ChatTemplate | None) -> str:
    """A tokenizer for the metadata, with how chats are written."""
    record: dict[str, Any] = {"type": tokenizer.name, "record": tokenizer.as_json()}
    if chat_template is not None:
        record["chat_template"] = chat_template.as_json()
    return json.dumps(record, ensure_ascii=False)


def _tokenizer(text: str, path: Path) -> tuple[Tokenizer, ChatTemplate | None]:
    try:
        record: dict[str, Any] = parse_json(text)
        chats = record.get("chat_template")
        template = None if chats is None else ChatTemplate.from_json(chats)
        if record["type"] in TOKENIZERS:
            return tokenizer_kind(record["type"]).from_json(record["record"]), template
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is damaged: its tokenizer cannot be read ({error})") from None
    raise UserError(f"{path} holds a tokenizer of unknown type; update shakespeare-tui")


def _open_gguf(path: Path) -> ExportedFile:
    from shakespeare_tui.data.tokenizers.gguf_file import GgufFile
    from shakespeare_tui.models.pretrained.gguf_file import read_gguf

    text = GgufFile(path).value(CONFIG_KEY)
    pretrained = read_gguf(path)
    config = None if text is None else parse_config(text, str(path))
    if config is not None:
        pretrained.model.context = min(config.seq_len, pretrained.model.context)
    if pretrained.tokenizer is None:
        raise UserError(f"{path}: {pretrained.tokenizer_problem}, so that its text cannot be read")
    try:
        tokenizer = HuggingFaceTokenizer(pretrained.tokenizer)
    except ValueError as error:
        raise UserError(f"{path} is damaged: {error}") from None
    return ExportedFile(path, pretrained.model, tokenizer, config, pretrained.chat_template)
