"""Count a model's parameters by arithmetic, without building it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from shakespeare_tui.config.schema import ModelConfig, TrainingConfig
from shakespeare_tui.formatting import format_bytes
from shakespeare_tui.models.ngrams import ngram_rows

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

    ``embedding`` with n-grams' and learned positions, ``blocks.N.attention``,
    ``blocks.N.feedforward`` with its convolution, and ``head`` with the last norm.
    """
    first, *rest = parameter.split(".")
    if first == "blocks":
        return f"blocks.{rest[0]}.{rest[1].partition('_')[0]}"
    return "embedding" if first in ("embedding", "ngrams", "positions") else "head"


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


SizeType = Literal["float32", "bfloat16", "int8"]
SIZE_TYPES: tuple[SizeType, ...] = get_args(SizeType)
"""What weights are kept as, in files and for decoding."""

_Shape = tuple[int, int]
"""Rows and columns of a matrix: what comes out and what goes in."""


@dataclass(frozen=True, slots=True)
class Component:
    """Parameters of one kind, of all blocks together.

    Attributes:
        parameters: Their number.
        trained: Of these, those that training changes.
        rows: Of its matrices; int8 has a float32 scale for each.
        in_vectors: Of the parameters, those of norms and biases, which int8 leaves in float32.
    """

    parameters: int
    trained: int
    rows: int
    in_vectors: int

    def size_bytes(self, kind: SizeType) -> int:
        """What the weights take in a file or in memory."""
        if kind == "int8":
            return self.parameters + 3 * self.in_vectors + 4 * self.rows
        return self.parameters * (4 if kind == "float32" else 2)


@dataclass(frozen=True, slots=True)
class ParameterReport:
    """A model's parameters by component.

    Attributes:
        components: By name, in the order of the forward pass; they add up to the model. A tied
            output layer has nothing of its own.
        adapters: Low-rank products beside the matrices while they are trained; checkpoints and
            exports have them merged into the matrices.
    """

    components: Mapping[str, Component]
    adapters: Component

    @property
    def model(self) -> Component:
        """The sum of its components."""
        parts = self.components.values()
        return Component(
            sum(part.parameters for part in parts),
            sum(part.trained for part in parts),
            sum(part.rows for part in parts),
            sum(part.in_vectors for part in parts),
        )

    @property
    def trained(self) -> int:
        """Parameters that training changes, be they the model's or adapters."""
        return self.model.trained + self.adapters.trained

    @property
    def trained_share(self) -> float:
        """Of all parameters, adapters among them."""
        return self.trained / (self.model.parameters + self.adapters.parameters)

    def rows(self) -> list[tuple[str, ...]]:
        """A table's rows under ``REPORT_TITLES``; components that the model lacks are left out."""
        parts = {name: part for name, part in self.components.items() if part.parameters}
        parts["model"] = self.model
        if self.adapters.parameters:
            parts["adapters"] = self.adapters
        return [_report_row(name, part) for name, part in parts.items()]


REPORT_TITLES = ("", "parameters", "trained", *SIZE_TYPES)


def _report_row(name: str, part: Component) -> tuple[str, ...]:
    share = part.trained / part.parameters
    trained = "all" if share == 1 else f"{share:.1%}" if share else "-"
    sizes = (format_bytes(part.size_bytes(kind)) for kind in SIZE_TYPES)
    return (name, f"{part.parameters:,}", trained, *sizes)


def _component(
    *matrices: _Shape, in_vectors: int = 0, copies: int = 1, trained_copies: int | None = None
) -> Component:
    rows = sum(rows for rows, _ in matrices)
    numbers = in_vectors + sum(rows * columns for rows, columns in matrices)
    trained = copies if trained_copies is None else trained_copies
    return Component(numbers * copies, numbers * trained, rows * copies, in_vectors * copies)


def parameter_report(
    model: ModelConfig, vocab_size: int, training: TrainingConfig | None = None
) -> ParameterReport:
    """Count a model's parameters by component.

    Sinusoidal and rotary positions have none.

    Args:
        model: The shape.
        vocab_size: Number of token ids.
        training: How it is trained, which may be in part; None for all of it.
    """
    width, inner, layers = model.d_model, model.feedforward_width, model.n_layers
    rank = training.lora_rank if training is not None else None
    blocks = training.train_blocks if training is not None else None
    is_whole = not rank and blocks is None
    outside = 1 if is_whole else 0
    learning = 0 if rank else layers if blocks is None else min(blocks, layers)
    bias = int(model.bias)
    norm = width * (1 + (bias if model.norm == "layernorm" else 0))
    attention: list[_Shape] = [(model.qkv_width, width), (width, model.attention_width)]
    attention_vectors = model.qkv_width * model.has_qkv_bias + width * model.has_out_bias
    if model.qk_norm:
        attention_vectors += 2 * model.head_width
    up = 2 if model.activation == "swiglu" else 1
    feedforward: list[_Shape] = [(inner, width)] * up + [(width, inner)]
    ngrams = [(rows, width) for rows in ngram_rows(vocab_size, model.ngram_embedding)]
    positions = [(model.max_seq_len, width)] if model.positions == "learned" else []
    head = [] if model.tie_weights else [(vocab_size, width)]
    adapted: list[_Shape] = []
    if rank and training is not None:
        adapted += attention if training.lora_matrices != "feedforward" else []
        adapted += feedforward if training.lora_matrices != "attention" else []
    sides = [
        side for rows, columns in adapted for side in ((rank or 0, columns), (rows, rank or 0))
    ]
    norms = 2 * layers + 1
    return ParameterReport(
        components={
            "token embedding": _component((vocab_size, width), trained_copies=outside),
            "n-gram embedding": _component(*ngrams, trained_copies=outside),
            "position embedding": _component(*positions, trained_copies=outside),
            "attention": _component(
                *attention, in_vectors=attention_vectors, copies=layers, trained_copies=learning
            ),
            "feed-forward": _component(
                *feedforward,
                in_vectors=bias * (up * inner + width) + model.short_convolution * width,
                copies=layers,
                trained_copies=learning,
            ),
            "norms": _component(
                in_vectors=norm, copies=norms, trained_copies=0 if rank else 2 * learning + 1
            ),
            "output layer": _component(*head, trained_copies=outside),
        },
        adapters=_component(*sides, copies=layers),
    )


def count_parameters(model: ModelConfig, vocab_size: int) -> int:
    """All parameters of the model."""
    return parameter_report(model, vocab_size).model.parameters
