"""The surprise view: a text shaded by its probability, what was expected, branches from there."""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import numpy.typing as npt
from rich.segment import Segment
from rich.style import Style
from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.content import Content
from textual.message import Message
from textual.timer import Timer
from textual.widget import Widget
from textual.widgets import Static

from shakespeare_tui.formatting import counted
from shakespeare_tui.ui.engine.generation import GenerationJob, GenerationRequest
from shakespeare_tui.ui.jobs import Job, Jobs
from shakespeare_tui.ui.lab_screen import lab_of
from shakespeare_tui.ui.playground.columns_strip import progress
from shakespeare_tui.ui.playground.export import WrittenText, written_text
from shakespeare_tui.ui.playground.xray import XRay, nudged, xray_lines
from shakespeare_tui.ui.widgets.stream_text import StreamText
from shakespeare_tui.ui.widgets.text_glyphs import sign, signs

if TYPE_CHECKING:
    from shakespeare_tui.sampling import Draw, Recording
    from shakespeare_tui.ui.engine.scoring import Expectation, Reals, Scored

    _Seen = tuple[Expectation, Reals | None]


@dataclass
class Branch:
    """A text and where it comes from.

    Attributes:
        number: Its name, counted from 1 in the order of making.
        parent: The branch it left; None for the first.
        start: The first character that is not its parent's; 0 for the first.
        prompt_length: Characters that were given rather than written by the model.
        strategy: The strategy that wrote it, as text; empty where no model wrote it.
        text: The whole text, from its beginning.
        replaced: The character that the parent has at ``start``; empty for the first.
        taken: The token that was taken there instead; empty for the first.
        recording: What its tokens were chosen from; None where no model wrote it.
        scored: What the model makes of it, once that is known.
    """

    number: int
    parent: int | None
    start: int
    prompt_length: int
    strategy: str
    text: str
    replaced: str = ""
    taken: str = ""
    recording: "Recording | None" = None
    scored: "Scored | None" = None


class BranchTree:
    """Branches by number.

    Args:
        text: The first text.
        prompt_length: How much of it was given.
        strategy: What wrote it.
        recording: What its tokens were chosen from, where a model wrote it.
    """

    def __init__(
        self,
        text: str,
        prompt_length: int,
        strategy: str,
        recording: "Recording | None" = None,
    ) -> None:
        first = Branch(1, None, 0, prompt_length, strategy, text, recording=recording)
        self._branches = [first]

    def __len__(self) -> int:
        return len(self._branches)

    def __getitem__(self, number: int) -> Branch:
        return self._branches[number - 1]

    def branch(self, parent: int, position: int, token: str, strategy: str) -> Branch:
        """Leave ``parent`` before the character at ``position`` and go on with ``token`` instead.

        Args:
            parent: The branch to leave.
            position: From 1 to the length of its text: something must stand before.
            token: What stands there in the new branch; the model writes what follows.
            strategy: What will write it.

        Raises:
            ValueError: ``position`` is outside the text.
        """
        source = self[parent]
        if not 1 <= position <= len(source.text):
            raise ValueError(f"no branch can begin at {position} of {len(source.text)} characters")
        made = Branch(
            number=len(self._branches) + 1,
            parent=parent,
            start=position,
            prompt_length=min(source.prompt_length, position),
            strategy=strategy,
            text=source.text[:position] + token,
            replaced=source.text[position : position + 1],
            taken=token,
        )
        self._branches.append(made)
        return made

    def rows(self) -> list[tuple[int, Branch]]:
        """All branches with their depth, each below its parent in the order of their places."""
        return list(self._below(None, 0))

    def _below(self, parent: int | None, depth: int) -> Iterator[tuple[int, Branch]]:
        children = [branch for branch in self._branches if branch.parent == parent]
        for child in sorted(children, key=lambda branch: (branch.start, branch.number)):
            yield depth, child
            yield from self._below(child.number, depth + 1)

    def neighbour(self, number: int, by: int) -> Branch:
        """The branch ``by`` rows further in ``rows``; the first or last where there are no more."""
        order = [branch.number for _, branch in self.rows()]
        place = order.index(number) + by
        return self[order[min(max(place, 0), len(order) - 1)]]

    def draw_at(self, number: int, position: int) -> "Draw | None":
        """What the character at a place of a branch, or of what it grew out of, was drawn from."""
        branch = self[number]
        if branch.parent is not None and position <= branch.start:
            return self.draw_at(branch.parent, position)
        written_at = branch.start + len(branch.taken)
        first = branch.prompt_length if branch.parent is None else written_at
        return (
            branch.recording.at_character(position - first)
            if branch.recording is not None
            else None
        )

    def is_drawn(self, number: int, position: int) -> bool:
        """Whether the character at a place of a branch was drawn there, not taken by hand."""
        branch = self[number]
        is_taken = branch.start <= position < branch.start + len(branch.taken)
        return position < len(branch.text) and not is_taken


