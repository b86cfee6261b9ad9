"""A corpus as tokens: their boundaries, the longest and commonest, merges; two kinds compared."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Input

from shakespeare_tui.data.tokenizers.kinds import is_tokenizer_file
from shakespeare_tui.data.tokens import TokenSettings, beginning, open_tokenizer
from shakespeare_tui.errors import UserError
from shakespeare_tui.formatting import format_bytes
from shakespeare_tui.ui.jobs import Job, Jobs
from shakespeare_tui.ui.widgets.text_glyphs import signs
from shakespeare_tui.ui.widgets.text_page import (
    TextPage,
    beside,
    column_widths,
    heading,
    muted,
    pair,
    paragraph,
    sections,
)

if TYPE_CHECKING:
    from shakespeare_tui.data.available import AvailableCorpus
    from shakespeare_tui.data.inspect.token_figures import TokenFigures

KINDS = ("bpe", "char", "gpt2", "word")
VIEWS = ("text", "longest", "commonest", "merges", "vocabulary")
_MOST_BYTES = 8_000_000
_SHOWN_CHARACTERS = 4_000
_MOST_LINES = 1_000
_SMALLEST_VOCABULARY, _USUAL_VOCABULARY, _LARGEST_VOCABULARY = 288, 512, 65_536
_SMALLEST_COLUMN = 36


@dataclass(frozen=True)
class Counted:
    """What a tokenizer made of a corpus.

    Attributes:
        figures: Of the text that was read.
        beginning: Of the text, as ids.
        is_whole: Whether all of it was read.
    """

    figures: "TokenFigures"
    beginning: tuple[int, ...]
    is_whole: bool


def count(spec: str, validation: str, settings: TokenSettings, job: Job[Counted]) -> Counted:
    """Count the tokens in the first megabytes of a corpus at hand.

    Args:
        spec: The corpus.
        validation: As ``data.validation``.
        settings: Which tokens.
        job: Cancels it.

    Raises:
        UserError: The corpus or the tokenizer cannot be had.
        CancelledError: The job was called off.
    """
    from shakespeare_tui.data.inspect.token_figures import count_tokens
    from shakespeare_tui.data.source import locate_corpus

    source = locate_corpus(spec, validation)
    if source is None:
        raise UserError(f"{spec} is not on this machine; press f to fetch it")
    cancelled = job.cancelled.is_set
    tokenizer = open_tokenizer(settings, source, cancelled=cancelled, most_bytes=_MOST_BYTES)
    pieces = list(beginning(source.whole, _MOST_BYTES))
    first = tokenizer.encode(pieces[0][:_SHOWN_CHARACTERS])
    figures = count_tokens(tokenizer, pieces, cancelled)
    is_whole = source.whole.size_bytes <= _MOST_BYTES
    return Counted(figures, tuple(first.tolist()), is_whole)


class TokensPage(TextPage):
    """The lines about tokens; its keys choose the tokenizers and what is shown of them."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("c", "kind(0)", "Tokenizer", id="tokens.kind"),
        Binding("b", "kind(1)", "Beside it", id="tokens.beside"),
        Binding("o", "view", "View", id="tokens.view"),
        Binding("t", "ids", "Ids", show=False, id="tokens.ids"),
        Binding("plus,equals_sign", "size(2)", "Size", key_display="+-", id="tokens.larger"),
        Binding("minus", "size(-2)", "Half the size", show=False, id="tokens.smaller"),
        Binding("slash", "search", "Search", key_display="/", id="tokens.search"),
    ]

    @property
    def _viewer(self) -> "CorpusTokens":
        viewer = self.parent
        assert isinstance(viewer, CorpusTokens)
        return viewer

    def action_kind(self, column: int) -> None:
        """The next kind of tokenizer in a column; the second one may be empty."""
        self._viewer.next_kind(column)

    def action_view(self) -> None:
        """The text, the longest and the commonest tokens, the merges, or the vocabulary."""
        self._viewer.next_view()

    def action_ids(self) -> None:
        """The ids of the text's tokens, too."""
        self._viewer.toggle_ids()

    def action_size(self, factor: int) -> None:
        """Double or halve the vocabulary that is learned."""
        self._viewer.scale(factor)

    def action_search(self) -> None:
        """Look for tokens in the vocabulary."""
        self._viewer.search()


