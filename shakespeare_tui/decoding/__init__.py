"""Decoding: from a model and a prompt to text."""

from shakespeare_tui.decoding.choosers import ENDED, WAITING
from shakespeare_tui.decoding.columns import Column, generate_columns
from shakespeare_tui.decoding.decoder import PRECISIONS, Decoder, Precision
from shakespeare_tui.decoding.factory import make_decoder
from shakespeare_tui.decoding.speculative import (
    Acceptance,
    LookUpProposer,
    ModelProposer,
    Proposer,
    generate_speculatively,
)
from shakespeare_tui.decoding.torch_decoder import PlainDecoder
from shakespeare_tui.decoding.window import WindowReader, window_start

__all__ = [
    "ENDED",
    "PRECISIONS",
    "WAITING",
    "Acceptance",
    "Column",
    "Decoder",
    "LookUpProposer",
    "ModelProposer",
    "PlainDecoder",
    "Precision",
    "Proposer",
    "WindowReader",
    "generate_columns",
    "generate_speculatively",
    "make_decoder",
    "window_start",
]
