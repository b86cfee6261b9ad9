"""What is exported: a checkpoint, opened, and its weights as arrays whatever trained them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shakespeare_tui.config.schema import Config
from shakespeare_tui.data.tokenizers.chat_template import ChatTemplate
from shakespeare_tui.data.tokenizers.tokenizer import Tokenizer
from shakespeare_tui.decoding.factory import Model
from shakespeare_tui.errors import UserError, never
from shakespeare_tui.models.numpy_gpt import GPT
from shakespeare_tui.runs.folder import Checkpoint, RunInfo
from shakespeare_tui.training.session import open_model

FloatArray = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a format is written.

    Attributes:
        dtype: Of the weights; one of the format's.
        kv_cache: Give keys and values in and out (ONNX).
        prune: Per cent of each matrix of the blocks, those nearest to zero, that become zero.
    """

    dtype: str = "float32"
    kv_cache: bool = False
    prune: float = 0.0

    @property
    def is_exact(self) -> bool:
        """Whether nothing is rounded or left out."""
        return self.dtype == "float32" and not self.prune


@dataclass(frozen=True, kw_only=True, eq=False)
class ExportSource:
    """A checkpoint to be exported.

    Attributes:
        checkpoint: Where it is from.
        info: Of its run.
        config: Of its run.
        tokenizer: Of its run.
        model: As it is evaluated and decoded, on the CPU.
        weights: float32, by their names in checkpoints; a tied output layer is not among them.
    """

    checkpoint: Checkpoint
    info: RunInfo
    config: Config
    tokenizer: Tokenizer
    model: Model
    weights: Mapping[str, FloatArray] = field(repr=False)

    @property
    def size_bytes(self) -> int:
        """Of all weights in float32."""
        return sum(weight.nbytes for weight in self.weights.values())

    @property
    def chat_template(self) -> ChatTemplate | None:
        """How the model reads chats; None where it was not made for them."""
        return self.checkpoint.run.chat_template()

    def with_weights(self, weights: Mapping[str, FloatArray]) -> Model:
        """A model of the same shape with other weights, by the library that opened this one."""
        if isinstance(self.model, GPT):
            from shakespeare_tui.training import numpy_state

            arrays = dict(weights)
            model = GPT(
                self.model.config,
                self.model.vocab_size,
                context=self.model.context,
                embedding_scale=self.model.embedding_scale,
            )
            numpy_state.load_weights(model, arrays, "the export")
            return model
        from shakespeare_tui.models.transformer import Transformer
        from shakespeare_tui.training import torch_state

        assert isinstance(self.model, Transformer)
        twin = Transformer(
            self.model.config,
            self.model.vocab_size,
            context=self.model.context,
            embedding_scale=self.model.embedding_scale,
        ).eval()
        torch_state.load_weights(twin, dict(weights), "the export")
        return twin


def open_source(checkpoint: Checkpoint, cancelled: Callable[[], bool] = never) -> ExportSource:
    """Read a checkpoint for export.

    Raises:
        UserError: It is damaged, or does not fit into memory.
        CancelledError: ``cancelled`` became true.
    """
    model, tokenizer = open_model(checkpoint, "cpu", cancelled)
    if isinstance(model, GPT):
        weights = dict(model.weights)
    else:
        weights = {name: p.detach().numpy() for name, p in model.named_parameters()}
    return ExportSource(
        checkpoint=checkpoint,
        info=checkpoint.run.info(),
        config=checkpoint.run.config(),
        tokenizer=tokenizer,
        model=model,
        weights=weights,
    )


def need(package: str, extra: str) -> Any:
    """An optional package.

    Raises:
        UserError: It is not installed.
    """
    import importlib

    try:
        return importlib.import_module(package)
    except ImportError:
        raise UserError(
            f"this format takes the package {package}, which is not installed: "
            f"pip install 'shakespeare-tui[{extra}]'"
        ) from None
