"""Count a model's parameters by arithmetic, without building it."""

from shakespeare_tui.config.schema import ModelConfig, TrainingConfig

MOST_LOGITS = 2**24
"""Logits in float32 that the model makes at once for a loss: 64 MiB."""

MOST_COPIED = 200_000_000
"""Bytes of weights that are rearranged for the samples of a training, which takes them twice more;
a larger model writes its samples as it is."""

_EVALUATION_TOKENS = 2**13
_EVALUATION_NUMBERS = 2**26


def pass_numbers(model: ModelConfig, seq_len: int, *, is_fused: bool = True) -> int:
    """Numbers that a pass without gradients holds of each token at once, logits left out.

    The stream and its norm, and the widest layer's inputs, products and outputs.

    Args:
        model: The shape.
        seq_len: Tokens of a window.
        is_fused: The scores of attention are never there together: PyTorch's kernels.
    """
    queries_keys = (model.n_heads + model.key_heads) * model.head_width
    attention = model.qkv_width + queries_keys + model.attention_width
    if not is_fused:
        attention += 2 * model.n_heads * seq_len
    return 2 * model.d_model + max(attention, 3 * model.feedforward_width)


def evaluation_windows(model: ModelConfig, seq_len: int, *, is_fused: bool = True) -> int:
    """Windows that an evaluation reads in one pass: 256 MiB of numbers, and 8,192 tokens, at most.

    One window is read whatever it takes. Arguments are those of ``pass_numbers``.
    """
    fitting = _EVALUATION_NUMBERS // pass_numbers(model, seq_len, is_fused=is_fused)
    return max(1, min(_EVALUATION_TOKENS, fitting) // seq_len)


def layer_of(parameter: str) -> str:
    """The layer of a parameter, by its name: a norm belongs to what reads it.

    ``embedding`` with learned positions, ``blocks.N.attention``, ``blocks.N.feedforward``, and
    ``head`` with the last norm.
    """
    first, *rest = parameter.split(".")
    if first == "blocks":
        return f"blocks.{rest[0]}.{rest[1].removesuffix('_norm')}"
    return "embedding" if first in ("embedding", "positions") else "head"


def block_of(layer: str) -> int | None:
    """The number of the block, from 0, that a layer of ``layer_of`` is in; None outside of them."""
    first, _, rest = layer.partition(".")
    number = rest.partition(".")[0]
    return int(number) if first == "blocks" and number.isdecimal() and len(number) < 6 else None


def layer_title(layer: str) -> str:
    """A layer of ``layer_of`` as a person reads it, blocks counted from 1."""
    number, part = block_of(layer), layer.rpartition(".")[2]
    if number is None:
        return layer
    return f"block {number + 1} {'feed-forward' if part == 'feedforward' else part}"


def parameter_counts(model: ModelConfig, vocab_size: int) -> dict[str, int]:
    """Trainable parameters by component; the sum is the model's count.

    A tied output layer counts nothing of its own; sinusoidal and rotary positions have none.
    """
    width, inner, layers = model.d_model, model.feedforward_width, model.n_layers
    bias = int(model.bias)
    norm = width * (1 + (bias if model.norm == "layernorm" else 0))
    attention = width * (model.qkv_width + model.attention_width)
    attention += model.qkv_width * model.has_qkv_bias
    attention += width * model.has_out_bias
    if model.qk_norm:
        attention += 2 * model.head_width
    matrices = 3 if model.activation == "swiglu" else 2
    feedforward = matrices * width * inner + bias * ((matrices - 1) * inner + width)
    return {
        "token embedding": vocab_size * width,
        "position embedding": model.max_seq_len * width if model.positions == "learned" else 0,
        "attention": layers * attention,
        "feed-forward": layers * feedforward,
        "norms": (2 * layers + 1) * norm,
        "output layer": 0 if model.tie_weights else vocab_size * width,
    }


def learning_parameters(model: ModelConfig, training: TrainingConfig, vocab_size: int) -> int:
    """The parameters that training changes: of low-rank products, of the last blocks, or all."""
    counts = parameter_counts(model, vocab_size)
    if training.lora_rank:
        width, inner = model.d_model, model.feedforward_width
        sides = 0
        if training.lora_matrices != "feedforward":
            sides += width + model.qkv_width + model.attention_width + width
        if training.lora_matrices != "attention":
            sides += (3 if model.activation == "swiglu" else 2) * (width + inner)
        return model.n_layers * training.lora_rank * sides
    if training.train_blocks is not None:
        blocks = min(training.train_blocks, model.n_layers)
        norm = counts["norms"] // (2 * model.n_layers + 1)
        of_blocks = counts["attention"] + counts["feed-forward"] + counts["norms"] - norm
        return of_blocks // model.n_layers * blocks + norm
    return sum(counts.values())


def count_parameters(model: ModelConfig, vocab_size: int) -> int:
    """All trainable parameters of the model."""
    return sum(parameter_counts(model, vocab_size).values())
