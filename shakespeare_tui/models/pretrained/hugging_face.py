"""Folders of Hugging Face: ``config.json`` and weights as safetensors, in one file or in shards."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from shakespeare_tui.config.schema import ModelConfig
from shakespeare_tui.data.tokenizers.chat_template import ChatTemplate
from shakespeare_tui.errors import UserError, never
from shakespeare_tui.files import parse_json, read_bounded, reason
from shakespeare_tui.models.pretrained.layouts import (
    FAMILIES,
    Pretrained,
    Record,
    check_family,
    model_config,
    read_weights,
)

LARGEST_CONTEXT = 131_072
_MOST_BYTES = 1 << 26
INDEX = "model.safetensors.index.json"
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
# Of gated layers; a ReLU whose gate is what it gates is a ReLU², and no other is read.
_ACTIVATIONS = {"silu": "swiglu", "relu": "relu2"}
_TANH_GELU = ("gelu_new", "gelu_pytorch_tanh", "gelu_fast")


def read_folder(
    folder: Path, available_bytes: int | None = None, cancelled: Callable[[], bool] = never
) -> Pretrained:
    """The model in a folder.

    Raises:
        UserError: It is none, damaged, or of a family or a variant that cannot be read.
        CancelledError: ``cancelled`` became true.
    """
    config = _read_json(folder / "config.json")
    origin = str(folder / "config.json")
    family = check_family(config.get("model_type"), FAMILIES, origin)
    shape = folder_config(config, origin)
    with ExitStack() as stack:
        file = _Safetensors(folder, stack)
        model = read_weights(shape, FAMILIES[family], file, available_bytes, cancelled)
    tokenizer = folder / "tokenizer.json"
    return Pretrained(
        model,
        _read_json(tokenizer) if tokenizer.is_file() else None,
        family,
        chat_template=_chat_template(folder),
    )


def _chat_template(folder: Path) -> ChatTemplate | None:
    record, file = folder / "tokenizer_config.json", folder / "chat_template.jinja"
    try:
        text = read_bounded(file, _MOST_BYTES).decode() if file.is_file() else ""
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read: {reason(error)}") from None
    return ChatTemplate.from_tokenizer_config(_read_json(record) if record.is_file() else {}, text)


def folder_config(config: Record, origin: str) -> ModelConfig:
    """The shape that a ``config.json`` describes.

    Raises:
        UserError: It describes what this program's transformer cannot do.
    """
    family = check_family(config.get("model_type"), FAMILIES, origin)
    return _gpt2_config(config, origin) if family == "gpt2" else _llama_config(config, origin)


def _gpt2_config(config: Record, origin: str) -> ModelConfig:
    for key in (
        "scale_attn_by_inverse_layer_idx",
        "reorder_and_upcast_attn",
        "add_cross_attention",
    ):
        _refuse(config, key, (False, None), origin)
    _refuse(config, "scale_attn_weights", (True, None), origin)
    _refuse(config, "activation_function", (*_TANH_GELU, None), origin)
    values = {
        "d_model": config.get("n_embd", 768),
        "n_heads": config.get("n_head", 12),
        "n_layers": config.get("n_layer", 12),
        "d_ff": config.get("n_inner"),
        "max_seq_len": config.get("n_positions", 1024),
        "norm_eps": config.get("layer_norm_epsilon", 1e-5),
        "positions": "learned",
        "activation": "gelu",
        "norm": "layernorm",
        "bias": True,
        "tie_weights": config.get("tie_word_embeddings", True),
    }
    return model_config(values, origin)


def _llama_config(config: Record, origin: str) -> ModelConfig:
    family = config["model_type"]
    _refuse(config, "hidden_act", (*_ACTIVATIONS, None), origin)
    _refuse(config, "partial_rotary_factor", (1, None), origin)
    slides = config.get("use_sliding_window", family == "mistral") and config.get("sliding_window")
    if slides or set(config.get("layer_types") or ()) - {"full_attention"}:
        raise UserError(f"{origin}: sliding windows of attention cannot be done here")
    width = _number(config, "hidden_size", origin)
    heads = _number(config, "num_attention_heads", origin)
    own_width = config.get("head_dim") or (128 if family == "qwen3" else width // heads)
    has_bias = bool(config.get("attention_bias"))
    if config.get("mlp_bias") and not has_bias:
        raise UserError(f"{origin}: mlp_bias without attention_bias cannot be done here")
    key_heads = config.get("num_key_value_heads") or heads
    attention_bias = "qkv" if family == "qwen2" else "all" if has_bias else "none"
    values = {
        "d_model": width,
        "n_heads": heads,
        "n_kv_heads": None if key_heads == heads else key_heads,
        "head_dim": None if own_width * heads == width else own_width,
        "n_layers": _number(config, "num_hidden_layers", origin),
        "d_ff": _number(config, "intermediate_size", origin),
        "max_seq_len": min(_number(config, "max_position_embeddings", origin), LARGEST_CONTEXT),
        "norm": "rmsnorm",
        "norm_eps": config.get("rms_norm_eps", 1e-6),
        "qk_norm": family == "qwen3",
        "positions": "rope",
        "activation": _ACTIVATIONS[config.get("hidden_act") or "silu"],
        "bias": bool(config.get("mlp_bias")),
        "attention_bias": attention_bias,
        "tie_weights": bool(config.get("tie_word_embeddings", False)),
        **_rope(config, origin),
    }
    return model_config(values, origin)


def _rope(config: Record, origin: str) -> dict[str, Any]:
    """Settings of the rotary embedding, as they are written now and as they were until 2025."""
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if not isinstance(rope, dict):
        raise UserError(f"{origin}: rope_scaling holds no settings")
    kind = rope.get("rope_type") or rope.get("type") or "default"
    theta = rope.get("rope_theta") or config.get("rope_theta") or 10_000.0
    if kind == "default":
        return {"rope_theta": theta}
    if kind == "linear":
        return {"rope_theta": theta, "rope_factor": rope.get("factor", 1.0)}
    if kind == "llama3":
        _refuse(rope, "low_freq_factor", (1,), origin)
        _refuse(rope, "high_freq_factor", (4,), origin)
        base = rope.get("original_max_position_embeddings") or config.get("max_position_embeddings")
        return {"rope_theta": theta, "rope_factor": rope.get("factor"), "rope_base_context": base}
    raise UserError(f"{origin}: rotary embedding of the type {kind!r} cannot be done here")


def _refuse(config: Record, key: str, known: tuple[object, ...], origin: str) -> None:
    if (value := config.get(key)) not in known:
        raise UserError(f"{origin}: {key} {value!r} cannot be done here")


def _number(config: Record, key: str, origin: str) -> int:
    value = config.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 1 << 31:
        raise UserError(f"{origin}: {key} must be a whole number above 0, got {value!r}")
    return value


class _Safetensors:
    """The tensors of a folder.

    Args:
        folder: Where.
        stack: Closes the files.

    Raises:
        UserError: There are none, or they are damaged.
    """

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.origin = str(folder)
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._files: dict[str, Any] = {}
        self._names: dict[str, str] = {}
        for path in _weight_files(folder):
            try:
                file = stack.enter_context(safe_open(path, framework="pt", device="cpu"))
                for name in file.keys():  # noqa: SIM118
                    # Saved alone or as part of a language model.
                    plain = name.removeprefix("transformer.").removeprefix("model.")
                    self.shapes[plain] = tuple(file.get_slice(name).get_shape())
                    self._files[plain], self._names[plain] = file, name
            except (SafetensorError, OSError) as error:
                raise UserError(
                    f"{path} is damaged or cut short ({str(error).splitlines()[0]}); fetch it again"
                ) from None

    def read(self, name: str) -> Tensor:
        """One tensor in float32."""
        tensor: Tensor = self._files[name].get_tensor(self._names[name])
        if not tensor.is_floating_point():
            raise UserError(f"{self.origin}: {name} holds quantised numbers, which cannot be read")
        return tensor.to(torch.float32)


def _weight_files(folder: Path) -> list[Path]:
    if (folder / INDEX).is_file():
        names = shard_names(folder)
        for name in names:
            if not (folder / name).is_file():
                raise UserError(f"{folder} is not complete: {name} is missing; fetch it again")
        return [folder / name for name in names]
    found = sorted(folder.glob("*.safetensors"))
    if len(found) > 1:
        raise UserError(f"{folder} holds several safetensors and no {INDEX}; which is the model?")
    if not found:
        pickles = sorted(p.name for p in folder.iterdir() if p.suffix in _PICKLES)
        if pickles:
            raise UserError(
                f"{folder} holds its weights as pickles only ({pickles[0]}), which can run any "
                "program when they are opened; get the model as safetensors"
            )
        raise UserError(f"{folder} holds no safetensors; get the model's weights")
    return found


def shard_names(folder: Path) -> list[str]:
    """The files of weights that an index names.

    Raises:
        UserError: It names none, or others than safetensors beside it.
    """
    shards = _read_json(folder / INDEX).get("weight_map")
    names = sorted(set(map(str, shards.values()))) if isinstance(shards, dict) else []
    if not names or not all(Path(n).name == n and n.endswith(".safetensors") for n in names):
        raise UserError(f"{folder / INDEX} is damaged: it names no files of weights beside it")
    return names


def _read_json(path: Path) -> dict[str, Any]:
    try:
        record = parse_json(read_bounded(path, _MOST_BYTES))
    except FileNotFoundError:
        raise UserError(f"{path} is missing; give a folder with it and safetensors") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {reason(error)}") from None
    if not isinstance(record, dict):
        raise UserError(f"{path} cannot be read: it holds no settings")
    return record
