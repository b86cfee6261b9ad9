"""What texts are measured against: the words, speakers and passages of a training split.

On disk it is a folder of plain files that are mapped into memory, so that opening it costs next to
nothing and a search touches a few pages.
"""

import hashlib
import json
import mmap
import shutil
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from shakespeare_tui.data.download import Report
from shakespeare_tui.data.inspect.characters import code_points
from shakespeare_tui.data.inspect.speeches import speaker_names
from shakespeare_tui.data.inspect.words import words_of
from shakespeare_tui.data.source import TextSource, locate_corpus
from shakespeare_tui.data.tokens import split_point
from shakespeare_tui.errors import UserError
from shakespeare_tui.files import atomic_folder, parse_json, read_bounded
from shakespeare_tui.measures.copies import Encoded, suffix_array
from shakespeare_tui.paths import cache_folder
from shakespeare_tui.runs.folder import RunFolder

_TEXT, _SUFFIXES, _LINES = "text.bin", "suffixes.uint32", "lines.uint32"
_WORDS, _FACTS = "words.txt", "reference.json"
_PLACES = np.dtype("<u4")
_PIECE_CHARACTERS = 1 << 20


@dataclass(frozen=True)
class _Facts:
    """What the files of a reference have in common; saved as JSON."""

    corpus: str
    alphabet: str
    """The distinct characters of the training split in code-point order; ids count from 1."""
    width: int
    """Bytes of an id."""
    indexed: int
    """Characters that are searched: the training split or, of a very long one, its beginning."""
    characters: int
    """Of the whole training split."""
    words: int
    speakers: list[str]


class CorpusReference:
    """The training split of a corpus, searchable; safe to share between threads.

    Args:
        folder: Where ``write_reference`` put it.

    Raises:
        OSError: A file is missing.
        ValueError: A file is damaged.
    """

    def __init__(self, folder: Path) -> None:
        facts = _Facts(**parse_json(read_bounded(folder / _FACTS, 1 << 26)))
        self._facts = facts
        self._speakers = frozenset(facts.speakers)
        self._codes = np.array([ord(c) for c in facts.alphabet], dtype=np.uint32)
        with (folder / _TEXT).open("rb") as file:
            self._text = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        suffixes = np.memmap(folder / _SUFFIXES, dtype=_PLACES, mode="r")
        self._lines = np.memmap(folder / _LINES, dtype=_PLACES, mode="r")
        if not len(self._text) == facts.width * len(suffixes) == facts.width * facts.indexed > 0:
            raise ValueError(f"{folder} is damaged: its files are of different lengths")
        self._words = frozenset((folder / _WORDS).read_text(encoding="utf-8").split())
        if len(self._words) != facts.words:
            raise ValueError(f"{folder} is damaged: words are missing")
        # Its items are plain integers, which a binary search gets at much faster.
        self._suffixes: Sequence[int] = suffixes.data

    @property
    def corpus(self) -> str:
        """The corpus' name."""
        return self._facts.corpus

    @property
    def characters(self) -> int:
        """Characters of the training split."""
        return self._facts.characters

    @property
    def indexed_characters(self) -> int:
        """Characters of its beginning that are searched; all of them unless it is very long."""
        return self._facts.indexed

    @property
    def is_whole(self) -> bool:
        """Whether all of the training split is searched."""
        return self.indexed_characters == self.characters

    @property
    def speakers(self) -> frozenset[str]:
        """Names in the headings of the training split."""
        return self._speakers

    @property
    def words(self) -> frozenset[str]:
        """Words of the training split in lower case."""
        return self._words

    def encode(self, text: str) -> Encoded:
        """A text in the form in which it is compared; unknown characters equal no other."""
        return Encoded(_ids(text, self._codes, self._facts.width).tobytes(), self._facts.width)

    def occurs(self, passage: bytes) -> bool:
        """Whether an encoded passage occurs; the empty one does."""
        at = bisect_left(self._suffixes, passage, key=self._beginnings(len(passage)))
        if at == len(self._suffixes):
            return False
        return self._beginnings(len(passage))(self._suffixes[at]) == passage

    def place(self, passage: bytes) -> tuple[int, int]:
        """Character offset (from 0) and line (from 1) of the first occurrence of a passage.

        Args:
            passage: Encoded; not empty and known to occur.
        """
        beginnings = self._beginnings(len(passage))
        first = bisect_left(self._suffixes, passage, key=beginnings)
        end = bisect_right(self._suffixes, passage, lo=first, key=beginnings)
        offset = int(np.min(np.asarray(self._suffixes)[first:end]))
        return offset, int(np.searchsorted(self._lines, offset, side="right"))

    def source(self, start: int, end: int) -> str:
        """The characters of the training split from ``start`` up to ``end``."""
        width = self._facts.width
        ids = np.frombuffer(self._text[start * width : end * width], _id_type(width))
        return "".join(self._facts.alphabet[i - 1] for i in ids.tolist())

    def _beginnings(self, size: int) -> Callable[[int], bytes]:
        """Gives the first ``size`` bytes of the suffix at a character's place."""
        text, width = self._text, self._facts.width
        if width == 1:
            return lambda place: text[place : place + size]
        return lambda place: text[place * width : place * width + size]