class CorpusTokens(Vertical):
    """Shows a corpus by one tokenizer or by two."""

    DEFAULT_CSS: ClassVar[str] = """
    CorpusTokens { height: 1fr; }
    CorpusTokens Input { height: 1; border: none; padding: 0 1; background: $panel;
        display: none; }
    CorpusTokens Input.-open { display: block; }
    """

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._spec = ""
        self._validation = ""
        self._settings = TokenSettings()
        self._kinds = [KINDS[0], ""]
        self._vocab_size = _USUAL_VOCABULARY
        self._view = VIEWS[0]
        self._has_ids = False
        self._jobs = Jobs(self)
        self._reading: tuple[str, str, int] | None = None
        self._counted: dict[tuple[str, str, int], Counted | str] = {}

    def compose(self) -> ComposeResult:
        yield Input(placeholder="part of a token, or its id", compact=True)
        yield TokensPage(id="tokens-page")

    def on_unmount(self) -> None:
        self._jobs.close()

    def show(self, item: "AvailableCorpus") -> None:
        """Show a corpus that is at hand; it is read when it is looked at."""
        if item.spec != self._spec:
            self._spec = item.spec
            self._counted.clear()
        self._refresh()

    def set_config(self, settings: TokenSettings, validation: str) -> None:
        """Take over where training splits, and the tokenizer of a file where the config has one."""
        if (settings, validation) != (self._settings, self._validation):
            self._settings, self._validation = settings, validation
            self._counted.clear()
            self._jobs.cancel("count")
            self._reading = None
            known = self._known_kinds
            self._kinds = [kind if kind in (*known, "") else known[0] for kind in self._kinds]

    @property
    def _known_kinds(self) -> tuple[str, ...]:
        named = self._settings.tokenizer
        return (*KINDS, named) if is_tokenizer_file(named) else KINDS

    def next_kind(self, column: int) -> None:
        """Another tokenizer in a column; the second one may be empty."""
        kinds = (*self._known_kinds, "") if column else self._known_kinds
        self._kinds[column] = kinds[(kinds.index(self._kinds[column]) + 1) % len(kinds)]
        self._refresh()

    def next_view(self) -> None:
        """Something else of the tokens."""
        self._view = VIEWS[(VIEWS.index(self._view) + 1) % len(VIEWS)]
        self.query_one(TokensPage).scroll_home(animate=False)
        self._refresh()

    def toggle_ids(self) -> None:
        """The ids beside the text's tokens, or not."""
        self._has_ids = not self._has_ids
        self._refresh()

    def scale(self, factor: int) -> None:
        """Double or halve the vocabulary of byte pairs."""
        size = self._vocab_size * factor if factor > 0 else self._vocab_size // -factor
        self._vocab_size = min(max(size, _SMALLEST_VOCABULARY), _LARGEST_VOCABULARY)
        self._refresh()

    def search(self) -> None:
        """Open the field that filters the vocabulary."""
        self._view = "vocabulary"
        field = self.query_one(Input)
        field.set_class(True, "-open")
        field.focus()
        self._refresh()

    @on(Input.Changed)
    def _search_changed(self, event: Input.Changed) -> None:
        event.stop()
        self._refresh()

    @on(Input.Submitted)
    def _search_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.query_one(Input).set_class(bool(event.value), "-open")
        self.query_one(TokensPage).focus()

    def _key(self, kind: str) -> tuple[str, str, int]:
        return (self._spec, kind, self._vocab_size if kind == "bpe" else 0)

    def _refresh(self) -> None:
        missing = (kind for kind in self._kinds if kind and self._key(kind) not in self._counted)
        kind = next(missing, None)
        if kind is not None and self._key(kind) != self._reading:
            self._count(kind)
        self.query_one(TokensPage).show(self._lines)

    def _count(self, kind: str) -> None:
        key = self._reading = self._key(kind)
        spec, _, vocab_size = key
        settings = replace(self._settings, tokenizer=kind, vocab_size=vocab_size or None)
        validation = self._validation

        def take(job: Job[Counted]) -> None:
            self._reading = None
            found = job.result if job.result is not None else job.error
            if found:
                self._counted[key] = found
                self._refresh()

        self._jobs.start("count", lambda job: count(spec, validation, settings, job), take)

    # --- lines ---------------------------------------------------------------------------------

    def _lines(self, width: int) -> list[Content]:
        first, second = self._kinds
        if not second:
            return self._column(first, width)
        left, right = column_widths(width)
        if left < _SMALLEST_COLUMN:
            return sections(self._column(first, width), self._column(second, width))
        return beside(self._column(first, left), self._column(second, right), left)

    def _column(self, kind: str, width: int) -> list[Content]:
        found = self._counted.get(self._key(kind))
        if not isinstance(found, Counted):
            return [heading(kind), *paragraph(found or "Reading …", width, "$text-muted")]
        figures = found.figures
        title = heading(f"{kind}: vocabulary of {figures.tokenizer.vocab_size:,}")
        part = "" if found.is_whole else f" in the first {format_bytes(figures.text_bytes)}"
        facts = [
            title,
            pair("tokens", f"{figures.tokens:,}{part}, {figures.used:,} in use", width),
            pair("bytes/token", f"{figures.bytes_per_token:.3f}", width),
        ]
        return sections(facts, self._views(found, width))

    def _views(self, found: Counted, width: int) -> Iterable[Content]:
        figures = found.figures
        if self._view == "text":
            return token_lines(found, width, self._is_ascii, has_ids=self._has_ids)
        if self._view == "longest":
            return self._table("The longest", found, figures.longest(_MOST_LINES))
        if self._view == "commonest":
            return self._table("The commonest", found, figures.commonest(_MOST_LINES))
        if self._view == "merges":
            return self._merges(found)
        return self._vocabulary(found)

    @property
    def _is_ascii(self) -> bool:
        return bool(getattr(self.app, "ascii", False))

    def _table(self, title: str, found: Counted, tokens: Iterable[int]) -> Iterator[Content]:
        figures = found.figures
        yield heading(title)
        yield muted(f"{'id':>7}{'count':>10}{'bytes':>7}  token")
        for token in tokens:
            yield Content.assemble(
                (f"{token:>7,}", "$text-muted"),
                f"{figures.counts[token]:>10,}{figures.lengths[token]:>7,}  ",
                (self._shown(found, token), "$accent"),
            )

    def _shown(self, found: Counted, token: int) -> str:
        from shakespeare_tui.data.tokenizers.tokenizer import shown_token

        return signs(shown_token(found.figures.tokenizer, token), self._is_ascii)

    def _merges(self, found: Counted) -> Iterator[Content]:
        from shakespeare_tui.data.tokenizers.hugging_face import HuggingFaceTokenizer
        from shakespeare_tui.data.tokenizers.tokenizer import shown_bytes

        tokenizer = found.figures.tokenizer
        merges = tokenizer.merges if isinstance(tokenizer, HuggingFaceTokenizer) else []
        yield heading("Merges in the order of learning")
        if not merges:
            yield muted("this tokenizer merges nothing")
        for number, pieces in enumerate(merges[:_MOST_LINES], 1):
            first, second = (signs(shown_bytes(piece), self._is_ascii) for piece in pieces)
            yield Content.assemble(
                (f"{number:>7,}  ", "$text-muted"), first, (" + ", "$text-muted"), second
            )
        if len(merges) > _MOST_LINES:
            yield muted(f"and {len(merges) - _MOST_LINES:,} more")

    def _vocabulary(self, found: Counted) -> Iterator[Content]:
        from shakespeare_tui.data.tokenizers.tokenizer import shown_token

        sought, tokenizer = self.query_one(Input).value, found.figures.tokenizer
        every = range(tokenizer.vocab_size)
        tokens = [
            token
            for token in every
            if not sought or sought == str(token) or sought in shown_token(tokenizer, token)
        ]
        yield from self._table(f"Vocabulary: {len(tokens):,} tokens", found, tokens[:_MOST_LINES])
        if len(tokens) > _MOST_LINES:
            yield muted(f"and {len(tokens) - _MOST_LINES:,} more; / searches")


def token_lines(found: Counted, width: int, is_ascii: bool, *, has_ids: bool) -> Iterator[Content]:
    """The beginning of the text, every other token set apart, with ids where they are wanted."""
    from shakespeare_tui.data.tokenizers.tokenizer import shown_token

    yield heading("The text's beginning, token by token")
    parts: list[tuple[str, str]] = []
    used = 0
    for number, token in enumerate(found.beginning):
        text = shown_token(found.figures.tokenizer, token)
        shown = signs(text, is_ascii) if text.strip(" ") != text or has_ids else text
        label = f" {token} " if has_ids else ""
        cells = Content(shown).cell_length + len(label)
        if parts and used + cells > width:
            yield Content.assemble(*parts)
            parts, used = [], 0
        look = "$foreground on $foreground 15%" if number % 2 else "$accent"
        parts += [(shown, look), (label, "$text-muted")]
        used += cells
        if text.endswith("\n") and not has_ids:
            yield Content.assemble(*parts)
            parts, used = [], 0
    if parts:
        yield Content.assemble(*parts)
