"""The lines of the Overview: where a corpus comes from, its verdict, and its figures."""

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from textual.content import Content

from shakespeare_tui.data.available import AvailableCorpus
from shakespeare_tui.formatting import format_bytes
from shakespeare_tui.ui.widgets.text_glyphs import glyphs
from shakespeare_tui.ui.widgets.text_page import (
    LABEL_CELLS,
    bar,
    beside,
    column_widths,
    heading,
    muted,
    pair,
    pair_lines,
    paragraph,
    sections,
)

if TYPE_CHECKING:
    from shakespeare_tui.data.inspect.scan import ScanState
    from shakespeare_tui.data.inspect.verdict import Verdict

TWO_COLUMNS_CELLS = 96
_LONGEST_BAR_CELLS = 32
_SHOWN_VOCABULARY = 400
_MARKS = {"good": "✓", "note": "·", "warning": "!", "bad": "✗"}
_ASCII_MARKS = {"good": "+", "note": "-", "warning": "!", "bad": "x"}
_STYLES = {"good": "$success", "note": "$text-muted", "warning": "$warning", "bad": "$error"}
_MODELS = ("uniform", "unigram", "bigram", "5-gram")


def waiting_lines(item: AvailableCorpus, advice: str, width: int) -> list[Content]:
    """What is known of a corpus without reading it, below what one can do."""
    return sections(paragraph(advice, width, "bold"), _origin(item, None, width))


def refused_lines(
    item: AvailableCorpus, verdict: "Verdict", width: int, is_ascii: bool
) -> list[Content]:
    """Why a corpus cannot be read, and what to do."""
    return sections(_verdict(verdict, width, is_ascii), _origin(item, None, width))


def overview_lines(
    item: AvailableCorpus, state: "ScanState", width: int, is_ascii: bool
) -> list[Content]:
    """The figures of a corpus that was read, or is being read."""
    from shakespeare_tui.data.inspect.verdict import judge

    if width < TWO_COLUMNS_CELLS:
        left = right = width
    else:
        left, right = column_widths(width)
    verdict = (
        _verdict(judge(state.statistics), left, is_ascii)
        if state.is_read
        else _reading(state, left)
    )
    first = sections(verdict, _origin(item, state, left), _sizes(state, left))
    second = sections(
        _baselines(state, right, is_ascii),
        _split(state, right, is_ascii),
        _kinds(state, right, is_ascii),
    )
    columns = (first, second) if width < TWO_COLUMNS_CELLS else (beside(first, second, left),)
    return sections(*columns, _vocabulary(state, width), _first_lines(state))


def _reading(state: "ScanState", width: int) -> Iterable[Content]:
    share = state.done_bytes / max(1, state.source.size_bytes)
    yield heading("Verdict")
    text = f"{share:.0%} read: the figures are those of the text so far"
    yield from paragraph(text, width, "$text-muted")


def _verdict(verdict: "Verdict", width: int, is_ascii: bool) -> Iterable[Content]:
    marks = _ASCII_MARKS if is_ascii else _MARKS
    style = "$success" if verdict.level == "note" else _STYLES[verdict.level]
    yield Content.assemble(heading("Verdict"), "  ", (verdict.summary, f"bold {style}")).truncate(
        width, ellipsis=True
    )
    for finding in verdict.findings:
        mark = Content.styled(f"{marks[finding.level]} ", _STYLES[finding.level])
        for line in pair_lines(finding.subject, finding.text, width - 2, 11):
            yield Content.assemble(mark, line)
            mark = Content("  ")


def _origin(item: AvailableCorpus, state: "ScanState | None", width: int) -> Iterable[Content]:
    yield heading("Corpus")
    if item.title != item.spec:
        yield from pair_lines("title", item.title, width)
    yield from pair_lines("origin", item.origin, width)
    if item.licence:
        yield pair("licence", item.licence, width)
    if item.path is not None and str(item.path) != item.origin:
        yield from pair_lines("file", str(item.path), width)
    if state is None and item.size_bytes is not None:
        about = "about " if item.is_size_rough else ""
        yield pair("size", f"{about}{item.size_bytes:,} bytes", width)
    digest = item.sha256 or (state.sha256 if state else None)
    if digest:
        # A digest that does not fit is cut into halves.
        half = len(digest) // 2
        fits = width - LABEL_CELLS >= len(digest)
        shown = digest if fits else f"{digest[:half]} {digest[half:]}"
        yield from pair_lines("sha-256", shown, min(width, LABEL_CELLS + len(digest)))
    yield from pair_lines("hash", _hash_words(item), width)


