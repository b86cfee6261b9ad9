"""Choose the decoder for a model."""

from collections.abc import Callable

import torch

from shakespeare_tui.decoding.cpu_decoder import FastDecoder, can_pack, packed
from shakespeare_tui.decoding.decoder import PRECISIONS, Decoder, Precision
from shakespeare_tui.decoding.torch_decoder import PlainDecoder, RereadingDecoder
from shakespeare_tui.errors import UserError, never
from shakespeare_tui.models.transformer import Transformer


def make_decoder(
    model: Transformer,
    streams: int,
    *,
    precision: Precision = "auto",
    use_cache: bool = True,
    cancelled: Callable[[], bool] = never,
) -> Decoder:
    """A decoder of ``streams`` streams: the fast one on the CPU, the plain one elsewhere.

    Args:
        model: In evaluation mode; on the CPU its weights are copied.
        streams: B.
        precision: ``auto`` and ``float32`` compute what the model does. ``bfloat16`` and ``int8``
            round the weights of the layers to 8 and about 7 significant bits: faster, and
            approximate.
        use_cache: Remember what was read; without, every read begins anew, with the same result.
        cancelled: Polled while weights are copied.

    Raises:
        UserError: There is no such precision, or not on the model's device.
        CancelledError: ``cancelled`` became true.
    """
    if precision not in PRECISIONS:
        raise UserError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision}")
    decoder: Decoder
    if can_pack(model):
        decoder = FastDecoder(packed(model, precision, cancelled), streams)
    elif precision == "int8":
        device = model.embedding.weight.device.type
        raise UserError(f"precision int8 works on the CPU only, not on {device}; take bfloat16")
    else:
        dtype = torch.bfloat16 if precision == "bfloat16" else None
        decoder = PlainDecoder(model, streams, dtype)
    return decoder if use_cache else RereadingDecoder(decoder)