LEVELS = 5
_LEAST_PROBABILITIES = (0.5, 0.2, 0.05, 0.01)
LEVEL_NAMES = ("≥50%", "≥20%", "≥5%", "≥1%", "<1%")
_LEAST_LOOKS = (0.02, 0.05, 0.1, 0.25)
LOOK_NAMES = ("<2%", "≥2%", "≥5%", "≥10%", "≥25%")
_SIGNED_FROM = 3
# From here on a level has a ground of its own.
_GROUNDED_FROM = 2


def surprise_levels(nats: npt.NDArray[np.floating]) -> list[int]:
    """A level from 0, expected, to 4, hardly thought possible; NaN is 0."""
    probabilities = np.exp(-np.nan_to_num(nats, nan=0.0))
    return [sum(p < least for least in _LEAST_PROBABILITIES) for p in probabilities]


def look_levels(weights: npt.NDArray[np.floating]) -> list[int]:
    """A level from 0, hardly looked at, to 4, a quarter of all attention or more."""
    return [sum(weight >= least for least in _LEAST_LOOKS) for weight in weights]


class SurpriseText(StreamText):
    """The text of the surprise view, token by token.

    ``position`` is the first character of the token under the cursor.
    """

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "surprise-text--level-0",
        "surprise-text--level-1",
        "surprise-text--level-2",
        "surprise-text--level-3",
        "surprise-text--level-4",
        "surprise-text--level-0-odd",
        "surprise-text--level-1-odd",
        "surprise-text--cursor",
    }
    DEFAULT_CSS: ClassVar[str] = """
    SurpriseText > .surprise-text--level-0 { color: $text-muted; }
    SurpriseText > .surprise-text--level-1 { color: $foreground; }
    SurpriseText > .surprise-text--level-0-odd {
        color: $text-muted; background: $foreground 10%;
    }
    SurpriseText > .surprise-text--level-1-odd {
        color: $foreground; background: $foreground 10%;
    }
    SurpriseText > .surprise-text--level-2 {
        color: $foreground; background: $warning 18%; text-style: bold;
    }
    SurpriseText > .surprise-text--level-3 {
        color: $foreground; background: $warning 40%; text-style: bold italic;
    }
    SurpriseText > .surprise-text--level-4 {
        color: $background; background: $error; text-style: bold;
    }
    SurpriseText > .surprise-text--cursor {
        color: $background; background: $accent; text-style: bold;
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "move(-1)", "Back", show=False, id="surprise.left"),
        Binding("right", "move(1)", "On", show=False, id="surprise.right"),
        Binding("up", "move_lines(-1)", "Line up", show=False, id="surprise.up"),
        Binding("down", "move_lines(1)", "Line down", show=False, id="surprise.down"),
        Binding("pageup", "move_lines(-10)", "Ten lines up", show=False, id="surprise.page_up"),
        Binding("pagedown", "move_lines(10)", "Ten down", show=False, id="surprise.page_down"),
        Binding("home", "go_to(0)", "Beginning", show=False, id="surprise.home"),
        Binding("end", "go_to(-1)", "End", show=False, id="surprise.end"),
    ]

    class Moved(Message):
        """The cursor stands on another character."""

    def __init__(self) -> None:
        super().__init__()
        self.position = 0
        self._levels: Sequence[int] = ()
        self._starts: Sequence[int] = ()

    def shade(self, levels: Sequence[int], starts: Sequence[int] = ()) -> None:
        """Shade the tokens; those beyond have no shade.

        Args:
            levels: By character; that of a token's first one counts.
            starts: Where tokens begin, and where the last of them ends; every character is one
                where that is not known.
        """
        self._levels, self._starts = levels, starts
        if self.span(self.position)[0] != self.position:
            self.go_to(self.position)
        self.refresh()

    def span(self, position: int) -> tuple[int, int]:
        """The first character of the token at a place, and the one behind its last."""
        number = bisect_right(self._starts, position)
        if 0 < number < len(self._starts):
            return self._starts[number - 1], self._starts[number]
        return position, position + 1

    def tokens_between(self, start: int, stop: int) -> int:
        """How many tokens begin from one place on and before another."""
        if not self._starts:
            return stop - start
        return bisect_left(self._starts, stop) - bisect_left(self._starts, start)

    def go_to(self, position: int) -> None:
        """Put the cursor on the token at a place; the place behind the last is one too."""
        self.position = self.span(min(max(position, 0), len(self.text)))[0]
        self.keep_in_view(is_at_end=False)
        self.refresh()
        self.post_message(self.Moved())

    def keep_in_view(self, is_at_end: bool) -> None:
        """Keep the line of the cursor in view."""
        line = self.lines.line_of(self.position)
        height = max(1, self.scrollable_content_region.height)
        least, most = max(0, line - height + 1), line
        self.scroll_now(min(max(self.scroll_y, least), most))

    def parts_of(self, start: int, stop: int) -> list[tuple[str, ...]]:
        """Shade and cursor, besides what every text has."""
        parts = super().parts_of(start, stop)
        for place in range(start, stop):
            more: tuple[str, ...] = ()
            first, _ = self.span(place)
            if first == self.position:
                more = ("cursor",)
            elif first < len(self._levels):
                more = (f"level-{self._levels[first]}{self._parity(place)}",)
            kept = tuple(part for part in parts[place - start] if part == "copy" or not more)
            parts[place - start] = more + kept
        return parts

    def _parity(self, place: int) -> str:
        """Sets every other token apart where tokens are longer than a character."""
        number = bisect_right(self._starts, place)
        is_apart = number % 2 and len(self._starts) <= len(self.text)
        return "-odd" if is_apart and self._levels[self.span(place)[0]] < _GROUNDED_FROM else ""

    def style_of(self, part: str) -> Style:
        """Shades and the cursor have a ground of their own."""
        if part != "cursor" and not part.startswith("level-"):
            return super().style_of(part)
        styles = self.get_component_styles(f"surprise-text--{part}")
        ground = self.background_colors[1] + styles.background
        return styles.text_style + Style(
            color=(ground + styles.color).rich_color, bgcolor=ground.rich_color
        )

    def segments(self, start: int, stop: int) -> list[Segment]:
        """The cursor may stand behind the last character."""
        segments = super().segments(start, stop)
        is_end = stop == len(self.text) and self.position == stop
        if is_end and self.lines.line_of(stop) == self.lines.line_of(start):
            segments.append(Segment(" ", self.look(("cursor",))))
        return segments

    def shown_character(self, character: str, parts: tuple[str, ...] = ()) -> str:
        """Blanks are seen where the cursor stands and where they surprise."""
        strong = ("cursor", *(f"level-{level}" for level in range(_SIGNED_FROM, LEVELS)))
        if character in " \n" and any(part in strong for part in parts):
            return sign(character, lab_of(self).ascii)
        return super().shown_character(character)

    # --- keys and mouse ------------------------------------------------------------------------

    def action_move(self, by: int) -> None:
        """Move along the text by a token."""
        start, stop = self.span(self.position)
        self.go_to(stop if by > 0 else start - 1)

    def action_move_lines(self, by: int) -> None:
        """Move by lines, in the same column as far as there is one."""
        line = self.lines.line_of(self.position)
        self.go_to(self.lines.position_at(line + by, self.lines.column_of(self.position)))

    def action_go_to(self, position: int) -> None:
        """Go to the beginning or, with -1, behind the end."""
        self.go_to(position if position >= 0 else len(self.text))

    def on_click(self, event: events.Click) -> None:
        offset = event.get_content_offset(self)
        if offset is not None and self.text:
            self.go_to(self.lines.position_at(offset.y + round(self.scroll_y), offset.x))


_CONTEXT = 6
_LONGEST_LOOK = 8
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
    span: Callable[[int], tuple[int, int]] = lambda place: (place, place + 1),
    distance: Callable[[int, int], int] = lambda start, stop: stop - start,
) -> Content:
    """The tokens that were looked at most, how far back, between their neighbours, with a share.

    Args:
        text: The text before the place.
        weights: One for each of its characters; a token's stands at its first.
        width: Cells of a line.
        height: Lines at most.
        ascii: Whether signs for blanks are ASCII.
        span: The first character of the token at a place, and the one behind its last.
        distance: How many tokens begin between two places.
    """
    lines = []
    top = float(weights.max(initial=0.0)) or 1.0
    order = np.argsort(-weights, kind="stable")[:height].tolist()
    places = [place for place in order if weights[place] >= _LEAST_SHOWN]
    stops = {place: min(span(place)[1], place + _LONGEST_LOOK, len(text)) for place in places}
    longest = max((stop - place for place, stop in stops.items()), default=1)
    room = max(1, width - 2 * _CONTEXT - 13 - longest)
    for place, stop in stops.items():
        before = text[max(0, place - _CONTEXT) : place].rjust(_CONTEXT)
        after = text[stop : stop + _CONTEXT].ljust(_CONTEXT + longest - (stop - place))
        shown = [
            "".join(sign(c, ascii) if c != " " else c for c in before),
            signs(text[place:stop], ascii),
            "".join(sign(c, ascii) if c != " " else c for c in after),
        ]
        bar = "█" * max(1, round(float(weights[place]) / top * room))
        lines.append(
            Content.assemble(
                (f"{-distance(place, len(text)):>5} ", "$text-muted"),
                (shown[0], "$text-muted"),
                (shown[1], "bold $accent"),
                (shown[2], "$text-muted"),
                (f" {bar.ljust(room)}", "$accent"),
                (f"{float(weights[place]):>5.0%}", "$foreground"),
            )
        )
    return Content("\n").join(lines)


_LEAST_SHARE = 0.001
_LEVEL_LOOKS = (
    "$text-muted",
    "$foreground",
    "bold $foreground on $warning 18%",
    "bold italic $foreground on $warning 40%",
    "bold $background on $error",
)


def surprise_foot(
    text: str,
    span: tuple[int, int],
    scored: "Scored | None",
    side: str,
    ascii: bool,  # noqa: A002
) -> Content:
    """The lines for a place of a text."""
    names = LOOK_NAMES if side == "attention" else LEVEL_NAMES
    legend = Content.styled("looked at " if side == "attention" else "probability ", "$text-muted")
    for name, look in zip(names, _LEVEL_LOOKS, strict=True):
        legend = legend + Content.styled(f" {name} ", look)
    lines = (_chosen(text, span, scored, ascii), _copied(span[0], scored), legend)
    return Content("\n").join(lines)


def _chosen(text: str, span: tuple[int, int], scored: "Scored | None", ascii: bool) -> Content:  # noqa: A002
    position, stop = span
    place, n, unit = position + 1, len(text), "character"
    starts = scored.starts if scored is not None else ()
    if starts and starts[-1] == n != len(starts) - 1:
        place, n, unit = bisect_right(starts, position), len(starts) - 1, "token"
    where = f"{unit} {place:,} of {n:,}"
    if position >= len(text):
        return Content.styled(f"behind the last of {counted(n, unit)}", "$text-muted")
    shown = (signs(text[position:stop], ascii), "bold $accent")
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


DrawPage = Callable[[int, int, bool], Content]
"""Makes the content for a width, a height, and whether the panel has the focus."""


class SurpriseSide(Widget, can_focus=True):
    """A panel whose content others make; its keys move and take."""

    DEFAULT_CSS: ClassVar[str] = """
    SurpriseSide {
        width: 40;
        border: round $border-blurred;
        border-title-color: $text-muted;
        border-subtitle-color: $text-muted;
        text-wrap: nowrap;
        text-overflow: clip;
    }
    SurpriseSide:focus { border: round $border; border-title-color: $accent; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "take", "Take it", key_display="enter", id="side.take"),
        Binding("up", "select(-1)", "Up", show=False, id="side.up"),
        Binding("down", "select(1)", "Down", show=False, id="side.down"),
        *(
            Binding(str(n), f"number({n})", "Take by number", show=False, id=f"side.take_{n}")
            for n in range(1, 10)
        ),
    ]

    class Selected(Message):
        """Move the selection by so many rows."""

        def __init__(self, by: int) -> None:
            super().__init__()
            self.by = by

    class Taken(Message):
        """Take the selected row, or one by its number from 1."""

        def __init__(self, number: int | None = None) -> None:
            super().__init__()
            self.number = number

    def __init__(self) -> None:
        super().__init__()
        self._draw: DrawPage = lambda width, height, is_focused: Content("")

    def show(self, title: str, about: str, draw: DrawPage) -> None:
        """Show something else; ``about`` stands in the lower edge."""
        self.border_title, self.border_subtitle = Content(title), Content(about)
        self._draw = draw
        self.refresh()

    def render(self) -> Content:
        """What there is to show, for the size there is."""
        return self._draw(self.content_size.width, self.content_size.height, self.has_focus)

    def action_take(self) -> None:
        """Take the selected row."""
        self.post_message(self.Taken())

    def action_number(self, number: int) -> None:
        """Take a row by its number."""
        self.post_message(self.Taken(number))

    def action_select(self, by: int) -> None:
        """Move the selection."""
        self.post_message(self.Selected(by))


