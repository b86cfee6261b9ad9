"""A generated text with what is new in it, compared with another one."""

from functools import lru_cache

from textual.content import Content

from shakespeare_tui.measures.changes import changed_words, first_difference
from shakespeare_tui.visible_text import LINES, visible

_MOSTLY_NEW = 0.85
"""Above this share, marking what is new would mark everything."""

_compared = lru_cache(256)(changed_words)


def compared_text(prompt: str, text: str, other: str | None) -> Content:
    """Prompt and text; words that ``other`` has not stand out, the first difference is reversed.

    Args:
        prompt: What both texts go on from.
        text: What is shown.
        other: What it is compared with; None compares with nothing.
    """
    prompt, text = visible(prompt, keep=LINES), visible(text, keep=LINES)
    shown = Content.styled(prompt, "$accent")
    if other is None:
        return shown + Content(text)
    other = visible(other, keep=LINES)
    at = first_difference(text, other)
    pieces = _pieces(text, other)
    body = Content.assemble(*pieces)
    if at is None:
        return shown + body
    mark = Content.styled("↵" if text[at] == "\n" else text[at], "reverse bold")
    rest = at if text[at] == "\n" else at + 1
    return shown + body[:at] + mark + body[rest:]


def _pieces(text: str, other: str) -> list[tuple[str, str]]:
    changes = _compared(other, text)
    if changes.share > _MOSTLY_NEW:
        return [(text, "$foreground")]
    return [
        (piece, "bold $success" if is_new else "$foreground") for piece, is_new in changes.pieces
    ]


def difference_note(text: str, other: str, *, is_whole: bool, than: str = "") -> str:
    """Where two texts part, and how much of ``text`` is not in the other; ``than`` names that."""
    at = first_difference(text, other)
    if at is None:
        return "the same text" if is_whole and text == other else "no difference yet"
    share = f"{_compared(other, text).share:.0%}"
    if than:
        return f"{share} differs from {than}, starting at character {at + 1:,}"
    return f"{share} differs, starting at character {at + 1:,}"
