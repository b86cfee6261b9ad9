"""Three lines about the character under the cursor: its chance, its source, and the shades."""

import math
from typing import TYPE_CHECKING

from textual.content import Content

from shakespeare_tui.ui.playground.reading_text import LEVEL_NAMES, LOOK_NAMES
from shakespeare_tui.ui.widgets.text_glyphs import sign

if TYPE_CHECKING:
    from shakespeare_tui.ui.engine.scoring import Scored

_LEAST_SHARE = 0.001
_LEVEL_LOOKS = (
    "$text-muted",
    "$foreground",
    "bold $foreground on $warning 18%",
    "bold italic $foreground on $warning 40%",
    "bold $background on $error",
)


def reading_foot(
    text: str,
    position: int,
    scored: "Scored | None",
    side: str,
    ascii: bool,  # noqa: A002
) -> Content:
    """The lines for a place of a text."""
    names = LOOK_NAMES if side == "attention" else LEVEL_NAMES
    legend = Content.styled("looked at " if side == "attention" else "probability ", "$text-muted")
    for name, look in zip(names, _LEVEL_LOOKS, strict=True):
        legend = legend + Content.styled(f" {name} ", look)
    lines = (_chosen(text, position, scored, ascii), _copied(position, scored), legend)
    return Content("\n").join(lines)


def _chosen(text: str, position: int, scored: "Scored | None", ascii: bool) -> Content:  # noqa: A002
    where = f"character {position + 1:,} of {len(text):,}"
    if position >= len(text):
        return Content.styled(f"behind the last of {len(text):,} characters", "$text-muted")
    shown = (sign(text[position], ascii), "bold $accent")
    if scored is None or position >= len(scored.nats):
        return Content.assemble(shown, (f"  {where}", "$text-muted"))
    nats = float(scored.nats[position])
    if math.isnan(nats):
        return Content.assemble(shown, (f"  {where}, which nothing foretells", "$text-muted"))
    entropy = float(scored.entropy[position])
    return Content.assemble(
        shown,
        f"  {_share(math.exp(-nats))}",
        f" · surprise {nats:.2f}",
        f" · rank {scored.rank[position]}",
        (f" · entropy {entropy:.2f} nats · {where}", "$text-muted"),
    )


def _share(probability: float) -> str:
    return f"{probability:.1%}" if probability >= _LEAST_SHARE else f"<{_LEAST_SHARE:.1%}"


def _copied(position: int, scored: "Scored | None") -> Content:
    memory = scored.measures.memorisation if scored else None
    if memory is None:
        return Content("")
    for passage in memory.passages:
        if passage.start <= position < passage.end:
            n = passage.end - passage.start
            return Content.styled(
                f"copied: {n} characters from line {passage.source_line:,} of the corpus",
                "$warning",
            )
    n = len(memory.passages)
    words = f"{n} copied passages, m goes to the next" if n else "nothing copied"
    return Content.styled(words if n != 1 else "1 copied passage, m goes to it", "$text-muted")
