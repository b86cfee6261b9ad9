"""What a student learns from: the mean of its teachers' probabilities at every place of a text.

Distillation (Hinton et al. 2015, arXiv:1503.02531) at temperature 1, where what a student learns to
be is the ensemble itself. Teachers do not change, so that a step costs none of their passes: what
they foretell is computed once, kept in the cache as one file in 16 bits, and mapped into memory.
Shapes: n tokens of the training split, V vocabulary.
"""

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import filelock
import numpy as np
from numpy.typing import NDArray

from shakespeare_tui.data.digests import quick_sha256
from shakespeare_tui.data.source import TextSource
from shakespeare_tui.data.tokenizers.tokenizer import TokenArray, Tokenizer
from shakespeare_tui.errors import UserError, check_cancelled, never
from shakespeare_tui.files import file_sha256
from shakespeare_tui.formatting import format_bytes
from shakespeare_tui.machine import free_bytes
from shakespeare_tui.models.parameters import MOST_LOGITS, evaluation_windows
from shakespeare_tui.runs.folder import Checkpoint, find_checkpoint
from shakespeare_tui.sampling.logits import softmax
from shakespeare_tui.training.evaluate import PredictingModel

Probabilities = NDArray[np.float16]
"""Of the token after each but the last, [n - 1, V]; a row sums to 1 up to rounding."""
Report = Callable[[int, int], None]

MOST_BYTES = 4_000_000_000
"""Of one such file; and what all of them grow to, of which the oldest go first."""

_CHUNK = 1 << 14
_DIGITS = 32
# Whoever still writes has written within this time.
_ORPHAN_SECONDS = 3600.0
# Of how the probabilities are computed: what is kept by another rule is not taken.
_RULE = 1


class TeacherLostError(UserError):
    """A teacher is gone, or is not what it was."""


def teacher_reference(checkpoint: Checkpoint, root: Path) -> str:
    """``RUN@STEP``, or the path of a teacher whose run is not below ``root``."""
    with contextlib.suppress(OSError):
        if os.path.samefile(checkpoint.run.path.parent, root):
            return checkpoint.reference
    return os.path.abspath(checkpoint.folder)


def teacher_digest(checkpoint: Checkpoint) -> str:
    """Tells apart what teachers foretell: of the weights, and of what reads them.

    Raises:
        UserError: The run is damaged.
        OSError: The weights cannot be read.
    """
    info, run, config = checkpoint.info, checkpoint.run.info(), checkpoint.run.config()
    told = {
        "weights": info.weights_sha256 or file_sha256(checkpoint.weights_path),
        "frozen": info.frozen_sha256,
        "model": {k: v for k, v in config.model.model_dump(mode="json").items() if k != "dropout"},
        "context": config.seq_len,
        "embedding_scale": run.embedding_scale,
        "tokenizer": checkpoint.run.tokenizer().fingerprint,
    }
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def check_teachers(
    teachers: Sequence[Checkpoint],
    tokenizer: Tokenizer,
    source: TextSource,
    val_fraction: float,
    *,
    is_streamed: bool,
) -> None:
    """Refuse teachers of other tokens or another text than the student's.

    Args:
        teachers: At least one.
        tokenizer: The student's.
        source: Its corpus.
        val_fraction: How much of that is for validation.
        is_streamed: Whether the training split comes in parts.

    Raises:
        UserError: They do not fit, or one is named twice.
    """
    if is_streamed:
        raise UserError(
            "with data.windows streamed, the text is never there as a whole, and what teachers "
            "foretell of it cannot be kept; take random or shuffled windows, of a smaller corpus"
        )
    for number, teacher in enumerate(teachers):
        name, run = teacher.reference, teacher.run
        if name in [each.reference for each in teachers[:number]]:
            raise UserError(f"the teacher {name} is named twice; name each once")
        if run.tokenizer().fingerprint != tokenizer.fingerprint:
            raise UserError(
                f"the teacher {name} has another tokenizer than the student; all must have one: a "
                "student takes that of its first teacher"
            )
        info, data = run.info(), run.config().data
        if not info.corpus_sha256:  # it was not trained here, and may have read anything
            continue
        if info.corpus_sha256 != source.sha256():
            raise UserError(
                f"the teacher {name} was trained on another text ({info.corpus}) than "
                f"{source.name}; leave the corpus out to take that of the first teacher"
            )
        if data.val_fraction != val_fraction or data.windows == "streamed":
            raise UserError(
                f"the teacher {name} has learned another part of {source.name} (data.val_fraction "
                f"{data.val_fraction:g}, data.windows {data.windows}), and may have read what the "
                "student is measured on; leave data.val_fraction to the teachers"
            )