def write_reference(
    folder: Path,
    text: str,
    *,
    corpus: str,
    characters: int,
    report: Report = lambda done, total: None,
) -> None:
    """Index a training split and write what ``CorpusReference`` opens.

    Args:
        folder: Empty.
        text: The training split or its beginning; not empty.
        corpus: The corpus' name.
        characters: Characters of the whole training split.
        report: Told (characters indexed, characters of ``text``).

    Raises:
        OSError: The files cannot be written.
    """
    codes = np.array(sorted(map(ord, set(text))), dtype=np.uint32)
    # One value stands for what the corpus does not have.
    width = next(width for width in (1, 2, 4) if len(codes) < 256**width)
    ids = np.empty(len(text), _id_type(width))
    words: set[str] = set()
    # In pieces, whose intermediate results are many times larger than they.
    for start in range(0, len(text), _PIECE_CHARACTERS):
        piece = text[start : start + _PIECE_CHARACTERS]
        ids[start : start + len(piece)] = _ids(piece, codes, width)
    for line in text.splitlines():
        words.update(words_of(line))
    ids.tofile(folder / _TEXT)
    newlines = np.flatnonzero(ids == _ids("\n", codes, width))
    np.append(0, newlines + 1).astype(_PLACES).tofile(folder / _LINES)
    (folder / _WORDS).write_text("\n".join(sorted(words)), encoding="utf-8", newline="\n")
    suffix_array(ids, report).astype(_PLACES, copy=False).tofile(folder / _SUFFIXES)
    facts = _Facts(
        corpus=corpus,
        alphabet="".join(map(chr, codes.tolist())),
        width=width,
        indexed=len(text),
        characters=characters,
        words=len(words),
        speakers=sorted(speaker_names(text)),
    )
    (folder / _FACTS).write_text(json.dumps(asdict(facts)), encoding="utf-8")


def _id_type(width: int) -> np.dtype[np.unsignedinteger]:
    """Big-endian, so that the order of ids is the order of their bytes."""
    return np.dtype(f">u{width}")


def _ids(text: str, codes: npt.NDArray[np.uint32], width: int) -> npt.NDArray[np.unsignedinteger]:
    """Ids from 1 of the characters in ``codes``; 0 for every other."""
    points = code_points(text)
    at = np.minimum(np.searchsorted(codes, points), len(codes) - 1)
    return np.where(codes[at] == points, at + 1, 0).astype(_id_type(width))


MAX_CHARACTERS = 20_000_000
"""Of a longer training split only the beginning is indexed; this takes a minute and 500 MB."""

_FORMAT = 1


def reference_folder() -> Path:
    """Where references are kept."""
    return cache_folder() / "references"


def open_reference(
    source: TextSource,
    val_fraction: float,
    cache: Path,
    report: Report = lambda done, total: None,
    *,
    max_characters: int = MAX_CHARACTERS,
) -> CorpusReference:
    """The reference of a corpus' training split, from the cache or built.

    Args:
        source: The corpus.
        val_fraction: Share of its end that is the validation split.
        cache: Folder of all references.
        report: Told (characters indexed, characters to index) while it is built.
        max_characters: How much of a longer training split is indexed.

    Raises:
        UserError: The corpus cannot be read or its training split is empty.
        OSError: The cache cannot be written.
    """
    identity = json.dumps([_FORMAT, source.sha256(), val_fraction, max_characters])
    folder = cache / hashlib.sha256(identity.encode()).hexdigest()[:32]
    try:
        return CorpusReference(folder)
    except (OSError, ValueError, TypeError):
        # Missing or damaged: what is in the cache can be made again.
        shutil.rmtree(folder, ignore_errors=True)
    text, characters = _training_split(source, val_fraction, max_characters)
    try:
        with atomic_folder(folder) as unnamed:
            write_reference(
                unnamed,
                text,
                corpus=source.name,
                characters=characters,
                report=report,
            )
    except OSError:
        # Another process may have built the same meanwhile.
        if not folder.is_dir():
            raise
    return CorpusReference(folder)


def reference_for_run(
    run: RunFolder,
    report: Report = lambda done, total: None,
    notice: Callable[[str], None] = lambda reason: None,
) -> CorpusReference | None:
    """The reference of the text that a run was trained on; nothing is fetched.

    Args:
        run: The run.
        report: Told (characters indexed, characters to index) where it has to be built.
        notice: Told, in one line, why there is none.

    Returns:
        None where the corpus is no longer at hand or has changed.

    Raises:
        UserError: The run is damaged.
        OSError: The cache cannot be written.
    """
    info, config = run.info(), run.config()
    spec = config.data.corpus
    try:
        source = locate_corpus(spec, config.data.validation)
        if source is None:
            notice(f"{spec} is not available; fetch it with: shakespeare-tui data fetch {spec}")
            return None
        if source.sha256() != info.corpus_sha256:
            notice(f"{source.name} has changed since run {run.name} was trained on it")
            return None
    except UserError as error:
        notice(str(error))
        return None
    return open_reference(source, config.data.val_fraction, reference_folder(), report)


def _training_split(
    source: TextSource, val_fraction: float, max_characters: int
) -> tuple[str, int]:
    """The beginning of the training split and how many characters all of it has."""
    pieces: list[str] = []
    kept = characters = 0
    for text in source.iter_text():
        characters += len(text)
        if kept < max_characters:
            pieces.append(text[: max_characters - kept])
            kept += len(pieces[-1])
    train = characters if source.validation else split_point(characters, val_fraction)
    if not train:
        raise UserError(f"{source.name} has no training split; use a longer text")
    return "".join(pieces)[:train], train
