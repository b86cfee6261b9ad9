"""Build the reference of a corpus once and keep it in the user's cache, by content."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

from shakespeare_tui.data.source import TextSource, locate_corpus
from shakespeare_tui.errors import CancelledError, UserError
from shakespeare_tui.files import atomic_folder
from shakespeare_tui.measures.reference import CorpusReference, write_reference
from shakespeare_tui.paths import cache_folder
from shakespeare_tui.runs.folder import RunFolder

MAX_CHARACTERS = 20_000_000
"""Of a longer training split only the beginning is indexed; this takes a minute and 500 MB."""

_FORMAT = 1

Report = Callable[[int, int | None], None]


def reference_folder() -> Path:
    """Where references are kept."""
    return cache_folder() / "references"


def open_reference(
    source: TextSource,
    val_fraction: float,
    cache: Path,
    report: Report = lambda done, total: None,
    cancelled: Callable[[], bool] = lambda: False,
    *,
    max_characters: int = MAX_CHARACTERS,
) -> CorpusReference:
    """The reference of a corpus' training split, from the cache or built.

    Args:
        source: The corpus.
        val_fraction: Share of its end that is the validation split.
        cache: Folder of all references.
        report: Told (characters indexed, characters to index) while it is built.
        cancelled: Polled while it is built.
        max_characters: How much of a longer training split is indexed.

    Raises:
        UserError: The corpus cannot be read or its training split is empty.
        CancelledError: ``cancelled`` became true.
        OSError: The cache cannot be written.
    """
    identity = json.dumps([_FORMAT, source.sha256(), val_fraction, max_characters])
    folder = cache / hashlib.sha256(identity.encode()).hexdigest()[:32]
    try:
        return CorpusReference(folder)
    except (OSError, ValueError, TypeError):
        # Missing or damaged: what is in the cache can be made again.
        shutil.rmtree(folder, ignore_errors=True)
    text, characters = _training_split(source, val_fraction, max_characters, cancelled)
    try:
        with atomic_folder(folder) as unnamed:
            write_reference(
                unnamed,
                text,
                corpus=source.name,
                characters=characters,
                report=report,
                cancelled=cancelled,
            )
    except OSError:
        # Another process may have built the same meanwhile.
        if not folder.is_dir():
            raise
    return CorpusReference(folder)


def reference_for_run(
    run: RunFolder,
    report: Report = lambda done, total: None,
    cancelled: Callable[[], bool] = lambda: False,
    notice: Callable[[str], None] = lambda reason: None,
) -> CorpusReference | None:
    """The reference of the text that a run was trained on; nothing is fetched.

    Args:
        run: The run.
        report: Told (characters indexed, characters to index) where it has to be built.
        cancelled: Polled while it is built.
        notice: Told, in one line, why there is none.

    Returns:
        None where the corpus is no longer at hand or has changed.

    Raises:
        UserError: The run is damaged.
        CancelledError: ``cancelled`` became true.
        OSError: The cache cannot be written.
    """
    info, config = run.info(), run.config()
    spec = config.data.corpus
    try:
        source = locate_corpus(spec)
        if source is None:
            notice(f"{spec} is not available; fetch it with: shakespeare-tui data fetch {spec}")
            return None
        if source.sha256() != info.corpus_sha256:
            notice(f"{source.name} has changed since run {run.name} was trained on it")
            return None
    except UserError as error:
        notice(str(error))
        return None
    return open_reference(source, config.data.val_fraction, reference_folder(), report, cancelled)


def _training_split(
    source: TextSource, val_fraction: float, max_characters: int, cancelled: Callable[[], bool]
) -> tuple[str, int]:
    """The beginning of the training split and how many characters all of it has."""
    pieces: list[str] = []
    kept = characters = 0
    for text in source.iter_text():
        if cancelled():
            raise CancelledError("indexing the corpus was stopped")
        characters += len(text)
        if kept < max_characters:
            pieces.append(text[: max_characters - kept])
            kept += len(pieces[-1])
    train = int((1 - val_fraction) * characters)
    if not train:
        raise UserError(f"{source.name} has no training split; use a longer text")
    return "".join(pieces)[:train], train
