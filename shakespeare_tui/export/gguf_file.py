"""A GGUF file, llama.cpp's, by the ``gguf`` package: Llama's family and GPT-2, tokenizer inside."""

from pathlib import Path
from typing import Any

import numpy as np

from shakespeare_tui.config.schema import ModelConfig
from shakespeare_tui.config.write import config_to_yaml
from shakespeare_tui.data.tokenizers.gguf_file import (
    CONTROL,
    NORMAL,
    SPACE,
    USER_DEFINED,
    gguf_tokenizer,
    splits_of_text,
)
from shakespeare_tui.data.tokenizers.hugging_face import HuggingFaceTokenizer
from shakespeare_tui.data.tokenizers.tokenizer import CharTokenizer, Tokenizer
from shakespeare_tui.decoding.exported_file import CONFIG_KEY
from shakespeare_tui.errors import UserError
from shakespeare_tui.export.families import Equivalent, Reader, check_families, equivalent
from shakespeare_tui.export.registry import Reopened
from shakespeare_tui.export.source import ExportSource, Options, need
from shakespeare_tui.export.verify import prompt_tokens
from shakespeare_tui.models.positions import rotary_frequencies
from shakespeare_tui.models.pretrained.layouts import GGUF_FAMILIES, lay_out

_READER = Reader("gguf", ("gpt2", "llama", "qwen3"), has_gated_relu=False, has_all_biases=False)
# Tables of positions are added, not multiplied with: llama.cpp keeps them whole.
_WHOLE = ("position_embd.weight", "rope_freqs.weight")
_BLOCK = 32
"""Weights that share a scale in Q8_0; a matrix of other widths is kept in 16 bits."""


def check(source: ExportSource, options: Options) -> None:
    """The package must be there, and model and tokenizer have an equivalent."""
    need("gguf", "gguf")
    check_families(source.model.config, _READER)
    _tokens(source.tokenizer)


def write(source: ExportSource, options: Options, target: Path) -> None:
    """One file."""
    import gguf

    theirs = equivalent(source.model, source.weights, _READER)
    layout = GGUF_FAMILIES[theirs.family]
    writer = gguf.GGUFWriter(target, theirs.family)
    writer.add_name(source.info.name)
    writer.add_string(CONFIG_KEY, config_to_yaml(source.config))
    _add_shape(writer, theirs.family, theirs.config, source.model.vocab_size)
    for key, value in _tokens(source.tokenizer).items():
        _add(writer, f"tokenizer.ggml.{key}", value)
    _add_ends(writer, source)
    kinds = gguf.GGMLQuantizationType
    kind = {"float32": kinds.F32, "float16": kinds.F16, "q8_0": kinds.Q8_0}[options.dtype]
    types = gguf.LlamaFileType
    writer.add_file_type(
        {"float32": types.ALL_F32, "float16": types.MOSTLY_F16, "q8_0": types.MOSTLY_Q8_0}[
            options.dtype
        ]
    )
    for name, array in _tensors(theirs, layout).items():
        if array.ndim < 2 or name in _WHOLE:
            writer.add_tensor(name, array)
            continue
        own = kinds.F16 if kind == kinds.Q8_0 and array.shape[1] % _BLOCK else kind
        writer.add_tensor(name, gguf.quantize(array, own), raw_dtype=own)
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()


def _tensors(theirs: Equivalent, layout: Any) -> dict[str, Any]:
    found = dict(lay_out(theirs.weights, theirs.config, layout))
    shape = theirs.config
    if shape.positions == "rope" and shape.rope_base_context is not None:
        # What each frequency is divided by.
        plain = rotary_frequencies(shape.model_copy(update=_UNSCALED))
        found["rope_freqs.weight"] = (plain / rotary_frequencies(shape)).astype(np.float32)
    return found