def branch_lines(tree: BranchTree, current: int, width: int, height: int, ascii: bool) -> Content:  # noqa: A002
    """A line a branch, below its parent: where it left it, and what it says there."""
    rows = tree.rows()
    place = next(i for i, (_, branch) in enumerate(rows) if branch.number == current)
    first = max(0, min(place - height // 2, len(rows) - height))
    lines = []
    for depth, branch in rows[first : first + height]:
        indent = "  " * min(depth, 6) + ("└ " if depth else "")
        where = f"at {branch.start + 1:,} " if branch.parent else ""
        start = max(0, branch.start - 2) if branch.parent else branch.prompt_length
        words = "".join(sign(c, ascii) if c == "\n" else c for c in branch.text[start : start + 40])
        is_here = branch.number == current
        text = f"{'▸' if is_here else ' '}{indent}{branch.number} {where}{words}"
        lines.append(Content.styled(text[:width], "bold $accent" if is_here else "$foreground"))
    return Content("\n").join(lines)


_POLLS_A_SECOND = 20
_DEFAULT_STRATEGY = "temperature=0.8"
_BEFORE = "The one before"


class SurprisePanel(Horizontal):
    """Reads a text with a model; ``branches`` holds it and all branches that grew out of it.

    Attributes:
        number: Of the branch that is shown.
        side: What is shown beside the text: xray, attention or branches.
        strategy: The steps of the X-ray and of branches, as they were changed here.
        xray: What was expected at the cursor, once that is known.
        attention: Where the model looked from there, [layers, heads, position].
    """

    DEFAULT_CSS: ClassVar[str] = """
    SurprisePanel > SurpriseText {
        width: 1fr;
        border: round $border-blurred;
        border-title-color: $text-muted;
        border-subtitle-color: $text-muted;
        padding: 0 1;
    }
    SurprisePanel > SurpriseText:focus { border: round $border; border-title-color: $accent; }
    SurprisePanel > #surprise-foot { dock: bottom; height: 3; padding: 0 1; text-wrap: nowrap; }
    SurprisePanel > #surprise-foot.-error { text-wrap: wrap; }
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Back", id="surprise.leave"),
        Binding("enter", "candidates", "Candidates", key_display="enter", id="surprise.candidates"),
        # The same keys twice: what they change is named by what is shown.
        Binding("plus,equals_sign", "nudge(1)", "Change", key_display="+-", id="surprise.more"),
        Binding("plus,equals_sign", "head(1)", "Head", key_display="+-", id="surprise.more"),
        Binding("minus", "nudge(-1)", "Less", show=False, key_display="-", id="surprise.less"),
        Binding("minus", "head(-1)", "Previous head", show=False, id="surprise.less"),
        Binding("right_square_bracket", "step(1)", "Step", key_display="[]", id="surprise.step"),
        Binding("right_square_bracket", "layer(1)", "Layer", key_display="[]", id="surprise.step"),
        Binding("left_square_bracket", "step(-1)", _BEFORE, show=False, id="surprise.step_before"),
        Binding("left_square_bracket", "layer(-1)", _BEFORE, show=False, id="surprise.step_before"),
        Binding("c", "to_column", "To column", id="surprise.to_column"),
        Binding("a", "show_side('attention')", "Attention", id="surprise.attention"),
        Binding("w", "show_side('xray')", "X-ray", id="surprise.xray"),
        Binding("b", "show_side('branches')", "Branches", id="surprise.branches"),
        Binding("m", "next_copy", "Next copy", show=False, id="surprise.next_copy"),
        Binding("x", "stop", "Stop", show=False, id="surprise.stop"),
        Binding("y", "copy_shown", "Copy text", show=False, id="surprise.copy"),
    ]

    class Left(Message):
        """Back to the columns."""

    class StrategyTaken(Message):
        """The strategy, as it was changed here, is to be the current column's."""

        def __init__(self, strategy: str) -> None:
            super().__init__()
            self.strategy = strategy

    def __init__(self) -> None:
        super().__init__()
        self.text_view = SurpriseText()
        self._side_panel = SurpriseSide()
        self._foot = Static("", id="surprise-foot", markup=False)
        self.request = GenerationRequest(runs_root=Path(), reference="", prompt="", strategies=())
        self.branches = BranchTree("", 0, "")
        self.number = 1
        self.side = "xray"
        self.xray: XRay | None = None
        self.strategy = self._column_strategy = _DEFAULT_STRATEGY
        self.attention: Reals | None = None
        self._heads = AttentionChoice()
        self._looked: str | None = None
        """The text before the place that was looked at last."""
        self._found: Expectation | None = None
        self._is_looking = False
        self._error = ""
        self._job: GenerationJob | None = None
        self._jobs = Jobs(self)
        self._poll: Timer | None = None

    def compose(self) -> ComposeResult:
        """Text, panel, and three lines about the character under the cursor."""
        yield self.text_view
        yield self._side_panel
        yield self._foot

    def on_mount(self) -> None:
        """Prepare the poll of a branch being written."""
        self._poll = self.set_interval(1 / _POLLS_A_SECOND, self._follow, pause=True)

    def on_unmount(self) -> None:
        self.action_stop()
        self._jobs.close()

    @property
    def branch(self) -> Branch:
        """The branch that is shown."""
        return self.branches[self.number]

    @property
    def is_asking(self) -> bool:
        """Whether the model writes, or an answer about the text or the cursor is awaited."""
        is_seen = self._looked == self._before and not self._is_looking
        return self._job is not None or self.branch.scored is None or not is_seen

    def action_stop(self) -> None:
        """Give up the branch that is being written; what is there stays."""
        job = self._job
        if job is not None:
            job.stop()
            self._job = None
            if self._poll is not None:
                self._poll.pause()

    # --- what is read --------------------------------------------------------------------------

    def open_text(
        self,
        text: str,
        prompt_length: int,
        request: GenerationRequest,
        *,
        strategy: str = "",
        recording: "Recording | None" = None,
    ) -> None:
        """Read a text of at least two characters from its first written character on.

        Of a text without a prompt that is the second: the first is not predicted from anything.

        Args:
            text: The whole text.
            prompt_length: How much of it was given.
            request: The model that reads, and the seed and the length of branches.
            strategy: What wrote it, as text; empty where no model did.
            recording: What its tokens were chosen from, where a model wrote it.
        """
        self.action_stop()
        self.request = request
        self.branches = BranchTree(text, prompt_length, strategy, recording)
        self.strategy = self._column_strategy = strategy or _DEFAULT_STRATEGY
        self.xray, self.attention, self.side = None, None, "xray"
        self._heads = AttentionChoice()
        self.show_branch(1, max(1, prompt_length))
        self.text_view.focus()

    def show_branch(self, number: int, position: int) -> None:
        """Show a branch with the cursor on a character; it is scored where it was not yet."""
        # A branch that reads the same so far may have been drawn otherwise.
        self.number, self._looked = number, None
        branch, view = self.branch, self.text_view
        view.begin(branch.text, branch.prompt_length)
        # First what tells branches apart: a narrow window cuts off the rest.
        name = f"branch {number} of {len(self.branches)} · " if len(self.branches) > 1 else ""
        view.border_title = Content(
            f"{name}{self.request.reference} · {branch.strategy or 'your text'}"
        )
        self.shade_text()
        view.go_to(position)
        if branch.scored is None and (self._job is None or self._job.is_over):
            self._score(branch, branch.text)

    def _score(self, branch: Branch, text: str) -> None:
        """Have a branch scored; one that was asked for before is given up."""
        request, engine = self.request, lab_of(self).services.engine
        asked = (request.reference, request.runs_root, text, branch.prompt_length)
        self._jobs.start(
            "score",
            lambda job: engine.score(*asked),
            lambda job: self._show_score(branch, text, job),
        )

    def _show_score(self, branch: Branch, text: str, job: "Job[Scored]") -> None:
        if text != branch.text:
            return
        branch.scored = job.result
        if branch is not self.branch:
            return
        self._error = job.error
        if job.result is not None:
            measures = job.result.measures
            passages = measures.memorisation.passages if measures.memorisation else ()
            self.text_view.mark_copies([(each.start, each.end) for each in passages])
            if measures.mean_surprise is not None:
                note = f"mean surprise {measures.mean_surprise:.3f} nats"
                if 0 < len(job.result.starts) <= len(text):  # at the cursor, of a token
                    note = f"{measures.mean_surprise:.3f} nats per character"
                self.text_view.border_subtitle = Content(note)
            elif job.result.unsaid:
                note = f"{job.result.unsaid:.0%} of the tokens stand for unknown words: no mean"
                self.text_view.border_subtitle = Content(note)
        self.shade_text()
        self.draw()

    def shade_text(self) -> None:
        """Shade the text by surprise or by attention."""
        scored = self.branch.scored
        if self.side == "attention" and self.attention is not None:
            levels = look_levels(self._heads.of(self.attention))
        else:
            levels = surprise_levels(scored.nats) if scored else []
        self.text_view.shade(levels, scored.starts if scored else ())

    # --- the place under the cursor ------------------------------------------------------------

    @on(SurpriseText.Moved)
    def _moved(self) -> None:
        if self._looked != self._before:
            self.look()
        self.draw()

    @property
    def _before(self) -> str:
        return self.text_view.text[: self.text_view.position]

    def look(self) -> None:
        """Ask what was expected; while an answer is awaited, the newest place is asked next."""
        if not self._is_looking and self._before:
            self._is_looking = True
            text, position = self.text_view.text, self.text_view.position
            self._ask(text, position, self.side == "attention")

    def _ask(self, text: str, position: int, wants_attention: bool) -> None:
        engine = lab_of(self).services.engine
        place = (self.request.reference, self.request.runs_root, text, position)

        def look(job: "Job[_Seen]") -> "_Seen":
            expectation = engine.expectation(*place)
            return expectation, engine.attention(*place) if wants_attention else None

        self._jobs.start("look", look, lambda job: self._show_look(text[:position], job))

    def _show_look(self, before: str, job: "Job[_Seen]") -> None:
        self._is_looking, self._looked, self._error = False, before, job.error
        if before != self._before:
            self.look()
            return
        found, self.attention = job.result or (None, None)
        if found is not None:
            from shakespeare_tui.sampling import Draw, parse_strategy

            step = self.xray.step if self.xray else 0
            strategy = parse_strategy(self.strategy, found.sampling_defaults)
            self._found, position = found, found.start
            draw = self.branches.draw_at(self.number, position)
            known = draw or Draw.imagined(strategy, found.logits)
            is_own = draw is not None and self.branches.is_drawn(self.number, position)
            self.xray = XRay(found.characters, found.tokens, known, strategy, step, is_drawn=is_own)
        self.shade_text()
        self.draw()

    def draw(self) -> None:
        """Show the panel and the lines below for the present place."""
        position, text = self.text_view.position, self.text_view.text
        ascii_only = lab_of(self).ascii
        side = self._side_panel
        # While an answer is awaited, they are of the place before.
        is_present = self._looked == self._before
        xray = self.xray if is_present else None
        attention = self.attention if is_present else None
        if xray is not None:
            known = self._found.chosen if self._found else ""
            xray.chosen = known or text[position : position + 1]
        if self.side == "branches":
            side.show(
                "Branches",
                "up and down walk",
                lambda w, h, _: branch_lines(self.branches, self.number, w, h, ascii_only),
            )
        elif self.side == "attention" and attention is not None:
            chosen, n = self._heads.of(attention), attention.shape
            before = self._before
            side.show(
                "Attention",
                self._heads.title(n[0], n[1]),
                lambda w, h, _: attention_lines(
                    before,
                    chosen,
                    w,
                    h,
                    ascii=ascii_only,
                    span=self.text_view.span,
                    distance=self.text_view.tokens_between,
                ),
            )
        elif xray is not None:
            side.show(
                xray.title,
                xray.strategy.text,
                lambda w, h, f: xray_lines(xray, w, h, is_focused=f, ascii=ascii_only),
            )
        else:
            words = "nothing stands before the first character" if not position else "reading …"
            side.show("Expected", "", lambda w, h, f: Content.styled(words, "$text-muted"))
        foot = surprise_foot(
            text, self.text_view.span(position), self.branch.scored, self.side, ascii_only
        )
        self._foot.set_class(bool(self._error), "-error")
        self._foot.update(Content.styled(self._error, "$error") if self._error else foot)

    # --- actions -------------------------------------------------------------------------------

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Name the keys of what is shown, and offer only what does something."""
        if action in ("head", "layer"):
            return self.side == "attention"
        if action in ("nudge", "step"):
            return self.side != "attention"
        if action == "show_side" and parameters == ("xray",):
            return self.side != "xray"
        if action == "to_column":
            return self.side != "attention" and self.strategy != self._column_strategy
        return True

    def action_leave(self) -> None:
        """From the panel to the text, from the text to the columns."""
        if self._side_panel.has_focus:
            self.text_view.focus()
        else:
            self.post_message(self.Left())

    def action_candidates(self) -> None:
        """Into the panel of candidates."""
        self.action_show_side("xray")
        self._side_panel.focus()

    def action_show_side(self, side: str) -> None:
        """Show the X-ray, attention or the branches; what is shown already gives way to X-ray."""
        self.side = "xray" if side == self.side else side
        if self.side == "attention":
            self.look()
        (self._side_panel if self.side == "branches" else self.text_view).focus()
        self.shade_text()
        self.draw()
        self.refresh_bindings()

    def action_nudge(self, by: int) -> None:
        """Move the selected step's value."""
        self._leave_branches()
        if self.xray is not None:
            strategy = nudged(self.xray.strategy, self.xray.step, by)
            self.xray.strategy, self.strategy = strategy, strategy.text
        self.draw()
        self.refresh_bindings()

    def action_step(self, by: int) -> None:
        """Select another step."""
        self._leave_branches()
        if self.xray is not None:
            self.xray.step = (self.xray.step + by) % len(self.xray.strategy.steps)
        self.draw()

    def action_head(self, by: int) -> None:
        """Show what another head looked at."""
        if self.attention is not None:
            self._heads.move_head(by, self.attention.shape[1])
            self.shade_text()
            self.draw()

    def action_layer(self, by: int) -> None:
        """Show what another layer looked at."""
        if self.attention is not None:
            self._heads.move_layer(by, self.attention.shape[0])
            self.shade_text()
            self.draw()

    def action_to_column(self) -> None:
        """Let the current column write by the strategy as it was changed here."""
        self._column_strategy = self.strategy
        self.post_message(self.StrategyTaken(self.strategy))
        self.refresh_bindings()

    def _leave_branches(self) -> None:
        # What changes must be seen: beside the branches stand no steps.
        if self.side == "branches":
            self.action_show_side("xray")

    def action_next_copy(self) -> None:
        """Go to the next copied passage."""
        scored = self.branch.scored
        memory = scored.measures.memorisation if scored else None
        starts = [passage.start for passage in memory.passages] if memory else []
        if starts:
            after = [start for start in starts if start > self.text_view.position]
            self.text_view.go_to(after[0] if after else starts[0])

    def action_copy_shown(self) -> None:
        """Copy the text."""
        lab_of(self).copy(self.text_view.text, "the text")

    # --- branches ------------------------------------------------------------------------------

    @on(SurpriseSide.Selected)
    def _select(self, message: SurpriseSide.Selected) -> None:
        if self.side == "branches":
            self.action_stop()
            branch = self.branches.neighbour(self.number, message.by)
            self.show_branch(branch.number, branch.start or branch.prompt_length)
        elif self.xray is not None:
            n = len(self.xray.characters)
            self.xray.candidate = min(max(self.xray.candidate + message.by, 0), n - 1)
            self.draw()

    @on(SurpriseSide.Taken)
    def _take(self, message: SurpriseSide.Taken) -> None:
        if self.side == "branches":
            self.text_view.focus()
        elif self.side == "xray" and self.xray is not None and self._looked == self._before:
            place = self.xray.candidate if message.number is None else message.number - 1
            found = self.xray.candidates(place + 1)
            if len(found) > place and self._found is not None:
                if found[place] in self._found.parts:
                    self.notify("a part of a character is no text to go on from; take another")
                else:
                    self._branch(self._found.start, found[place])

    def _branch(self, position: int, token: str) -> None:
        """Leave the text before a character and let the model go on from another token."""
        self.action_stop()
        branch = self.branches.branch(self.number, position, token, self.strategy)
        request = replace(self.request, prompt=branch.text, strategies=(branch.strategy,))
        self._job = GenerationJob(request, lab_of(self).services.engine.write)
        branch.recording = self._job.recordings[0]
        self.show_branch(branch.number, position)
        self.text_view.focus()
        assert self._poll is not None
        self._poll.resume()

    def _follow(self) -> None:
        job = self._job
        if job is None:
            return
        # Read before the text: what comes after is then taken by the next poll.
        is_over = job.is_over
        self.text_view.append(job.take()[0])
        branch = self.branch
        branch.text = self.text_view.text
        self.text_view.border_subtitle = Content(progress(job, 0))
        if is_over and self._poll is not None:
            self._poll.pause()
            self._error = job.error
            self._job = None
            self._score(branch, branch.text)
            self.draw()

    # --- files ---------------------------------------------------------------------------------

    def texts(self) -> list[WrittenText]:
        """The text and all its branches, for a file."""
        return [
            written_text(
                checkpoint=self.request.reference,
                strategy=branch.strategy,
                seed=self.request.seed,
                text=branch.text,
                prompt_length=branch.prompt_length,
                measures=branch.scored.measures if branch.scored else None,
            )
            for _, branch in self.branches.rows()
        ]
