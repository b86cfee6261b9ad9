"""The published architecture that computes exactly what a model of ours does, if there is one.

GPT-2 takes every model with LayerNorm, GELU and a table of positions: biases that it lacks are
zeros, and fixed sines are a table. Llama takes rotary positions with RMSNorm and SwiGLU, and Qwen3
the same with QK-norm. A ReLU² is a gated ReLU whose gate is what it gates: relu(x) · x = relu(x)².
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from shakespeare_tui.config.schema import ModelConfig
from shakespeare_tui.decoding.factory import Model
from shakespeare_tui.errors import UserError
from shakespeare_tui.export.source import FloatArray
from shakespeare_tui.models.positions import sinusoidal_table


@dataclass(frozen=True, eq=False)
class Equivalent:
    """A model of a published architecture.

    Attributes:
        family: Its name in ``layouts.FAMILIES``.
        config: The shape, with what the family always has.
        weights: By our names, with what the family always has.
    """

    family: str
    config: ModelConfig
    weights: Mapping[str, FloatArray]


@dataclass(frozen=True)
class Reader:
    """What the programs that open a format can compute.

    Attributes:
        name: The format.
        families: Architectures.
        has_gated_relu: Whether gates may be other than SiLU.
        has_all_biases: Whether Llama and Qwen3 may have biases in every place of ours.
    """

    name: str
    families: tuple[str, ...]
    has_gated_relu: bool
    has_all_biases: bool


def equivalent(model: Model, weights: Mapping[str, FloatArray], reader: Reader) -> Equivalent:
    """The model as one of the reader's families.

    Raises:
        UserError: Which settings have no equivalent in the nearest family.
    """
    family = check_families(model.config, reader)
    config, filled = model.config, dict(weights)
    if family == "gpt2":
        config = config.model_copy(update={"bias": True, "positions": "learned"})
        if model.config.positions == "sinusoidal":
            filled["positions.weight"] = sinusoidal_table(config.max_seq_len, config.d_model)
        if model.embedding_scale != 1:
            # The output layer keeps what the input is scaled from.
            filled.setdefault("head.weight", filled["embedding.weight"])
            filled["embedding.weight"] = filled["embedding.weight"] * np.float32(
                model.embedding_scale
            )
            config = config.model_copy(update={"tie_weights": False})
        for name, weight in weights.items():
            module, _, kind = name.rpartition(".")
            if kind == "weight" and module not in ("embedding", "positions", "head"):
                filled.setdefault(f"{module}.bias", np.zeros(len(weight), np.float32))
    elif reader.has_all_biases and config.attention_bias == "qkv" and not config.bias:
        config = config.model_copy(update={"attention_bias": "all"})
        for layer in range(config.n_layers):
            name = f"blocks.{layer}.attention.out.bias"
            filled[name] = np.zeros(config.d_model, np.float32)
    if config.activation == "relu2":
        filled |= {
            name.replace(".up.", ".gate."): weight
            for name, weight in filled.items()
            if ".feedforward.up." in name
        }
    return Equivalent(family, config, filled)


def check_families(config: ModelConfig, reader: Reader) -> str:
    """The first of the reader's families that has an equivalent of every setting.

    Raises:
        UserError: None has; of the nearest it is said which settings are in the way.
    """
    found = {family: list(_misfits(config, family, reader)) for family in reader.families}
    nearest = min(found, key=lambda family: len(found[family]))
    if found[nearest]:
        settings = " and ".join(f"model.{setting}" for setting, _ in found[nearest])
        fits = ", ".join(fit for _, fit in found[nearest])
        raise UserError(
            f"{reader.name} has no equivalent of {settings}; the nearest layout, {nearest}, takes "
            f"{fits}. The formats safetensors, onnx and torchscript take every model"
        )
    return nearest


def _misfits(config: ModelConfig, family: str, reader: Reader) -> Iterator[tuple[str, str]]:
    """Each setting without an equivalent, and what the family takes instead."""
    if config.ngram_embedding:
        yield f"ngram_embedding {config.ngram_embedding}", "ngram_embedding 0"
    if config.short_convolution:
        yield f"short_convolution {config.short_convolution}", "short_convolution 0"
    is_gpt2 = family == "gpt2"
    is_rotary = config.positions == "rope"
    if is_gpt2 == is_rotary:
        fit = "learned or sinusoidal" if is_gpt2 else "rope"
        yield f"positions {config.positions}", f"positions {fit}"
    norm = "layernorm" if is_gpt2 else "rmsnorm"
    if config.norm != norm:
        yield f"norm {config.norm}", f"norm {norm}"
    gated = ("swiglu", "relu2") if reader.has_gated_relu else ("swiglu",)
    activations = ("gelu",) if is_gpt2 else gated
    if config.activation not in activations:
        yield f"activation {config.activation}", f"activation {' or '.join(activations)}"
    if config.qk_norm != (family == "qwen3"):
        yield f"qk_norm {str(config.qk_norm).lower()}", f"qk_norm {str(not config.qk_norm).lower()}"
    if is_gpt2:
        if config.key_heads != config.n_heads:
            yield f"n_kv_heads {config.key_heads}", f"n_kv_heads {config.n_heads}"
        if config.attention_width != config.d_model:
            yield f"head_dim {config.head_width}", f"head_dim {config.d_model // config.n_heads}"
        return
    if family == "llama" and config.d_model % config.n_heads:
        yield f"n_heads {config.n_heads}", "a divisor of d_model"
    if config.bias and (family == "qwen3" or not reader.has_all_biases):
        yield "bias true", "bias false"
    if family == "qwen3" and config.attention_bias != "none" and not reader.has_all_biases:
        yield f"attention_bias {config.attention_bias}", "attention_bias none"
    if family == "qwen3" and config.rope_base_context and not reader.has_all_biases:
        yield f"rope_base_context {config.rope_base_context}", "rope_base_context empty"
