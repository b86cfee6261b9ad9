"""How files name and lay out a transformer's weights: how they become ours, and ours theirs."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from shakespeare_tui.config.schema import ModelConfig
from shakespeare_tui.errors import UserError, check_cancelled, never
from shakespeare_tui.formatting import format_bytes
from shakespeare_tui.models.parameters import count_parameters

if TYPE_CHECKING:
    from torch import Tensor

    from shakespeare_tui.data.tokenizers.chat_template import ChatTemplate
    from shakespeare_tui.models.transformer import Transformer

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Pretrained:
    """A model read from elsewhere.

    Attributes:
        model: With its weights in float32.
        tokenizer: As in a ``tokenizer.json`` of Hugging Face; None where there was none.
        family: What its publishers call the architecture.
        tokenizer_problem: Why there is no tokenizer, where there is none.
        chat_template: None where it was not made for chats.
    """

    model: "Transformer"
    tokenizer: dict[str, Any] | None
    family: str
    tokenizer_problem: str = "it brings no tokenizer"
    chat_template: "ChatTemplate | None" = None


class TensorFile(Protocol):
    """Named tensors of a file, or of several that belong together."""

    @property
    def origin(self) -> str:
        """How messages name it."""

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Of every tensor, as PyTorch has it."""

    def read(self, name: str) -> "Tensor | NDArray[np.float32]":
        """One tensor in float32."""


@dataclass(frozen=True)
class Layout:
    """Where the weights of a family are.

    Attributes:
        outside: Their names of our modules outside the blocks.
        block: Beginning of their names in a block, with its number.
        inside: Their names of our modules in a block; several are put on top of each other.
        ignored: Names of tensors that are no weights.
        prefix: What a whole language model's file has before all names but the output layer's.
        is_transposed: Blocks' matrices are [inputs, outputs].
        is_interleaved: In a head's queries and keys, those numbers that rotate together are
            neighbours; here they are half a head apart.
    """

    outside: Mapping[str, str]
    block: str
    inside: Mapping[str, tuple[str, ...]]
    ignored: str = r"(?!)"
    prefix: str = ""
    is_transposed: bool = False
    is_interleaved: bool = False

    def sources(self, name: str) -> tuple[str, ...]:
        """Their names for our parameter."""
        module, _, kind = name.rpartition(".")
        if not module.startswith("blocks."):
            return (f"{self.outside[module]}.{kind}",)
        _, number, inner = module.split(".", 2)
        return tuple(f"{self.block.format(number)}.{part}.{kind}" for part in self.inside[inner])


_GPT2 = Layout(
    outside={"embedding": "wte", "positions": "wpe", "norm": "ln_f", "head": "lm_head"},
    block="h.{}",
    inside={
        "attention_norm": ("ln_1",),
        "attention.qkv": ("attn.c_attn",),
        "attention.out": ("attn.c_proj",),
        "feedforward_norm": ("ln_2",),
        "feedforward.up": ("mlp.c_fc",),
        "feedforward.down": ("mlp.c_proj",),
    },
    ignored=r"h\.\d+\.attn\.(bias|masked_bias)",
    prefix="transformer.",
    is_transposed=True,
)
_LLAMA = Layout(
    outside={"embedding": "embed_tokens", "norm": "norm", "head": "lm_head"},
    block="layers.{}",
    inside={
        "attention_norm": ("input_layernorm",),
        "attention.qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
        "attention.q_norm": ("self_attn.q_norm",),
        "attention.k_norm": ("self_attn.k_norm",),
        "attention.out": ("self_attn.o_proj",),
        "feedforward_norm": ("post_attention_layernorm",),
        "feedforward.gate": ("mlp.gate_proj",),
        "feedforward.up": ("mlp.up_proj",),
        "feedforward.down": ("mlp.down_proj",),
    },
    ignored=r"layers\.\d+\.self_attn\.rotary_emb\.inv_freq",
    prefix="model.",
)
_GGUF_OUTSIDE = {
    "embedding": "token_embd",
    "positions": "position_embd",
    "norm": "output_norm",
    "head": "output",
}
_GGUF_INSIDE = {
    "attention_norm": ("attn_norm",),
    "attention.q_norm": ("attn_q_norm",),
    "attention.k_norm": ("attn_k_norm",),
    "attention.out": ("attn_output",),
    "feedforward_norm": ("ffn_norm",),
    "feedforward.gate": ("ffn_gate",),
    "feedforward.up": ("ffn_up",),
    "feedforward.down": ("ffn_down",),
}
_GGUF_GPT2 = Layout(
    outside=_GGUF_OUTSIDE,
    block="blk.{}",
    inside={**_GGUF_INSIDE, "attention.qkv": ("attn_qkv",)},
)
_GGUF_QWEN = Layout(
    outside=_GGUF_OUTSIDE,
    block="blk.{}",
    inside={**_GGUF_INSIDE, "attention.qkv": ("attn_q", "attn_k", "attn_v")},
)
_GGUF_LLAMA = Layout(
    outside=_GGUF_OUTSIDE,
    block="blk.{}",
    inside=_GGUF_QWEN.inside,
    ignored=r"rope_freqs\.weight",
    is_interleaved=True,
)

