"""The words and figures of the pre-flight card."""

from collections.abc import Iterator
from dataclasses import dataclass

from textual.content import Content

from shakespeare_tui.config.estimate.advice import Advice
from shakespeare_tui.config.estimate.figures import Preflight
from shakespeare_tui.config.estimate.nearest_run import NearestRun
from shakespeare_tui.config.estimate.speed import Speed
from shakespeare_tui.formatting import format_bytes, format_count, format_duration

_BAR_FROM_WIDTH = 38
_BAR = "▬"
_MOST_ADVICE = 4
_LOW_ROWS, _AIRY_ROWS = 24, 34
# In a low window, components smaller than this share of the model are left out.
_SMALL_SHARE = 0.02


@dataclass(frozen=True, kw_only=True)
class CardFigures:
    """Everything the card shows.

    Attributes:
        figures: Of the last config that was valid; None before there was one.
        is_stale: The draft has mistakes, so ``figures`` are of an earlier moment of it.
        speed: Training speed, if anything is known of it.
        is_measuring: It is being measured now.
        speed_note: Why it could not be measured.
        nearest: The past run most like the config.
        note: What there is to say of the corpus.
        advice: From the tuning guide, the gravest first.
    """

    figures: Preflight | None = None
    is_stale: bool = False
    speed: Speed | None = None
    is_measuring: bool = False
    speed_note: str = ""
    nearest: NearestRun | None = None
    note: str = ""
    advice: tuple[Advice, ...] = ()


def card_lines(card: CardFigures, width: int, rows: int) -> Iterator[Content]:
    """The figures, a line each.

    Args:
        card: What to show.
        width: Cells there are.
        rows: Height of the card; where it is low, what is small is left out.
    """
    figures = card.figures
    if figures is None:
        yield Content.styled("no valid config yet", "$text-muted")
        return
    gap = [Content("")] if rows >= _AIRY_ROWS else []
    yield from _parameters(figures, width, rows < _LOW_ROWS)
    yield from gap
    yield from _memory(figures, width)
    yield from gap
    yield _row("tokens seen", _count(figures.tokens), width=width)
    yield _row("epochs", _decimal(figures.epochs, 1), width=width)
    yield _row("tokens/parameter", _decimal(figures.tokens_per_parameter, 2), width=width)
    yield from gap
    yield _row("speed", *_speed(card), width=width)
    yield _row("time", *_time(card), width=width)
    yield from gap
    yield from _nearest(card.nearest, width)


def _parameters(figures: Preflight, width: int, is_low: bool) -> Iterator[Content]:
    total = figures.parameter_count
    yield _row("parameters", format_count(total), width=width, style="bold $accent")
    for name, count in figures.parameters.items():
        if count > total * (_SMALL_SHARE if is_low else 0):
            yield _part(name, format_count(count), count / total, width)


def _memory(figures: Preflight, width: int) -> Iterator[Content]:
    memory = figures.memory
    yield _row("memory", format_bytes(memory.total), width=width, style="bold $accent")
    for name, size in (
        ("weights", memory.weights),
        ("gradients", memory.gradients),
        ("optimiser", memory.optimizer),
        ("activations", memory.activations),
    ):
        yield _part(name, format_bytes(size), size / memory.total, width)


def _speed(card: CardFigures) -> tuple[str, str]:
    if card.is_measuring:
        return "measuring …", "$warning"
    if card.speed is None:
        return "m measures it", "$text-muted"
    about = "" if card.speed.is_measured else "≈ "
    return f"{about}{card.speed.tokens_per_second:,.0f} tok/s", "bold"


def _time(card: CardFigures) -> tuple[str, str]:
    assert card.figures is not None
    seconds = card.figures.seconds
    if seconds is None:
        return "–", "$text-muted"
    is_exact = card.figures.is_budget or card.speed is None or card.speed.is_measured
    return f"{'' if is_exact else '≈ '}{format_duration(seconds)}", "bold"


def _nearest(nearest: NearestRun | None, width: int) -> Iterator[Content]:
    if nearest is None:
        yield _row("nearest run", "none yet", width=width, style="$text-muted")
        return
    yield _row("nearest run", f"val loss {nearest.run.loss}", width=width)
    count = nearest.differing
    apart = "same settings" if not count else f"{count} setting{'s' * (count > 1)} differ"
    apart += "s" * (count == 1)
    yield Content.styled(f"  {nearest.run.name}, {apart}", "$text-muted")


def advice_content(card: CardFigures, rows: int) -> Content:
    """What is in the way, notes, and advice, a paragraph each; in a low card only the gravest."""
    parts = []
    problem = card.figures.problem if card.figures else ""
    if problem:
        parts.append(Content.assemble(("✗ ", "bold $error"), (problem, "$error")))
    for note in (card.note, card.speed_note):
        if note and note != problem:
            parts.append(Content.styled(f"· {note}", "$text-muted"))
    most = 1 if rows < _AIRY_ROWS else _MOST_ADVICE
    for advice in card.advice[:most]:
        style = "$error" if advice.is_grave else "$warning"
        parts.append(Content.assemble(("! ", f"bold {style}"), advice.text))
    more = len(card.advice) - most
    if more > 0:
        parts.append(Content.styled(f"a lists {more} more", "$text-muted"))
    elif any(advice.overrides for advice in card.advice):
        parts.append(Content.styled("a follows advice", "$text-muted"))
    return Content("\n").join(parts)


def _row(label: str, value: str, style: str = "bold", *, width: int) -> Content:
    gap = " " * max(1, width - len(label) - len(value))
    return Content.assemble((label, "$text-muted"), gap, (value, style))


def _part(label: str, value: str, share: float, width: int) -> Content:
    """An indented row; a wide one has a bar of its share."""
    line = f"  {label:<19}"
    bar = ""
    if width >= _BAR_FROM_WIDTH:
        room = width - 34
        bar = (_BAR * max(1 if share else 0, round(share * room))).ljust(room)
    gap = " " * max(1, width - len(line) - len(value) - len(bar) - 1)
    if not bar:
        line, gap = line.rstrip(), " " * max(1, width - len(line.rstrip()) - len(value))
        return Content.assemble((line, "$text-muted"), gap, value)
    return Content.assemble((line, "$text-muted"), (bar, "$accent"), gap, " ", value)


def _count(count: float | None) -> str:
    return "–" if count is None else format_count(count)


def _decimal(number: float | None, digits: int) -> str:
    return "–" if number is None else f"{number:,.{digits}f}"
