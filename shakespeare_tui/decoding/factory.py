"""Choose the decoder for a model."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, TypeAlias, Union

from shakespeare_tui.decoding.cpu_decoder import (
    CpuDecoder,
    make_cpu_decoder,
    wait_until_compiled,
)
from shakespeare_tui.decoding.decoder import PRECISIONS, Decoder, Precision, RereadingDecoder
from shakespeare_tui.decoding.logits_model import LogitsModel
from shakespeare_tui.decoding.packed import ModelArrays, pack
from shakespeare_tui.errors import UserError, never
from shakespeare_tui.models.numpy_gpt import GPT

if TYPE_CHECKING:
    from shakespeare_tui.models.transformer import Transformer

Model: TypeAlias = Union[GPT, "Transformer"]
"""A model of either library; what is NumPy's needs no torch."""
AnyModel: TypeAlias = Model | LogitsModel
"""One of these, or what an exported file computes."""


def make_decoder(
    model: AnyModel,
    streams: int,
    *,
    precision: Precision = "auto",
    use_cache: bool = True,
    is_settled: bool = False,
    cancelled: Callable[[], bool] = never,
) -> Decoder:
    """A decoder of ``streams`` streams: the fast one on the CPU, the plain one elsewhere.

    Args:
        model: In evaluation mode; on the CPU its weights are copied, of a small one on a GPU too.
        streams: B.
        precision: ``auto`` and ``float32`` compute what the model does. ``bfloat16`` and ``int8``
            round the weights of the layers, and of a large last one, to 8 and about 7
            significant bits: faster, and approximate.
        use_cache: Remember what was read; without, every read begins anew, with the same result.
        is_settled: The weights change no more, so that what was made of them is not looked through.
        cancelled: Polled while weights are copied.

    Raises:
        UserError: There is no such precision, or not on the model's device.
        CancelledError: ``cancelled`` became true.
    """
    if precision not in PRECISIONS:
        raise UserError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision}")
    decoder: Decoder
    if isinstance(model, LogitsModel):
        if precision not in ("auto", "float32"):
            raise UserError("an exported model is computed as it was written; take precision auto")
        decoder = model.make_decoder(streams)
    elif isinstance(model, GPT):
        arrays = ModelArrays(model.config, model.weights, model.context, model.embedding_scale)
        decoder = make_cpu_decoder(
            lambda exactly: pack(arrays, exactly, cancelled), streams, precision, cancelled
        )
    else:
        from shakespeare_tui.decoding.torch_decoder import make_torch_decoder

        decoder = make_torch_decoder(model, streams, precision, is_settled, cancelled)
    return decoder if use_cache else RereadingDecoder(decoder)


def decoder_maker(model: AnyModel, precision: Precision = "auto") -> Callable[[], Decoder]:
    """Makes decoders of one stream for a model that changes no more: they share packed weights.

    It waits for compiled code, so that all of them compute alike.

    Raises:
        UserError: There is no such precision, or not on the model's device.
    """
    make = partial(make_decoder, model, 1, precision=precision)
    first = make()
    if not isinstance(first, CpuDecoder):
        return make
    wait_until_compiled()
    if first.make_drafter is not None:
        first.make_drafter()
    return first.another
