"""Measure whether a text is laid out as a play: speeches under the names of known speakers."""

from collections.abc import Collection
from dataclasses import dataclass

from shakespeare_tui.data.inspect.speeches import heading_name, text_blocks


@dataclass(frozen=True)
class Layout:
    """Shares of a text's blocks and headings; None where there are none."""

    wellformed_share: float | None
    """Blocks that are a heading with at least one line of text below it."""
    known_speaker_share: float | None
    """Headings that name a known speaker."""


def measure_layout(text: str, speakers: Collection[str] | None, prompt_length: int = 0) -> Layout:
    r"""Measure the layout of what follows the prompt.

    A block that the prompt began counts if something follows in it; a heading that the prompt
    completed does not.

    Args:
        text: The whole text; ``\r\n`` counts as ``\n``.
        speakers: The names that are known; None leaves their share unmeasured.
        prompt_length: Characters of the prompt at its beginning.
    """
    prompt_length = len(text[:prompt_length].replace("\r\n", "\n"))
    text = text.replace("\r\n", "\n")
    blocks = wellformed = headings = known = 0
    for start, block in text_blocks(text):
        if not text[max(start, prompt_length) : start + len(block)].strip():
            continue
        blocks += 1
        first, _, rest = block.partition("\n")
        name = heading_name(first)
        if name is None:
            continue
        wellformed += bool(rest.strip())
        if start + len(first) > prompt_length:
            headings += 1
            known += speakers is not None and name in speakers
    return Layout(
        wellformed_share=wellformed / blocks if blocks else None,
        known_speaker_share=known / headings if headings and speakers is not None else None,
    )
