"""A folder that ``transformers`` opens: config, weights, tokenizer, generation settings, card."""

import importlib
import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import save_file

from shakespeare_tui.config.schema import ModelConfig
from shakespeare_tui.data.tokenizers.hugging_face import as_hugging_face
from shakespeare_tui.data.tokenizers.kinds import token_noun
from shakespeare_tui.data.tokenizers.tokenizer import load_tokenizer
from shakespeare_tui.decoding.logits_model import LogitsModel
from shakespeare_tui.export.families import Equivalent, Reader, check_families, equivalent
from shakespeare_tui.export.registry import Reopened
from shakespeare_tui.export.source import ExportSource, Options
from shakespeare_tui.files import write_atomically, write_json_atomically
from shakespeare_tui.models.pretrained.layouts import FAMILIES, lay_out
from shakespeare_tui.runs.folder import pretrained_note
from shakespeare_tui.runs.losses import bits_per_byte, perplexity

_READER = Reader("hf", ("gpt2", "llama", "qwen3"), has_gated_relu=True, has_all_biases=True)
_CLASSES = {"gpt2": "GPT2LMHeadModel", "llama": "LlamaForCausalLM", "qwen3": "Qwen3ForCausalLM"}


def check(source: ExportSource, options: Options) -> None:
    """The model must have an equivalent, and its tokenizer too."""
    check_families(source.model.config, _READER)
    as_hugging_face(source.tokenizer)


def write(source: ExportSource, options: Options, target: Path) -> None:
    """The files of the folder."""
    theirs = equivalent(source.model, source.weights, _READER)
    tensors = dict(lay_out(theirs.weights, theirs.config, FAMILIES[theirs.family]))
    try:
        save_file(tensors, target / "model.safetensors", {"format": "pt"})
    except SafetensorError as error:
        # The library wraps the system's errors; callers treat them alike.
        raise OSError(str(error)) from error
    ends = sorted(source.tokenizer.end_tokens)
    write_json_atomically(target / "config.json", _config(source, theirs, ends))
    write_json_atomically(target / "tokenizer.json", as_hugging_face(source.tokenizer))
    write_json_atomically(target / "tokenizer_config.json", _tokenizer_config(source))
    generation: dict[str, Any] = {
        "do_sample": True,
        "temperature": source.config.sampling.temperature or 1.0,
        "top_k": 0,
        "max_length": source.model.context,
    }
    if ends:
        generation["eos_token_id"] = ends
    write_json_atomically(target / "generation_config.json", generation)
    write_atomically(target / "README.md", _card(source, theirs))


def _config(source: ExportSource, theirs: Equivalent, ends: list[int]) -> dict[str, Any]:
    """``config.json``: what ``models.pretrained.hugging_face`` reads as the same shape again."""
    shape = theirs.config
    common: dict[str, Any] = {
        "model_type": theirs.family,
        "architectures": [_CLASSES[theirs.family]],
        "dtype": "float32",
        "vocab_size": source.model.vocab_size,
        "tie_word_embeddings": shape.tie_weights,
        "bos_token_id": None,
        "eos_token_id": ends or None,
        "pad_token_id": None,
    }
    if theirs.family == "gpt2":
        return common | {
            "n_positions": shape.max_seq_len,
            "n_embd": shape.d_model,
            "n_layer": shape.n_layers,
            "n_head": shape.n_heads,
            "n_inner": shape.feedforward_width,
            "activation_function": "gelu_new",
            "layer_norm_epsilon": shape.norm_eps,
            "attn_pdrop": shape.dropout,
            "embd_pdrop": shape.dropout,
            "resid_pdrop": shape.dropout,
        }
    return common | {
        "hidden_size": shape.d_model,
        "intermediate_size": shape.feedforward_width,
        "num_hidden_layers": shape.n_layers,
        "num_attention_heads": shape.n_heads,
        "num_key_value_heads": shape.key_heads,
        "head_dim": shape.head_width,
        "hidden_act": "relu" if shape.activation == "relu2" else "silu",
        "max_position_embeddings": shape.max_seq_len,
        "rms_norm_eps": shape.norm_eps,
        "attention_bias": shape.has_qkv_bias,
        "rope_parameters": _rope(shape),
        **({"mlp_bias": shape.bias} if theirs.family == "llama" else {}),
    }


def _rope(shape: ModelConfig) -> dict[str, Any]:
    plain = {"rope_type": "default", "rope_theta": shape.rope_theta}
    if shape.rope_base_context is not None:
        return plain | {
            "rope_type": "llama3",
            "factor": shape.rope_factor,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": shape.rope_base_context,
        }
    if shape.rope_factor != 1:
        return plain | {"rope_type": "linear", "factor": shape.rope_factor}
    return plain


