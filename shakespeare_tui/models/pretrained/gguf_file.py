"""GGUF files, llama.cpp's, by the ``gguf`` package; quantised weights become float32."""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from shakespeare_tui.config.schema import ModelConfig
from shakespeare_tui.data.tokenizers.hugging_face import HuggingFaceTokenizer
from shakespeare_tui.errors import UserError, never
from shakespeare_tui.models.pretrained.gguf_tokenizer import tokenizer_record
from shakespeare_tui.models.pretrained.hugging_face import LARGEST_CONTEXT
from shakespeare_tui.models.pretrained.layouts import (
    GGUF_FAMILIES,
    Pretrained,
    check_family,
    model_config,
    read_weights,
)

GGUF_MAGIC = b"GGUF"
# What the package's reader makes of a file that is cut short or damaged.
_DAMAGE = (ValueError, IndexError, KeyError, TypeError, OverflowError, struct.error, EOFError)


def read_gguf(
    path: Path, available_bytes: int | None = None, cancelled: Callable[[], bool] = never
) -> Pretrained:
    """The model in a file.

    Raises:
        UserError: It is none, damaged, of a family or a variant that cannot be read, or the package
            is missing.
        CancelledError: ``cancelled`` became true.
    """
    file = GgufFile(path)
    family = check_family(file.value("general.architecture"), GGUF_FAMILIES, str(path))
    if file.value("split.count", 1) not in (0, 1):
        raise UserError(f"{path} is one of several parts; join them by llama.cpp's gguf-split")
    config = _config(file, family)
    model = read_weights(config, GGUF_FAMILIES[family], file, available_bytes, cancelled)
    return Pretrained(model, tokenizer_record(file), family)


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

    def read(self, name: str) -> Tensor:
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
        return torch.from_numpy(np.array(array, np.float32))

    def is_same(self, one: str, other: str) -> bool:
        """Whether two tensors are the same bytes."""
        first, second = self._tensors[one], self._tensors[other]
        is_same_kind = first.tensor_type == second.tensor_type
        return is_same_kind and np.array_equal(first.data, second.data)


def _config(file: GgufFile, family: str) -> ModelConfig:
    width = file.number(f"{family}.embedding_length")
    heads = file.number(f"{family}.attention.head_count")
    is_gpt2 = family == "gpt2"
    own_width = file.number(f"{family}.attention.key_length", max(1, width // heads))
    key_heads = file.number(f"{family}.attention.head_count_kv", heads)
    for key in ("attention.value_length", "rope.dimension_count"):
        if file.value(f"{family}.{key}", own_width) != own_width:
            raise UserError(f"{file.origin}: {family}.{key} is not the heads' width, {own_width}")
    eps = "layer_norm_epsilon" if is_gpt2 else "layer_norm_rms_epsilon"
    has_bias = {part for part in "qko" if f"blk.0.attn_{_BIASES[part]}.bias" in file.shapes}
    head, embedding = "output.weight", "token_embd.weight"
    is_tied = head not in file.shapes or file.is_same(head, embedding)
    values = {
        "d_model": width,
        "n_heads": heads,
        "n_kv_heads": None if key_heads == heads else key_heads,
        "head_dim": None if own_width * heads == width else own_width,
        "n_layers": file.number(f"{family}.block_count"),
        "d_ff": file.number(f"{family}.feed_forward_length"),
        "max_seq_len": min(file.number(f"{family}.context_length"), LARGEST_CONTEXT),
        "norm": "layernorm" if is_gpt2 else "rmsnorm",
        "norm_eps": file.real(f"{family}.attention.{eps}", 1e-5),
        "positions": "learned" if is_gpt2 else "rope",
        "activation": "gelu" if is_gpt2 else "swiglu",
        "bias": is_gpt2,
        "qk_norm": family == "qwen3",
        "tie_weights": is_tied,
    }
    if not is_gpt2:
        values["attention_bias"] = "all" if "o" in has_bias else "qkv" if has_bias else "none"
        values |= _rope(file, family, own_width)
    return model_config(values, file.origin)


_BIASES = {"q": "q", "k": "k", "o": "output"}


def _rope(file: GgufFile, family: str, width: int) -> dict[str, Any]:
    theta = file.real(f"{family}.rope.freq_base", 10_000.0)
    kind = file.value(f"{family}.rope.scaling.type", "none")
    if kind == "linear":
        return {
            "rope_theta": theta,
            "rope_factor": file.real(f"{family}.rope.scaling.factor", 1.0),
        }
    if kind not in ("none", ""):
        raise UserError(f"{file.origin}: rotary embedding of the type {kind!r} cannot be done here")
    if "rope_freqs.weight" not in file.shapes:
        return {"rope_theta": theta}
    return {"rope_theta": theta, **_llama3(file, theta, width)}


def _llama3(file: GgufFile, theta: float, width: int) -> dict[str, Any]:
    """Llama 3.1's stretching, of which a file keeps what each frequency is divided by."""
    found = file.read("rope_freqs.weight").double()
    frequencies = theta ** -(torch.arange(width // 2, dtype=torch.float64) / (width // 2))
    factor = float(f"{float(found.max()):.7g}")
    if found.shape == frequencies.shape and factor > 1:
        # The share of each that stays; of those between all and nothing it tells the context.
        share = (1 / found - 1 / factor) / (1 - 1 / factor)
        for place in ((share > 0.01) & (share < 0.99)).nonzero():
            turns = 3 * share[place] + 1
            base = round(float(turns * 2 * torch.pi / frequencies[place]))
            kept = ((base * frequencies / (2 * torch.pi) - 1) / 3).clamp(0, 1)
            if torch.allclose(found, 1 / (kept + (1 - kept) / factor), rtol=1e-4):
                return {"rope_factor": factor, "rope_base_context": base}
    raise UserError(f"{file.origin}: its rotary embedding is scaled in a way not known here")


def gguf_tokenizer(path: Path) -> HuggingFaceTokenizer:
    """The tokenizer in a file, without its weights.

    Raises:
        UserError: The file is damaged, or its tokenizer is of a kind that cannot be read.
    """
    record = tokenizer_record(GgufFile(path))
    if record is None:
        raise UserError(
            f"{path} has a tokenizer of a kind that cannot be read; give a tokenizer.json"
        )
    try:
        return HuggingFaceTokenizer(record)
    except ValueError as error:
        raise UserError(f"{path} is damaged: {error}") from None