def open_soft_targets(
    teachers: Mapping[str, str],
    root: Path,
    tokens: TokenArray,
    vocab_size: int,
    folder: Path,
    load: Callable[[Checkpoint], PredictingModel],
    report: Report = lambda done, total: None,
    notice: Callable[[str], None] = lambda text: None,
    cancelled: Callable[[], bool] = never,
    most_bytes: int = MOST_BYTES,
) -> Probabilities:
    """What teachers foretell of a text, from the cache or, the first time, by their own passes.

    Where it is kept already, the teachers need not be there any more. What was computed before
    an interrupt is kept, and gone on from.

    Args:
        teachers: Their digests by their references.
        root: The folder of all runs.
        tokens: The training split, shape [n].
        vocab_size: V.
        folder: Of the cache; nothing else may be in it.
        load: Opens a teacher.
        report: Told how many bytes of how many are there.
        notice: Told where another process has begun to compute it, which is waited for.
        cancelled: Polled between passes.
        most_bytes: What a file, and all of them together, may take.

    Raises:
        TeacherLostError: It is not kept, and a teacher is gone or was changed.
        UserError: It would be too large.
        CancelledError: ``cancelled`` became true.
        OSError: The cache cannot be written.
    """
    shape = (len(tokens) - 1, vocab_size)
    check_room(*shape, folder, most_bytes)
    # Their order does not matter to a mean, and is always the same for its rounding.
    members = sorted(teachers.items(), key=lambda item: item[1])
    told = [_RULE, [digest for _, digest in members], vocab_size]
    content = np.ascontiguousarray(tokens)
    key = hashlib.sha256(json.dumps(told).encode() + content.tobytes()).hexdigest()[:_DIGITS]
    folder.mkdir(parents=True, exist_ok=True)
    # Two students of the same teachers begin at once: the second waits for the first.
    with _alone(folder / f".{key}.lock", notice, cancelled):
        path = _kept(folder, key, _size(*shape))
        if path is None:
            checkpoints = [_same(reference, digest, root) for reference, digest in members]
            models = [load(checkpoint) for checkpoint in checkpoints]
            partial = folder / f".{key}.partial"
            _write(partial, models, content, shape, report, cancelled)
            path = partial.rename(folder / f"{key}-{file_sha256(partial)[:_DIGITS]}")
    _prune(folder, path, most_bytes)
    return np.memmap(path, np.float16, "r", shape=shape)


def _size(places: int, vocab_size: int) -> int:
    return 2 * places * vocab_size


def check_room(places: int, vocab_size: int, folder: Path, most_bytes: int = MOST_BYTES) -> None:
    """Refuse to keep what teachers foretell of a text that is too long for it.

    Args:
        places: Tokens that are foretold.
        vocab_size: Probabilities of each.
        folder: Of the cache; it need not be there yet.
        most_bytes: What a file may take.

    Raises:
        UserError: It would take more, or more than is free.
    """
    size = _size(places, vocab_size)
    what = f"what teachers foretell of {places:,} tokens with {vocab_size:,} probabilities each"
    if size > most_bytes:
        raise UserError(
            f"{what} would take {format_bytes(size)}, and at most {format_bytes(most_bytes)} are "
            "kept; take a smaller corpus, or teachers with a smaller vocabulary"
        )
    try:
        free = free_bytes(folder)
    except OSError:
        return
    if size > free:
        raise UserError(
            f"{what} take {format_bytes(size)}, and {format_bytes(free)} are free in {folder}; "
            "free some space, or move the cache with SHAKESPEARE_TUI_CACHE"
        )