def _tokenizer_config(source: ExportSource) -> dict[str, Any]:
    tokenizer, template = source.tokenizer, source.chat_template
    config: dict[str, Any] = {
        # The one class that takes tokenizer.json as it is.
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": source.model.context,
        "clean_up_tokenization_spaces": False,
    }
    if tokenizer.end_tokens:
        config["eos_token"] = tokenizer.token_bytes(min(tokenizer.end_tokens)).decode()
    if template is not None:
        config["chat_template"] = template.template
        named = {"bos_token": template.bos_token, "eos_token": template.eos_token}
        config |= {name: token for name, token in named.items() if token}
    return config


def reopen(source: ExportSource, options: Options, target: Path) -> Reopened:
    """By ``transformers`` where it is installed, else by this program's own import."""
    tokenizer = load_tokenizer(target / "tokenizer.json")
    if importlib.util.find_spec("transformers") and importlib.util.find_spec("torch"):
        return Reopened(_by_transformers(source, target), tokenizer, "transformers")
    return Reopened(_by_own_import(source, target), tokenizer, "this program's import")


def _by_own_import(source: ExportSource, target: Path) -> Any:
    from shakespeare_tui.models.pretrained.hugging_face import read_folder

    model = read_folder(target).model
    model.context = source.model.context
    return model


def _by_transformers(source: ExportSource, target: Path) -> LogitsModel:
    import torch

    transformers: Any = importlib.import_module("transformers")
    transformers.utils.logging.disable_progress_bar()
    theirs = transformers.AutoModelForCausalLM.from_pretrained(target, dtype=torch.float32).eval()

    def logits(tokens: NDArray[np.int64]) -> Any:
        with torch.inference_mode():
            return theirs(torch.from_numpy(tokens)).logits.numpy()

    return LogitsModel(logits, source.model.config, source.model.vocab_size, source.model.context)


def _card(source: ExportSource, theirs: Equivalent) -> str:
    """The model card: what it is, what was measured and how, how to open it."""
    info, model, checkpoint = source.info, source.config.model, source.checkpoint
    header = {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["shakespeare-tui", theirs.family, f"tokenizer:{source.config.data.tokenizer}"],
    }
    front = "\n".join(f"{key}: {json.dumps(value)}" for key, value in header.items())
    origin = info.corpus or "no corpus of this program"
    lines = [
        f"---\n{front}\n---",
        f"# {checkpoint.reference}",
        f"A decoder-only transformer of {info.parameters:,} parameters, "
        + (
            f"fine-tuned from {info.pretrained} on {source.config.data.corpus}"
            if info.pretrained
            else f"trained from nothing on {origin}"
        )
        + f" by shakespeare-tui {info.program_version}. Step {checkpoint.info.step:,}.",
        "| setting | value |\n| --- | --- |\n"
        + "\n".join(
            f"| {name} | {value} |"
            for name, value in {
                "layers": model.n_layers,
                "width": model.d_model,
                "heads": model.n_heads,
                "context, trained": f"{source.model.context:,} tokens",
                "vocabulary": f"{source.model.vocab_size:,} tokens "
                f"({source.config.data.tokenizer})",
                "layout": f"{theirs.family} of transformers",
            }.items()
        ),
        "## Measured",
        *_figures(source),
        "## Use",
        "```python\n"
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
        'tokenizer = AutoTokenizer.from_pretrained("FOLDER")\n'
        'model = AutoModelForCausalLM.from_pretrained("FOLDER")\n'
        f'prompt = tokenizer({_prompt(source)!r}, return_tensors="pt")\n'
        "text = model.generate(**prompt, max_new_tokens=100)\n"
        "print(tokenizer.decode(text[0]))\n```",
    ]
    if model.activation == "relu2":
        lines.append(
            "The feed-forward layers are ReLU², written as a ReLU gated by its own input: gate and "
            "up projection are the same matrix."
        )
    return "\n\n".join(lines) + "\n"


def _prompt(source: ExportSource) -> str:
    return next(iter(source.config.sampling.prompts), "\n")


_PROTOCOLS: Mapping[str, str] = {
    "exact": "every validation token but the first once, in non-overlapping windows of the context",
    "nanogpt": "random windows",
}


def _figures(source: ExportSource) -> list[str]:
    """The losses on the validation part, each with its protocol."""
    found = source.checkpoint.info.losses
    if not found:
        return ["No loss was measured at this checkpoint."]
    size = source.info.bytes_per_token
    rows = [
        f"| {loss.value:.4f} | {perplexity(loss.value):.3f} | "
        + (f"{bits_per_byte(loss.value, size):.4f}" if size else "-")
        + f" | {loss.protocol} |"
        for loss in found
    ]
    noun = token_noun(source.config.data.tokenizer)
    table = f"| loss (nats per {noun}) | perplexity | bits per byte | protocol |\n"
    notes = [
        f"`{loss.protocol}`: "
        + _PROTOCOLS.get(loss.protocol, "so many evenly spaced windows of the validation part")
        + "."
        for loss in found
    ]
    lines = [table + "| --- | --- | --- | --- |\n" + "\n".join(rows), *notes]
    if source.info.pretrained:
        lines.append(f"Note: {pretrained_note(source.info.pretrained)}.")
    return lines