FAMILIES: dict[str, Layout] = {
    "gpt2": _GPT2,
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
}
"""By ``model_type`` of a Hugging Face config."""
GGUF_FAMILIES: dict[str, Layout] = {
    "gpt2": _GGUF_GPT2,
    "llama": _GGUF_LLAMA,
    "qwen2": _GGUF_QWEN,
    "qwen3": _GGUF_QWEN,
}
"""By ``general.architecture`` of a GGUF file."""


def check_family(family: object, known: Mapping[str, Layout], origin: str) -> str:
    """The family, or a word of what can be read.

    Raises:
        UserError: It is none of those.
    """
    if isinstance(family, str) and family in known:
        return family
    shown = f"architecture {family!r}" if family else "no architecture"
    raise UserError(f"{origin} names {shown}, which cannot be read; {', '.join(known)} can")


def model_config(values: Record, origin: str) -> ModelConfig:
    """The shape of these settings.

    Raises:
        UserError: There can be none.
    """
    try:
        return ModelConfig.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        message = f"{place}: {first['msg']}" if place else first["msg"]
        raise UserError(f"{origin} describes a model that cannot be built ({message})") from None


def read_weights(
    config: ModelConfig,
    layout: Layout,
    file: TensorFile,
    available_bytes: int | None = None,
    cancelled: Callable[[], bool] = never,
) -> "Transformer":
    """A model of the weights in a file, in float32 and in evaluation mode.

    Raises:
        UserError: The file's tensors are not those of the shape, or too many for the memory.
        CancelledError: ``cancelled``, polled between tensors, became true.
    """
    import torch

    from shakespeare_tui.models.transformer import Transformer

    embedding = file.shapes.get(layout.sources("embedding.weight")[0])
    if embedding is None or len(embedding) != 2:
        raise UserError(f"{file.origin} has no {layout.sources('embedding.weight')[0]}")
    # By arithmetic, before memory is taken.
    held = sum(_elements(shape) for shape in file.shapes.values())
    needed = count_parameters(config, embedding[0])
    if needed > held:
        raise UserError(f"{file.origin} holds fewer weights than its configuration describes")
    # The model, and a share of it while it is read.
    if available_bytes is not None and needed * 5 > available_bytes:
        raise UserError(
            f"{file.origin} takes about {format_bytes(needed * 5)} of memory, and "
            f"{format_bytes(available_bytes)} are free; end other programs, or take a smaller model"
        )
    model = Transformer(config, embedding[0], cancelled=cancelled).eval()
    used = set(layout.sources("head.weight"))  # some repeat what is tied
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            check_cancelled(cancelled, "importing")
            used.update(layout.sources(name))
            parts = list(_parts(name, config, layout, file))
            whole = torch.cat(parts) if len(parts) > 1 else parts[0]
            if whole.shape != parameter.shape:
                raise UserError(
                    f"{file.origin} does not fit its configuration: {layout.sources(name)[0]} has "
                    f"the shape {list(whole.shape)}, not {list(parameter.shape)}"
                )
            parameter.copy_(whole)
    used.update(_repeated_gates(config, layout, file))
    ignored = re.compile(layout.ignored)
    for name in file.shapes:
        if name not in used and not ignored.fullmatch(name):
            raise UserError(f"{file.origin} has weights that this program has no place for: {name}")
    return model


