"""The list of corpora: name, size, licence and hash state; the one that training will use."""

from collections.abc import Sequence
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets.option_list import Option

from shakespeare_tui.data.available import AvailableCorpus
from shakespeare_tui.formatting import format_bytes
from shakespeare_tui.ui.widgets.choice_dialog import Options

_ONE_LINE_CELLS = 50
_STATUS_WORDS = {
    "unchecked": ("…", "", "$text-muted"),
    "verified": ("✓", "verified", "$success"),
    "shipped": ("✓", "shipped", "$success"),
    "own": ("·", "your file", "$text-muted"),
    "absent": ("○", "not fetched", "$warning"),
    "damaged": ("✗", "refused", "$error"),
}


class CorpusList(Options):
    """Corpora to choose from; the options' ids are their specs."""

    DEFAULT_CSS: ClassVar[str] = """
    CorpusList {
        border: round $border-blurred;
        border-title-color: $text-muted;
        padding: 0;
    }
    CorpusList:focus { border: round $border; border-title-color: $foreground; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("k", "cursor_up", "Up", show=False, id="corpora.up"),
        Binding("j", "cursor_down", "Down", show=False, id="corpora.down"),
    ]

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._items: tuple[AvailableCorpus, ...] = ()
        self._refused: frozenset[str] = frozenset()
        self._chosen: str | None = None
        self._specs: list[str] = []

    def on_mount(self) -> None:
        self.border_title = "Corpora"

    def show(
        self,
        items: Sequence[AvailableCorpus],
        chosen: str | None,
        refused: frozenset[str] = frozenset(),
    ) -> None:
        """Show other items; the highlight stays on the corpus it was on.

        Args:
            items: What to list.
            chosen: The spec that training will use.
            refused: Specs of those that turned out to be no text.
        """
        self._items, self._chosen, self._refused = tuple(items), chosen, refused
        specs = [item.spec for item in items]
        prompts = [self._prompt(item) for item in items]
        if specs == self._specs:
            for place, prompt in enumerate(prompts):
                if self.options[place].prompt != prompt:
                    self.replace_option_prompt_at_index(place, prompt)
            return
        before, place = self.highlighted_spec, self.highlighted or 0
        self._specs = specs
        self.set_options(
            Option(prompt, id=spec) for spec, prompt in zip(specs, prompts, strict=True)
        )
        if before in specs:
            self.highlighted = specs.index(before)
        elif before is not None and specs:
            self.highlighted = min(place, len(specs) - 1)

    @property
    def highlighted_spec(self) -> str | None:
        """The corpus under the highlight."""
        place = self.highlighted
        return None if place is None or place >= len(self._specs) else self._specs[place]

    def highlight(self, spec: str) -> None:
        """Move the highlight, if the corpus is listed."""
        if spec in self._specs:
            self.highlighted = self._specs.index(spec)

    def on_resize(self) -> None:
        self.show(self._items, self._chosen, self._refused)

    def watch_show_vertical_scrollbar(self) -> None:
        """A scrollbar that comes or goes changes the room, too."""
        self.call_later(self.on_resize)

    def on_click(self, event: events.Click) -> None:
        """One click looks at a corpus; two take it, as enter does."""
        event.prevent_default()
        place = event.style.meta.get("option")
        if place is not None and 0 <= place < len(self._specs):
            self.highlighted = place
            if event.chain > 1:
                self.action_select()

    def _prompt(self, item: AvailableCorpus) -> Content:
        width = max(20, self.scrollable_content_region.width or self.size.width)
        sign, words, style = _STATUS_WORDS["damaged" if item.spec in self._refused else item.status]
        mark = ("● ", "bold $accent") if item.spec == self._chosen else "  "
        size = "" if item.size_bytes is None else format_bytes(item.size_bytes)
        state = Content.assemble((f"{sign} {words}", style))
        if width < _ONE_LINE_CELLS:
            name = Content(item.name).truncate(max(4, width - 4 - len(size)), ellipsis=True)
            gap = width - 3 - name.cell_length - len(size)
            licence = f" · {item.licence}" if item.licence else ""
            second = Content.assemble("  ", state, (licence, "$text-muted"))
            return Content("\n").join(
                [
                    Content.assemble(mark, name, " " * max(1, gap), size),
                    second.truncate(width - 1, ellipsis=True),
                ]
            )
        name = Content(item.name).truncate(max(4, width - 48), ellipsis=True)
        return Content.assemble(
            mark,
            name.pad_right(max(0, width - 48 - name.cell_length)),
            f"{size:>10}  ",
            state.pad_right(15 - state.cell_length),
            (item.licence, "$text-muted"),
        ).truncate(width - 1, ellipsis=True)
