"""Attention in words and bars: which earlier characters a head looked at most."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from textual.content import Content

from shakespeare_tui.ui.widgets.text_glyphs import sign

_CONTEXT = 6
_LEAST_SHOWN = 0.005


@dataclass
class AttentionChoice:
    """Which layer and head are shown; None is the mean over all."""

    layer: int | None = None
    head: int | None = None

    def of(self, weights: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The chosen weights [position] out of [layers, heads, position]."""
        layers = weights if self.layer is None else weights[[self.layer % len(weights)]]
        heads = layers if self.head is None else layers[:, [self.head % layers.shape[1]]]
        return np.asarray(heads.mean(axis=(0, 1)))

    def move_layer(self, by: int, n_layers: int) -> None:
        """The next layer; the mean comes before the first and after the last."""
        self.layer = _moved(self.layer, by, n_layers)

    def move_head(self, by: int, n_heads: int) -> None:
        """The next head."""
        self.head = _moved(self.head, by, n_heads)

    def title(self, n_layers: int, n_heads: int) -> str:
        """What is shown, in words."""
        layer = "mean" if self.layer is None else f"{self.layer + 1}"
        head = "mean" if self.head is None else f"{self.head + 1}"
        return f"layer {layer} of {n_layers} · head {head} of {n_heads}"


def _moved(value: int | None, by: int, n: int) -> int | None:
    place = (0 if value is None else value + 1) + by
    place %= n + 1
    return None if place == 0 else place - 1


def attention_lines(
    text: str,
    weights: npt.NDArray[np.float32],
    width: int,
    height: int,
    *,
    ascii: bool,  # noqa: A002
) -> Content:
    """The characters that were looked at most, each between its neighbours, with bar and share.

    Args:
        text: The text before the place.
        weights: One for each of its characters.
        width: Cells of a line.
        height: Lines at most.
        ascii: Whether signs for blanks are ASCII.
    """
    lines = []
    room = max(1, width - 2 * _CONTEXT - 14)
    top = float(weights.max(initial=0.0)) or 1.0
    for place in np.argsort(-weights, kind="stable")[:height].tolist():
        if weights[place] < _LEAST_SHOWN:
            break
        before = text[max(0, place - _CONTEXT) : place].rjust(_CONTEXT)
        after = text[place + 1 : place + 1 + _CONTEXT].ljust(_CONTEXT)
        signs = [
            "".join(sign(c, ascii) if c != " " else c for c in before),
            sign(text[place], ascii),
            "".join(sign(c, ascii) if c != " " else c for c in after),
        ]
        bar = "█" * max(1, round(float(weights[place]) / top * room))
        lines.append(
            Content.assemble(
                (f"{place - len(text):>5} ", "$text-muted"),
                (signs[0], "$text-muted"),
                (signs[1], "bold $accent"),
                (signs[2], "$text-muted"),
                (f" {bar.ljust(room)}", "$accent"),
                (f"{float(weights[place]):>5.0%}", "$foreground"),
            )
        )
    return Content("\n").join(lines)
