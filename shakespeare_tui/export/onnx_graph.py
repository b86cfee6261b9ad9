"""An ONNX graph of the model: of any batch and length, with a KV cache or without.

The graph is written node by node, from the weights as arrays: it is small, reads as the model
does, and needs no PyTorch. With int8, matrices are 8-bit with one scale for each output, their
inputs are rounded to 8 bits on the way (dynamic quantisation), and all else stays in float32.
Shapes: B batch, T tokens, S tokens with those of the cache, C d_model, H heads of queries, K of
keys and values, D head width, V vocabulary.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shakespeare_tui.config.schema import ModelConfig
from shakespeare_tui.config.write import config_to_yaml
from shakespeare_tui.decoding.exported_file import (
    CONFIG_KEY,
    TOKENIZER_KEY,
    open_exported_file,
    tokenizer_text,
)
from shakespeare_tui.decoding.onnx_decoder import (
    CONTEXT_KEY,
    LOGITS,
    PAST,
    PRESENT,
    TOKENS,
    VOCAB_KEY,
    cached,
)
from shakespeare_tui.errors import UserError
from shakespeare_tui.export.quantise import quantised
from shakespeare_tui.export.registry import Reopened
from shakespeare_tui.export.source import ExportSource, FloatArray, Options, need
from shakespeare_tui.models.ngrams import ngram_rows
from shakespeare_tui.models.positions import rotary_table, sinusoidal_table

_OPSET, _IR_VERSION = 20, 10
_MOST_BYTES = 1_900_000_000
"""Of a file of Protocol Buffers, which must be below 2 GB."""
_ZERO = 128
"""Of unsigned 8-bit weights. Signed ones would overflow on processors without VNNI."""


def check(source: ExportSource, options: Options) -> None:
    """The packages must be there, and the model fit into one file."""
    need("onnx", "onnx")
    need("onnxruntime", "onnx")
    if options.kv_cache and source.model.config.ngram_embedding:
        raise UserError(
            "with a KV cache, a graph sees no token before those it is given, which "
            "model.ngram_embedding looks back on; take onnx without --kv-cache"
        )
    size = source.size_bytes // (4 if options.dtype == "int8" else 1)
    if size > _MOST_BYTES:
        raise UserError("an ONNX file holds less than 2 GB; take --dtype int8, or another format")


def write(source: ExportSource, options: Options, target: Path) -> None:
    """One file, its tokenizer and config in its metadata."""
    target.write_bytes(graph_of(source, options).SerializeToString())


def reopen(source: ExportSource, options: Options, target: Path) -> Reopened:
    """By ONNX Runtime."""
    found = open_exported_file(target)
    return Reopened(found.model, found.tokenizer, "ONNX Runtime")


def graph_of(source: ExportSource, options: Options) -> Any:
    """The ``onnx.ModelProto``, checked.

    Raises:
        ValueError: A dimension that must be free is fixed.
    """
    import onnx
    from onnx import TensorProto, helper

    shape, vocab_size = source.model.config, source.model.vocab_size
    remembered = cached(shape) if options.kv_cache else {}
    builder = _Builder(source.weights, shape, is_int8=options.dtype == "int8")
    pasts = [f"{PAST}.{name}" for name in remembered]
    presents = _add_model(builder, source.model.embedding_scale, pasts)

    def free(name: str, kind: int, *sizes: int | str) -> Any:
        return helper.make_tensor_value_info(name, kind, list(sizes))

    def cache(names: Sequence[str], length: str) -> list[Any]:
        sizes = ((heads, length, width) for heads, width in remembered.values())
        return [
            free(name, TensorProto.FLOAT, "batch", *size)
            for name, size in zip(names, sizes, strict=True)
        ]

    outputs = [f"{PRESENT}.{name}" for name in remembered]
    for name, value in zip(outputs, presents, strict=bool(outputs)):
        builder.nodes.append(helper.make_node("Identity", [value], [name]))
    graph = helper.make_graph(
        builder.nodes,
        "transformer",
        [free(TOKENS, TensorProto.INT64, "batch", "length"), *cache(pasts, "past")],
        [
            free(LOGITS, TensorProto.FLOAT, "batch", "length", vocab_size),
            *cache(outputs, "past + length"),
        ],
        builder.initializers,
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", _OPSET)],
        ir_version=_IR_VERSION,
        producer_name="shakespeare-tui",
        producer_version=source.info.program_version,
    )
    helper.set_model_props(
        model,
        {
            CONTEXT_KEY: str(source.model.context),
            VOCAB_KEY: str(vocab_size),
            CONFIG_KEY: config_to_yaml(source.config),
            TOKENIZER_KEY: tokenizer_text(source.tokenizer, source.chat_template),
        },
    )
    onnx.checker.check_model(model)
    for value in (*model.graph.input, *model.graph.output):
        dimensions = value.type.tensor_type.shape.dim
        length = dimensions[1 if value.name in (TOKENS, LOGITS) else 2]
        if not dimensions[0].dim_param or not length.dim_param:
            raise ValueError(f"{value.name} has a fixed batch or length")
    return model


class _Builder:
    """Nodes and initializers of a graph; every method returns the name of its result."""

    def __init__(
        self, weights: Mapping[str, FloatArray], shape: ModelConfig, *, is_int8: bool
    ) -> None:
        self.weights, self.shape, self.is_int8 = weights, shape, is_int8
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        self._constants: dict[tuple[str, bytes, tuple[int, ...]], str] = {}
        self._quantised: dict[str, list[str]] = {}

    def add(self, kind: str, *inputs: str, outputs: int = 1, **attributes: Any) -> list[str]:
        """A node with several results."""
        from onnx import helper

        names = [f"{len(self.nodes)}.{n}" for n in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, **attributes))
        return names

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """A node with one result."""
        return self.add(kind, *inputs, **attributes)[0]

    def initial(self, name: str, array: NDArray[Any]) -> str:
        """A weight."""
        from onnx import numpy_helper

        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def constant(self, value: Any, kind: Any = np.int64) -> str:
        """A small array, kept once."""
        array = np.array(value, kind)
        key = (str(array.dtype), array.tobytes(), array.shape)
        if key not in self._constants:
            self._constants[key] = self.initial(f"c{len(self._constants)}", array)
        return self._constants[key]

    def size(self, value: str, axis: int) -> str:
        """How large a dimension is, a number."""
        return self.op("Gather", self.op("Shape", value), self.constant(axis))

    def linear(self, x: str, name: str) -> str:
        """The product with a matrix [N, C] and the addition of its bias."""
        weight = self.weights[f"{name}.weight"]
        if self.is_int8:
            numbers, scale = _unsigned(weight)
            table = self.initial(f"{name}.weight", numbers.T)
            y = self._integer_product(x, table, self.initial(f"{name}.scale", scale))
        else:
            y = self.op("MatMul", x, self.initial(f"{name}.weight", weight.T))
        if (bias := self.weights.get(f"{name}.bias")) is not None:
            y = self.op("Add", y, self.initial(f"{name}.bias", bias))
        return y

    def _integer_product(self, x: str, table: str, scale: str) -> str:
        """The product with 8-bit numbers [C, N] and their scales [N], of ``x`` in 8 bits."""
        from onnx import TensorProto

        if x not in self._quantised:
            self._quantised[x] = self.add("DynamicQuantizeLinear", x, outputs=3)
        numbers, step, zero = self._quantised[x]
        y = self.op("MatMulInteger", numbers, table, zero, self.constant(_ZERO, np.uint8))
        return self.op("Mul", self.op("Cast", y, to=TensorProto.FLOAT), self.op("Mul", step, scale))

    def norm(self, x: str, name: str, kind: str) -> str:
        """RMSNorm or LayerNorm over the last dimension."""
        weight = self.initial(f"{name}.weight", self.weights[f"{name}.weight"])
        eps = self.shape.norm_eps
        if kind == "layernorm":
            bias = self.weights.get(f"{name}.bias")
            shift = [] if bias is None else [self.initial(f"{name}.bias", bias)]
            return self.op("LayerNormalization", x, weight, *shift, axis=-1, epsilon=eps)
        squares = self.op("Mul", x, x)
        mean = self.op("ReduceMean", squares, self.constant([-1]), keepdims=1)
        root = self.op("Sqrt", self.op("Add", mean, self.constant(eps, np.float32)))
        return self.op("Mul", self.op("Div", x, root), weight)

    def embed(self, tokens: str) -> tuple[str, str | None]:
        """Rows of the embedding [B, T, C]; and where int8 keeps it, the scales of its rows."""
        from onnx import TensorProto

        weight = self.weights["embedding.weight"]
        if not self.is_int8:
            table = self.initial("embedding.weight", weight)
            return self.op("Gather", table, tokens), None
        numbers, scale = _unsigned(weight)
        table = self.initial("embedding.weight", numbers)
        scales = self.initial("embedding.scale", scale)
        rows = self.op("Cast", self.op("Gather", table, tokens), to=TensorProto.FLOAT)
        centred = self.op("Sub", rows, self.constant(float(_ZERO), np.float32))
        steps = self.op("Unsqueeze", self.op("Gather", scales, tokens), self.constant([-1]))
        return self.op("Mul", centred, steps), scales

    def tied_head(self, x: str, scales: str | None) -> str:
        """The product with the embedding, which is not kept twice."""
        columns = self.op("Transpose", "embedding.weight", perm=[1, 0])
        if scales is None:
            return self.op("MatMul", x, columns)
        return self._integer_product(x, columns, scales)


def _unsigned(weight: FloatArray) -> tuple[NDArray[np.uint8], FloatArray]:
    numbers, scale = quantised(weight)
    return (numbers.astype(np.int16) + _ZERO).astype(np.uint8), scale


def _add_model(builder: _Builder, embedding_scale: float, pasts: Sequence[str]) -> list[str]:
    """All nodes, from tokens to logits; returns what is ``cached``, in its order."""
    shape, op, constant = builder.shape, builder.op, builder.constant
    read = builder.size(pasts[0], 2) if pasts else constant(0)
    end = op("Add", read, builder.size(TOKENS, 1))
    x, scales = builder.embed(TOKENS)
    if embedding_scale != 1:
        x = op("Mul", x, constant(embedding_scale, np.float32))
    if shape.ngram_embedding:
        x = _add_ngrams(builder, x)
    first, last = (op("Reshape", value, constant([1])) for value in (read, end))

    def rows(name: str, table: NDArray[np.float32]) -> str:
        return op("Slice", builder.initial(name, table), first, last, constant([0]))

    rotary = None
    if shape.positions == "rope":
        # [S, D] -> [T, D], which fits [B, H, T, D]
        cosines, sines = rotary_table(shape)
        rotary = rows("cosines", cosines), rows("sines", sines)
    elif shape.positions == "learned":
        x = op("Add", x, rows("positions", builder.weights["positions.weight"]))
    else:
        x = op("Add", x, rows("positions", sinusoidal_table(shape.max_seq_len, shape.d_model)))
    # Which of all S tokens each of the T may look at, [T, S].
    places = op("Range", constant(0), end, constant(1))
    own = op("Unsqueeze", op("Range", read, end, constant(1)), constant([1]))
    allowed = op("LessOrEqual", places, own)
    presents: list[str] = []
    convolved: list[str] = []
    for layer in range(shape.n_layers):
        name = f"blocks.{layer}"
        normed = builder.norm(x, f"{name}.attention_norm", shape.norm)
        past = pasts[2 * layer : 2 * layer + 2]
        mixed, present = _attention(builder, normed, f"{name}.attention", rotary, allowed, past)
        presents += present
        x = op("Add", x, mixed)
        normed = builder.norm(x, f"{name}.feedforward_norm", shape.norm)
        if shape.short_convolution:
            past = pasts[2 * shape.n_layers + layer :][:1]
            normed, seen = _convolved(
                builder, normed, f"{name}.feedforward_convolution", read, past
            )
            convolved.append(seen)
        x = op("Add", x, _feed_forward(builder, normed, f"{name}.feedforward"))
    x = builder.norm(x, "norm", shape.norm)
    logits = builder.tied_head(x, scales) if shape.tie_weights else builder.linear(x, "head")
    builder.add("Identity", logits)
    builder.nodes[-1].output[0] = LOGITS
    return presents + convolved


def _add_ngrams(builder: _Builder, x: str) -> str:
    """``ngram_ids`` of the tokens, which are the text's first; adds their rows to ``x``."""
    op, constant, longest = builder.op, builder.constant, builder.shape.ngram_embedding
    vocab_size = len(builder.weights["embedding.weight"])
    table = builder.initial("ngrams.weight", builder.weights["ngrams.weight"])
    code, before, first = TOKENS, TOKENS, 0
    for rows in ngram_rows(vocab_size, longest):
        # One place on, where the first has nothing before it.
        before = op("Pad", before, constant([0, 1, 0, -1]), constant(vocab_size))
        code = op("Add", op("Mul", code, constant(vocab_size + 1)), before)
        row = op("Add", op("Mod", code, constant(rows)), constant(first))
        x = op("Add", x, op("Gather", table, row))
        first += rows
    return x


