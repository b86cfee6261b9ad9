"""From tokens to text while they are written: whole characters only, and where a text ends."""

from collections.abc import Callable, Iterable, Sequence

from shakespeare_tui.data.tokenizers.tokenizer import Tokenizer

Stop = Callable[[Sequence[int]], bool]
"""Whether the tokens that a stream has written end it; asked after each token."""


class StopTexts:
    """Ends a stream when its text has one of some texts in it, wherever its tokens begin and end.

    It also ends at a token by which the model says so; that is no part of the text.

    Args:
        texts: None of them empty.
        tokenizer: Whose tokens are written.
        past_end: Write on where the model has ended its text, its tokens for that among it.
    """

    def __init__(
        self, texts: Iterable[str], tokenizer: Tokenizer, *, past_end: bool = False
    ) -> None:
        self.texts = tuple(texts)
        self.end_tokens = frozenset() if past_end else tokenizer.end_tokens
        self._token_bytes = tokenizer.token_bytes
        self._contents = [text.encode("utf-8", "surrogatepass") for text in self.texts]
        self._longest = max(map(len, self._contents), default=0)

    def __bool__(self) -> bool:
        """Whether anything ends a stream."""
        return bool(self.texts or self.end_tokens)

    def __call__(self, tokens: Sequence[int]) -> bool:
        """Whether the last token completes one of the texts."""
        if tokens[-1] in self.end_tokens:
            return True
        tail = self._token_bytes(tokens[-1])
        enough = self._longest - 1 + len(tail)
        for token in reversed(tokens[:-1]):
            if len(tail) >= enough:
                break
            tail = self._token_bytes(token) + tail
        return any(content in tail for content in self._contents)

    def end_in(self, text: str, start: int = 0) -> int | None:
        """Where the first of the texts that ends behind ``start`` ends in ``text``."""
        ends = []
        for stop in self.texts:
            found = text.find(stop, max(0, start - len(stop) + 1))
            if found >= 0:
                ends.append(found + len(stop))
        return min(ends, default=None)


class StreamedText:
    """The text of one stream, whole characters at every moment; a stop text is its end.

    Args:
        tokenizer: Whose tokens are written.
        stops: What ends the text; characters of a token behind it are left out. None is nothing.
    """

    def __init__(self, tokenizer: Tokenizer, stops: StopTexts | None) -> None:
        self._decoder = tokenizer.decoder()
        self._stops = stops
        self._is_over = False
        self._recent = ""
        self._longest = max(map(len, stops.texts), default=0) if stops else 0

    def feed(self, token: int) -> str:
        """What a token adds; a negative one is none."""
        if token < 0 or (self._stops and token in self._stops.end_tokens):
            return ""
        return self._cut(self._decoder.feed(token))

    def flush(self) -> str:
        """What the end of the stream adds: U+FFFD for a character that was only begun."""
        return self._cut(self._decoder.flush())

    def _cut(self, piece: str) -> str:
        if self._is_over or not self._stops or not self._longest:
            return "" if self._is_over else piece
        before, text = len(self._recent), self._recent + piece
        end = self._stops.end_in(text, before)
        self._is_over = end is not None
        self._recent = text[-self._longest :]
        return text[before:end]
