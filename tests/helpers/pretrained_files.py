"""Small models of published families, as transformers and llama.cpp would write them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

VOCAB = 61
_LLAMA: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-6,
}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": (
        "GPT2",
        {"vocab_size": VOCAB, "n_positions": 64, "n_embd": 48, "n_layer": 3, "n_head": 3},
    ),
    "gpt2-untied": (
        "GPT2",
        {
            "vocab_size": VOCAB,
            "n_positions": 64,
            "n_embd": 24,
            "n_layer": 2,
            "n_head": 2,
            "n_inner": 40,
            "layer_norm_epsilon": 1e-3,
            "tie_word_embeddings": False,
        },
    ),
    "llama": ("Llama", _LLAMA),
    "llama-32": (
        "Llama",
        _LLAMA | {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4},
    ),
    "llama-wide-heads": (
        "Llama",
        _LLAMA | {"head_dim": 16, "num_key_value_heads": 6, "tie_word_embeddings": True},
    ),
    "llama-biases": ("Llama", _LLAMA | {"attention_bias": True, "mlp_bias": True}),
    "llama-attention-biases": ("Llama", _LLAMA | {"attention_bias": True}),
    "llama-linear": (
        "Llama",
        _LLAMA | {"rope_parameters": {"rope_type": "linear", "rope_theta": 5e3, "factor": 4.0}},
    ),
    "llama-3.1": (
        "Llama",
        _LLAMA
        | {
            "rope_parameters": {
                "rope_type": "llama3",
                "rope_theta": 5e5,
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 16,
            }
        },
    ),
    "qwen2": ("Qwen2", _LLAMA),
    "qwen3": ("Qwen3", _LLAMA | {"head_dim": 20, "rope_parameters": {"rope_theta": 1e6}}),
    "mistral": ("Mistral", _LLAMA | {"sliding_window": None, "head_dim": 8}),
}


def make_theirs(case: str) -> Any:
    """A model of transformers whose every parameter is far from its initial value."""
    transformers = pytest.importorskip("transformers")
    kind, settings = CASES[case]
    config = getattr(transformers, f"{kind}Config")(**settings)
    suffix = "LMHeadModel" if kind == "GPT2" else "ForCausalLM"
    torch.manual_seed(7)
    model = getattr(transformers, f"{kind}{suffix}")(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape), alpha=0.2)
    return model


def tokens() -> Tensor:
    return torch.randint(VOCAB, (2, 60), generator=torch.Generator().manual_seed(3))


def write_gguf(path: Path, theirs: Any, kind: str = "F32") -> None:
    """A file as llama.cpp's converter writes it, its matrices of a type of the ``gguf`` package."""
    import gguf

    config = theirs.config
    family = config.model_type
    is_gpt2 = family == "gpt2"
    writer = gguf.GGUFWriter(path, family)
    width = config.n_embd if is_gpt2 else config.hidden_size
    heads = config.num_attention_heads
    layers = config.num_hidden_layers
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(width)
    writer.add_block_count(layers)
    writer.add_head_count(heads)
    key_heads = getattr(config, "num_key_value_heads", heads)
    if is_gpt2:
        writer.add_feed_forward_length(config.n_inner or 4 * width)
        writer.add_layer_norm_eps(config.layer_norm_epsilon)
    else:
        writer.add_feed_forward_length(config.intermediate_size)
        writer.add_head_count_kv(key_heads)
        writer.add_layer_norm_rms_eps(config.rms_norm_eps)
        own = getattr(config, "head_dim", None) or width // heads
        writer.add_key_length(own)
        writer.add_value_length(own)
        writer.add_rope_dimension_count(own)
        writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
        if config.rope_parameters["rope_type"] == "linear":
            writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
            writer.add_rope_scaling_factor(config.rope_parameters["factor"])
        if config.rope_parameters["rope_type"] == "llama3":
            rotary = theirs.model.rotary_emb
            plain = 5e5 ** -(torch.arange(0, own, 2).double() / own)
            factors = (plain / rotary.inv_freq.double()).float().numpy()
            writer.add_tensor("rope_freqs.weight", factors)
    names = gguf.get_tensor_name_map(getattr(gguf.MODEL_ARCH, family.upper()), layers)
    for name, tensor in theirs.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        value = tensor.float()
        plain_name = name.removeprefix("transformer.") if is_gpt2 else name
        if is_gpt2 and value.dim() == 2 and plain_name.startswith("h."):
            value = value.T
        for letter, count in (("q", heads), ("k", key_heads)):
            if family == "llama" and f".{letter}_proj." in name:
                halves = value.reshape(count, 2, value.shape[0] // count // 2, *value.shape[1:])
                value = halves.transpose(1, 2).reshape(value.shape)
        target = names.get_name(name, try_suffixes=(".weight", ".bias"))
        array = np.ascontiguousarray(value.numpy())
        if array.ndim == 2 and kind != "F32":
            kind_ = getattr(gguf.GGMLQuantizationType, kind)
            writer.add_tensor(target, gguf.quantize(array, kind_), raw_dtype=kind_)
        else:
            writer.add_tensor(target, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_tokenizer(path: Path, size: int = VOCAB) -> None:
    """A byte-level tokenizer of so many tokens that knows some letters."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    common = [letter for letter in letters if letter.isascii()]
    tokens = (["Ġ", "Ċ", *common, *(x for x in letters if x not in common)])[:size]
    tokens += [f"ab{number}" for number in range(size - len(tokens))]
    vocab = {token: number for number, token in enumerate(dict.fromkeys(tokens))}
    backend = Tokenizer(models.BPE(vocab, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.save(str(path))


def write_folder(folder: Path, case: str = "llama") -> Any:
    """A folder as of the hub, with its tokenizer."""
    theirs = make_theirs(case)
    theirs.save_pretrained(folder)
    write_tokenizer(folder / "tokenizer.json")
    return theirs
