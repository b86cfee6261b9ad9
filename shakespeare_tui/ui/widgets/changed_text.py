"""A text beside an earlier one, the words that are new in bold."""

from functools import lru_cache

from textual.content import Content

from shakespeare_tui.measures.changes import Changes, changed_words

_MOSTLY_NEW = 0.85
"""Above this share, marking what is new would mark everything."""

compared = lru_cache(256)(changed_words)
"""``changed_words``, remembered: texts are drawn much more often than they change."""


def marked(changes: Changes) -> Content:
    """The later text; where most of it is new, nothing is marked."""
    if changes.share > _MOSTLY_NEW:
        return Content.styled("".join(piece for piece, _ in changes.pieces), "$foreground")
    return Content.assemble(
        *((piece, "bold $success" if is_new else "$foreground") for piece, is_new in changes.pieces)
    )