@contextlib.contextmanager
def _alone(
    path: Path, notice: Callable[[str], None], cancelled: Callable[[], bool]
) -> Iterator[None]:
    lock = filelock.FileLock(path, thread_local=False)
    is_told = False
    while not lock.is_locked:
        check_cancelled(cancelled, "waiting for the teachers")
        try:
            lock.acquire(timeout=0.2)
        except filelock.Timeout:
            if not is_told:
                notice("another process reads these teachers already; waiting for it")
            is_told = True
    try:
        yield
    finally:
        lock.release()


def _kept(folder: Path, key: str, size: int) -> Path | None:
    """The whole and sound file of a key."""
    for path in folder.glob(f"{key}-*"):
        is_whole = path.stat().st_size == size
        if is_whole and quick_sha256(path).startswith(path.name.partition("-")[2]):
            return path
        path.unlink(missing_ok=True)
    return None


def _same(reference: str, digest: str, root: Path) -> Checkpoint:
    """A teacher that is what it was."""
    try:
        checkpoint = find_checkpoint(reference, root)
        found = teacher_digest(checkpoint)
    except (UserError, OSError) as error:
        raise TeacherLostError(
            f"the teacher {reference} cannot be used any more, and what it foretells is not in the "
            f"cache: {error}"
        ) from None
    if found != digest:
        raise TeacherLostError(
            f"the teacher {reference} has changed since the run began to learn from it; put its "
            "old files back, or begin a new run"
        )
    return checkpoint


def _write(
    path: Path,
    models: Sequence[PredictingModel],
    tokens: TokenArray,
    shape: tuple[int, int],
    report: Report,
    cancelled: Callable[[], bool],
) -> None:
    """Add to a file what is not in it yet, a chunk at a time: each is the same whoever wrote it."""
    places, vocab_size = shape
    chunk_bytes = 2 * _CHUNK * vocab_size
    with path.open("ab") as file:
        begun = file.tell() // chunk_bytes
        file.truncate(begun * chunk_bytes)
        read = begun * _CHUNK * len(models)
        for start in range(begun * _CHUNK, places, _CHUNK):
            stop = min(start + _CHUNK, places)
            mean = np.zeros((stop - start, vocab_size), np.float32)
            for model in models:
                for first, found in foretold(model, tokens, start, stop):
                    check_cancelled(cancelled, "reading the teachers")
                    mean[first - start : first - start + len(found)] += found
                    read += len(found)
                    report(2 * vocab_size * read // len(models), 2 * vocab_size * places)
            mean /= len(models)
            file.write(mean.astype(np.float16).tobytes())
            file.flush()
            os.fsync(file.fileno())


def foretold(
    model: PredictingModel, tokens: TokenArray, start: int, stop: int
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Probabilities of what follows each token from ``start`` to ``stop``.

    Windows overlap, so that each token is read with at least half of the model's context before it;
    the first tokens of the text have all that there is.

    Yields:
        The place of the first token, and probabilities [N, V] of what follows it and the next ones.
    """
    hop = max(1, model.context // 2)
    before = model.context - hop
    rows = evaluation_windows(model.config, model.context, is_fused=model.is_fused)
    rows = max(1, min(rows, MOST_LOGITS // (model.vocab_size * hop)))
    first = start
    while first < stop:
        # As many windows of one shape as one pass takes; near both ends they are shorter.
        seen, new = min(first, before), min(hop, stop - first)
        is_usual = seen == before and new == hop
        count = min(rows, (stop - first) // hop) if is_usual else 1
        places = first + hop * np.arange(count)
        windows = tokens[places[:, None] + np.arange(-seen, new)].astype(np.int64)
        logits = model.last_logits(windows, new).reshape(-1, model.vocab_size)
        yield first, softmax(np.ascontiguousarray(logits, np.float32))
        first += count * new


def _prune(folder: Path, used: Path, most_bytes: int) -> None:
    """Remove what was not used for longest, and what was given up, above ``most_bytes``."""
    known = []
    for path in folder.iterdir():
        with contextlib.suppress(OSError):  # another process was faster
            state = path.stat()
            is_at_work = path.suffix and time.time() - state.st_mtime < _ORPHAN_SECONDS
            if path != used and path.suffix != ".lock" and not is_at_work:
                known.append((max(state.st_atime_ns, state.st_mtime_ns), state.st_size, path))
    left = most_bytes - used.stat().st_size
    for _, size, path in sorted(known, reverse=True):
        left -= size
        if left < 0:
            path.unlink(missing_ok=True)