def _add_ends(writer: Any, source: ExportSource) -> None:
    """What begins and ends a text, and how chats are written, where the model has such."""
    ends, template = source.tokenizer.end_tokens, source.chat_template
    end = min(ends) if ends else None
    if template is not None:
        writer.add_chat_template(template.template)
        numbers = {source.tokenizer.token_bytes(n).decode("utf-8", "replace"): n for n in ends}
        end = numbers.get(template.eos_token, end)
        begins = source.tokenizer.encode(template.bos_token).tolist()
        if len(begins) == 1:
            writer.add_bos_token_id(begins[0])
    writer.add_eos_token_id(_unlikeliest(source) if end is None else end)


_UNSCALED = {"rope_factor": 1.0, "rope_base_context": None}


def _add(writer: Any, key: str, value: Any) -> None:
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        writer.add_array(key, value)


def _add_shape(writer: Any, family: str, shape: ModelConfig, vocab_size: int) -> None:
    import gguf

    writer.add_vocab_size(vocab_size)
    writer.add_context_length(shape.max_seq_len)
    writer.add_embedding_length(shape.d_model)
    writer.add_block_count(shape.n_layers)
    writer.add_feed_forward_length(shape.feedforward_width)
    writer.add_head_count(shape.n_heads)
    if family == "gpt2":
        writer.add_layer_norm_eps(shape.norm_eps)
        return
    writer.add_head_count_kv(shape.key_heads)
    writer.add_layer_norm_rms_eps(shape.norm_eps)
    writer.add_key_length(shape.head_width)
    writer.add_value_length(shape.head_width)
    writer.add_rope_dimension_count(shape.head_width)
    writer.add_rope_freq_base(shape.rope_theta)
    if shape.rope_base_context is None and shape.rope_factor != 1:
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(shape.rope_factor)


def _tokens(tokenizer: Tokenizer) -> dict[str, Any]:
    """The tokenizer's settings, by their names below ``tokenizer.ggml``.

    Characters are a SentencePiece vocabulary without anything to merge.

    Raises:
        UserError: llama.cpp has no such tokenizer.
    """
    if isinstance(tokenizer, CharTokenizer):
        characters = list(tokenizer.vocab)
        if SPACE in characters:
            raise UserError(
                f"gguf writes the space as {SPACE} (U+2581), which is a character of this "
                "vocabulary; take another format"
            )
        return {
            "model": "llama",
            "pre": "default",
            "tokens": [SPACE if c == " " else c for c in characters],
            "scores": [0.0] * len(characters),
            "token_type": [NORMAL] * len(characters),
            "add_bos_token": False,
            "add_space_prefix": False,
        }
    record = tokenizer.as_json() if isinstance(tokenizer, HuggingFaceTokenizer) else {}
    model = record.get("model", {})
    before = splits_of_text(record)
    if model.get("type") != "BPE" or before is None or not model.get("merges"):
        raise UserError(
            f"gguf has no equivalent of this tokenizer (data.tokenizer {tokenizer.name}): it takes "
            "characters, and byte-level BPE that splits words as GPT-2, SmolLM, Llama 3 or Qwen do"
        )
    kinds = [NORMAL] * tokenizer.vocab_size
    texts = {number: text for text, number in model["vocab"].items()}
    for entry in record.get("added_tokens") or []:
        texts[entry["id"]] = entry["content"]
        kinds[entry["id"]] = CONTROL if entry.get("special") else USER_DEFINED
    return {
        "model": "gpt2",
        "pre": before,
        "tokens": [texts[number] for number in range(tokenizer.vocab_size)],
        "token_type": kinds,
        "merges": [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]],
        "add_bos_token": False,
    }


def _unlikeliest(source: ExportSource) -> int:
    """The token to end a text by where the vocabulary has none for that.

    llama.cpp insists on one, and without a word of ours it would be the twelfth or the third.
    """
    tokens = np.array([prompt_tokens(source)], np.int64)[:, -source.model.context :]
    return int(source.model.last_logits(tokens, tokens.shape[1]).mean((0, 1)).argmin())


def reopen(source: ExportSource, options: Options, target: Path) -> Reopened:
    """By the ``gguf`` package's reader and this program's import."""
    from shakespeare_tui.models.pretrained.gguf_file import read_gguf

    pretrained = read_gguf(target)
    pretrained.model.context = source.model.context
    return Reopened(pretrained.model, gguf_tokenizer(target), "the gguf package")
