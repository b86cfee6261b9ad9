"""Measures of text: how varied, repetitive, real, well laid out and copied a text is."""

from shakespeare_tui.measures.copies import LEAST_COPY_CHARACTERS, Memorisation, Passage
from shakespeare_tui.measures.reference import CorpusReference, open_reference, reference_for_run
from shakespeare_tui.measures.report import (
    MEASURES,
    MeasureKind,
    Measures,
    best_measures,
    measure_text,
)

__all__ = [
    "LEAST_COPY_CHARACTERS",
    "MEASURES",
    "CorpusReference",
    "MeasureKind",
    "Measures",
    "Memorisation",
    "Passage",
    "best_measures",
    "measure_text",
    "open_reference",
    "reference_for_run",
]