def _attention(
    builder: _Builder,
    x: str,
    name: str,
    rotary: tuple[str, str] | None,
    allowed: str,
    past: Sequence[str],
) -> tuple[str, list[str]]:
    """Causal self-attention of ``x`` [B, T, C]; and the keys and values that it used."""
    shape, op, constant = builder.shape, builder.op, builder.constant
    heads, key_heads, width = shape.n_heads, shape.key_heads, shape.head_width
    sizes = [heads * width, key_heads * width, key_heads * width]
    parts = builder.add(
        "Split", builder.linear(x, f"{name}.qkv"), constant(sizes), outputs=3, axis=-1
    )
    queries, keys, values = (
        # [B, T, HD] -> [B, T, H, D]
        op("Reshape", part, constant([0, 0, size // width, width]))
        for part, size in zip(parts, sizes, strict=True)
    )
    if shape.qk_norm:
        queries = builder.norm(queries, f"{name}.q_norm", "rmsnorm")
        keys = builder.norm(keys, f"{name}.k_norm", "rmsnorm")
    # [B, T, H, D] -> [B, H, T, D]
    queries, keys, values = (
        op("Transpose", part, perm=[0, 2, 1, 3]) for part in (queries, keys, values)
    )
    if rotary is not None:
        queries, keys = _rotated(builder, queries, *rotary), _rotated(builder, keys, *rotary)
    if past:
        keys = op("Concat", past[0], keys, axis=2)
        values = op("Concat", past[1], values, axis=2)
    present = [keys, values]
    queries = op("Mul", queries, constant(width**-0.5, np.float32))
    columns = op("Transpose", keys, perm=[0, 1, 3, 2])
    is_shared = key_heads != heads
    if is_shared:
        # Heads that share keys and values together: [B, H, T, D] -> [B, K, H / K, T, D]
        grouped = [0, key_heads, heads // key_heads, -1, width]
        queries = op("Reshape", queries, constant(grouped))
        columns, values = (op("Unsqueeze", part, constant([2])) for part in (columns, values))
    scores = op("MatMul", queries, columns)
    scores = op("Where", allowed, scores, constant(-np.inf, np.float32))
    mixed = op("MatMul", op("Softmax", scores, axis=-1), values)
    if is_shared:
        mixed = op("Reshape", mixed, constant([0, heads, -1, width]))
    # [B, H, T, D] -> [B, T, HD]
    mixed = op("Transpose", mixed, perm=[0, 2, 1, 3])
    mixed = op("Reshape", mixed, constant([0, 0, heads * width]))
    return builder.linear(mixed, f"{name}.out"), present


def _rotated(builder: _Builder, x: str, cosines: str, sines: str) -> str:
    half = builder.shape.head_width // 2
    front, back = builder.add("Split", x, builder.constant([half, half]), outputs=2, axis=-1)
    swapped = builder.op("Concat", back, front, axis=-1)
    return builder.op("Add", builder.op("Mul", x, cosines), builder.op("Mul", swapped, sines))


def _convolved(
    builder: _Builder, x: str, name: str, read: str, past: Sequence[str]
) -> tuple[str, str]:
    """``ShortConvolution`` of ``x`` [B, T, C]; and all that such have read, [B, 1, S + T, C]."""
    op, constant, weights = builder.op, builder.constant, builder.weights[f"{name}.weight"]
    tokens, back = builder.size(x, 1), len(weights) - 1
    seen = op("Unsqueeze", x, constant([1]))
    if past:
        seen = op("Concat", past[0], seen, axis=2)
    padded = op("Pad", seen, constant([0, 0, back, 0, 0, 0, 0, 0]))
    y = ""
    for k, weight in enumerate(weights):
        start = op("Add", read, constant(back - k))
        bounds = (op("Reshape", n, constant([1])) for n in (start, op("Add", start, tokens)))
        rows = op("Slice", padded, *bounds, constant([2]))
        part = op("Mul", rows, builder.initial(f"{name}.{k}", weight))
        y = op("Add", y, part) if k else part
    return op("Squeeze", y, constant([1])), seen


def _feed_forward(builder: _Builder, x: str, name: str) -> str:
    op, activation = builder.op, builder.shape.activation
    hidden = builder.linear(x, f"{name}.up")
    if activation == "swiglu":
        gate = builder.linear(x, f"{name}.gate")
        hidden = op("Mul", op("Mul", gate, op("Sigmoid", gate)), hidden)
    elif activation == "relu2":
        positive = op("Relu", hidden)
        hidden = op("Mul", positive, positive)
    else:
        hidden = op("Gelu", hidden, approximate="tanh")
    return builder.linear(hidden, f"{name}.down")
