"""Runs of random weights in the shapes of published models, and of ours that no one published."""

from pathlib import Path
from typing import Any

import numpy as np

from shakespeare_tui.config.load import load_config
from shakespeare_tui.data.tokenizers.byte_pair import BytePairTokenizer
from shakespeare_tui.data.tokenizers.tokenizer import CharTokenizer
from shakespeare_tui.models.numpy_gpt import weight_shapes
from shakespeare_tui.paths import shipped_folder
from shakespeare_tui.runs.folder import Checkpoint, create_run_folder, new_run_info
from shakespeare_tui.training.checkpoints import save_weights

SHAPES: dict[str, dict[str, Any]] = {
    "quick": {
        "norm": "rmsnorm",
        "activation": "relu2",
        "qk_norm": True,
        "tie_weights": False,
    },
    # Context and width as transformers takes them for granted in GGUF files.
    "gpt2": {"positions": "learned", "bias": True, "max_seq_len": 1024, "d_ff": 128},
    "nanogpt": {"positions": "learned"},
    "sines": {"positions": "sinusoidal"},
    "llama": {"norm": "rmsnorm", "activation": "swiglu", "n_kv_heads": 2, "tie_weights": False},
    "llama-3.1": {
        "norm": "rmsnorm",
        "activation": "swiglu",
        "attention_bias": "qkv",
        "rope_factor": 8.0,
        "rope_base_context": 16,
    },
    "qwen3": {
        "norm": "rmsnorm",
        "activation": "swiglu",
        "qk_norm": True,
        "n_kv_heads": 2,
        "head_dim": 128,  # likewise
    },
    "plain": {},
    "ngrams": {"ngram_embedding": 3},
    "convolution": {"norm": "rmsnorm", "short_convolution": 3},
}
"""Settings of the model section by a name; ``plain`` is the default, which nobody has published."""


def make_run(root: Path, shape: str, tokenizer: str = "char", backend: str = "torch") -> Checkpoint:
    """A run whose one checkpoint has weights far from their initial values."""
    settings = {"d_model": 32, "n_heads": 4, "n_layers": 2, "d_ff": 48, "max_seq_len": 24}
    overrides = [f"model.{key}={value}" for key, value in (settings | SHAPES[shape]).items()]
    overrides += [
        "data.corpus=sample",
        f"data.tokenizer={tokenizer}",
        f"training.backend={backend}",
        'sampling.prompts=["ROMEO:"]',
    ]
    config = load_config("tiny", overrides)
    text = (shipped_folder("data") / "sample.txt").read_text("utf-8")
    if tokenizer == "char":
        made: Any = CharTokenizer(text + "é")
    else:
        made = BytePairTokenizer.from_corpus([text], 300)
    generator = np.random.default_rng(5)
    weights = {
        name: (generator.standard_normal(size) * 0.12 + ("norm" in name)).astype(np.float32)
        for name, size in weight_shapes(config.model, made.vocab_size).items()
    }
    run = create_run_folder(root, f"{shape}-{tokenizer}-{backend}", shape)
    checkpoint = save_weights(run, weights)
    info = new_run_info(
        name=run.name,
        corpus="sample",
        corpus_sha256="",
        characters=len(text),
        vocab_size=made.vocab_size,
        tokenizer_sha256=made.fingerprint,
        parameters=sum(weight.size for weight in weights.values()),
        embedding_scale=config.model.embedding_scale,
    )
    run.write_definition(info, config, made)
    return checkpoint
