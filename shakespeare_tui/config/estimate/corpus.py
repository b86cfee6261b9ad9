"""Size and vocabulary of a corpus, quickly: exact where it is small, else estimated."""

from collections.abc import Callable
from dataclasses import dataclass

from shakespeare_tui.data.catalogue import CATALOGUE
from shakespeare_tui.data.source import TextSource, locate_corpus
from shakespeare_tui.data.windows import check_length, check_vocabulary
from shakespeare_tui.errors import CancelledError, UserError

_MOST_BYTES = 32 * 1024 * 1024
_USUAL_VOCAB_SIZE = 65


@dataclass(frozen=True, kw_only=True)
class CorpusFigures:
    """What the pre-flight figures need of a corpus.

    Attributes:
        characters: Its length; None where it is not known.
        vocab_size: Distinct characters, or a usual number where it is not known.
        is_exact: Whether all of it was read.
        note: What the user should know of it, one line; empty where there is nothing to say.
        is_missing: Training could not begin: ``note`` says why.
    """

    characters: int | None = None
    vocab_size: int = _USUAL_VOCAB_SIZE
    is_exact: bool = False
    note: str = ""
    is_missing: bool = False

    def problem(self, val_fraction: float, seq_len: int) -> str:
        """Why training on it could not begin, one line; empty where nothing is in the way."""
        if self.is_missing:
            return self.note
        if self.characters is None:
            return ""
        try:
            check_length(self.characters, val_fraction, seq_len)
            if self.is_exact:
                check_vocabulary(self.vocab_size)
        except UserError as error:
            return str(error)
        return ""


def measure_corpus(
    spec: str, cancelled: Callable[[], bool] = lambda: False, most_bytes: int = _MOST_BYTES
) -> CorpusFigures:
    """Read up to ``most_bytes`` of a corpus; nothing is fetched, and no problem is an error.

    Args:
        spec: As ``data.corpus``.
        cancelled: Polled between pieces.
        most_bytes: What is longer is read in part, and its figures are estimates.

    Raises:
        CancelledError: ``cancelled`` became true.
    """
    try:
        source = locate_corpus(spec)
        if source is None:
            size = CATALOGUE[spec].size_bytes
            note = f"{spec} is not fetched yet"
            return CorpusFigures(characters=size, note=note)
        return _scan(source, cancelled, most_bytes)
    except UserError as error:
        return CorpusFigures(note=str(error), is_missing=True)


def _scan(source: TextSource, cancelled: Callable[[], bool], most_bytes: int) -> CorpusFigures:
    characters: set[str] = set()
    count = bytes_read = 0
    for text in source.iter_text():
        if cancelled():
            raise CancelledError("reading the corpus was cancelled")
        characters.update(text)
        count += len(text)
        bytes_read += len(text.encode("utf-8", "surrogatepass"))
        if bytes_read >= most_bytes and bytes_read < source.size_bytes:
            whole = round(count * source.size_bytes / bytes_read)
            note = f"{source.name} is large: figures from its first {bytes_read // 2**20} MiB"
            return CorpusFigures(characters=whole, vocab_size=len(characters), note=note)
    return CorpusFigures(characters=count, vocab_size=len(characters), is_exact=True)