def _elements(shape: tuple[int, ...]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count


def _parts(name: str, config: ModelConfig, layout: Layout, file: TensorFile) -> "Iterator[Tensor]":
    for place, source in enumerate(layout.sources(name)):
        if source not in file.shapes:
            raise UserError(f"{file.origin} is not complete: it has no {source}")
        part = _tensor(file, source)
        if layout.is_transposed and name.startswith("blocks.") and part.dim() == 2:
            part = part.T
        is_turned = layout.is_interleaved and _rotates(name, place, config)
        if is_turned and part.size(0) % config.head_width == 0:
            # [K, D / 2, 2, ...] -> [K, 2, D / 2, ...]
            pairs = part.view(-1, config.head_width // 2, 2, *part.shape[1:])
            part = pairs.transpose(1, 2).reshape(part.shape)
        yield part


def _tensor(file: TensorFile, name: str) -> "Tensor":
    import torch

    return torch.as_tensor(file.read(name))


def _rotates(name: str, place: int, config: ModelConfig) -> bool:
    """Whether the part of a parameter, as ``Layout.sources`` counts them, is of what rotates."""
    return ".attention.qkv." in name and place < 2 and config.positions == "rope"


def _repeated_gates(config: ModelConfig, layout: Layout, file: TensorFile) -> Iterator[str]:
    """The gates of a file whose ReLU² is written as a gated ReLU: relu(x) · x is relu(x)².

    Raises:
        UserError: A gate is another matrix than the one it gates.
    """
    if config.activation != "relu2" or "feedforward.gate" not in layout.inside:
        return
    for layer in range(config.n_layers):
        for kind in ("weight", "bias") if config.bias else ("weight",):
            (gate,) = layout.sources(f"blocks.{layer}.feedforward.gate.{kind}")
            (up,) = layout.sources(f"blocks.{layer}.feedforward.up.{kind}")
            if gate not in file.shapes or not _tensor(file, gate).equal(_tensor(file, up)):
                raise UserError(
                    f"{file.origin}: a ReLU gated by another matrix ({gate}) cannot be done here"
                )
            yield gate


def lay_out(
    weights: Mapping[str, NDArray[np.float32]], config: ModelConfig, layout: Layout
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Our weights by their names and in their shapes: what ``read_weights`` reads as ours again.

    Args:
        weights: By their names in checkpoints.
        config: Their shape; it is the caller's to know that the layout has a place for all of it.
        layout: Theirs.
    """
    heads, key_heads = config.n_heads, config.key_heads
    ends = np.cumsum([heads, key_heads]) * config.head_width
    for name, whole in weights.items():
        sources = layout.sources(name)
        parts = np.split(whole, ends) if len(sources) > 1 else [whole]
        for place, (source, part) in enumerate(zip(sources, parts, strict=True)):
            if layout.is_interleaved and _rotates(name, place, config):
                # [K, 2, D / 2, ...] -> [K, D / 2, 2, ...]
                halves = part.reshape(-1, 2, config.head_width // 2, *part.shape[1:])
                part = halves.swapaxes(1, 2).reshape(part.shape)
            if layout.is_transposed and name.startswith("blocks.") and part.ndim == 2:
                part = part.T
            prefix = "" if name.startswith("head.") else layout.prefix
            yield prefix + source, np.ascontiguousarray(part)
