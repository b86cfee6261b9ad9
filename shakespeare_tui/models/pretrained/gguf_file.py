"""Models in GGUF files; quantised weights become float32."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from shakespeare_tui.config.schema import ModelConfig
from shakespeare_tui.data.tokenizers.gguf_file import (
    GgufFile,
    chat_template,
    tokenizer_problem,
    tokenizer_record,
)
from shakespeare_tui.errors import UserError, never
from shakespeare_tui.models.pretrained.hugging_face import LARGEST_CONTEXT
from shakespeare_tui.models.pretrained.layouts import (
    GGUF_FAMILIES,
    Pretrained,
    check_family,
    model_config,
    read_weights,
)


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
    tokenizer = tokenizer_record(file)
    return Pretrained(
        model,
        tokenizer,
        family,
        "" if tokenizer else tokenizer_problem(file),
        chat_template(file) if tokenizer else None,
    )


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
    found = torch.from_numpy(file.read("rope_freqs.weight")).double()
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