def _hash_words(item: AvailableCorpus) -> str:
    return {
        "verified": "verified" if item.sha256 else "as on the first download",
        "shipped": "shipped with the program, nothing to verify",
        "own": "your own file, nothing to compare with",
        "absent": "will be verified when it is fetched"
        if item.sha256
        else "none is known; that of the first download will count",
        "damaged": "not verified",
        "unchecked": "not checked yet",
    }[item.status]


def _sizes(state: "ScanState", width: int) -> Iterable[Content]:
    statistics = state.statistics
    size = state.source.size_bytes
    rows = [
        ("bytes", f"{size:,}", f"{format_bytes(size)}"),
        ("characters", f"{statistics.characters:,}", ""),
        ("lines", f"{statistics.lines:,}", f"longest {statistics.longest_line_characters:,}"),
        ("vocabulary", f"{statistics.vocab_size:,}", "distinct characters"),
    ]
    if len(state.source.paths) > 1:
        rows.insert(0, ("files", f"{len(state.source.paths):,}", ""))
    cells = max(len(number) for _, number, _ in rows)
    yield heading("Size")
    for label, number, remark in rows:
        value = Content.assemble(number.rjust(cells), (f"  {remark}", "$text-muted"))
        yield pair(label, value, width)


def _kinds(state: "ScanState", width: int, is_ascii: bool) -> Iterable[Content]:
    cells = max(len(f"{state.statistics.characters:,}"), 6)
    room = max(0, min(_LONGEST_BAR_CELLS, width - 14 - cells - 11))
    yield heading("Character classes")
    for label, count, share in state.statistics.kinds():
        yield Content.assemble(
            (label.ljust(14), "$text-muted"),
            f"{count:>{cells},} {share:>8.2%}  ",
            (bar(share, room, is_ascii), "$accent"),
        )


def _split(state: "ScanState", width: int, is_ascii: bool) -> Iterable[Content]:
    yield heading("Train/validation split")
    if state.split is None:
        yield muted("available once the whole text has been read")
        return
    split = state.split
    n = split.train + split.validation
    cells = len(f"{n:,}")
    room = max(0, min(_LONGEST_BAR_CELLS, width - 14 - cells - 11))
    for label, size, style in (
        ("training", split.train, "$accent"),
        ("validation", split.validation, "$warning"),
    ):
        yield Content.assemble(
            (label.ljust(14), "$text-muted"),
            f"{size:>{cells},} {size / n:>8.1%}  ",
            (bar(size / n, room, is_ascii), style),
        )
    if split.val_fraction is None:
        yield muted("validation has a text of its own")


def _vocabulary(state: "ScanState", width: int) -> Iterable[Content]:
    from shakespeare_tui.data.inspect.verdict import names

    vocabulary = state.statistics.vocabulary
    yield heading("Vocabulary, by code point")
    yield from paragraph(names(list(vocabulary[:_SHOWN_VOCABULARY])), width)
    if len(vocabulary) > _SHOWN_VOCABULARY:
        yield muted(f"and {len(vocabulary) - _SHOWN_VOCABULARY:,} more: see Characters")


def _first_lines(state: "ScanState") -> Iterable[Content]:
    yield heading("First lines")
    for line in state.statistics.first_lines:
        yield Content(glyphs(line))


def _baselines(state: "ScanState", width: int, is_ascii: bool) -> Iterable[Content]:
    yield heading("N-gram baselines")
    losses = state.baselines.losses
    if state.phase == "done" and not losses:
        yield muted("the text is too short for n-gram baselines")
        return
    if not losses:
        yield muted("available once the whole text has been read")
        return
    largest = max(losses.values()) or 1.0
    room = max(0, min(_LONGEST_BAR_CELLS, width - 14 - 8 - 12 - 2))
    yield muted(f"{'model':<14}{'loss':>8}{'perplexity':>12}")
    for name in _MODELS:
        loss = losses.get(name)
        if loss is None:
            yield muted(f"{name:<14}{'…':>8}")
            continue
        yield Content.assemble(
            (name.ljust(14), "$text-muted"),
            f"{loss:>8.4f}{math.exp(loss):>12.2f}  ",
            (bar(loss / largest, room, is_ascii), "$accent"),
        )
    yield from paragraph(
        f"nats per character on {state.baselines.validation:,} characters after the split, "
        f"counted on {state.baselines.train:,} before it",
        width,
        "$text-muted",
    )
