"""Where the Playground's columns reach the engine: texts and measures, off the UI thread."""

import contextlib
import functools
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from shakespeare_tui.errors import CancelledError, UserError, check_cancelled, never

if TYPE_CHECKING:
    from shakespeare_tui.data.tokenizers.tokenizer import Tokenizer
    from shakespeare_tui.decoding.columns import Column
    from shakespeare_tui.decoding.factory import Model
    from shakespeare_tui.measures import CorpusReference
    from shakespeare_tui.training.threads import SharedThreads
    from shakespeare_tui.ui.engine.generation import GenerationJob, GenerationRequest

MOST_CHARACTERS = 2000
"""Of a longer text only the end is measured: the cost does not grow with the text."""
_LEAST_PAUSE_SECONDS = 0.5
# Of the time goes at most a twentieth into measuring, however many columns there are.
_PAUSE_RATIO = 20


class LiveMeasures:
    """Measures what a job has written so far, about twice a second; a context manager.

    Args:
        job: Has the texts and is handed the measures; the surprise is not among them.
        open_reference: Opens what texts are compared with; may take seconds the first time.
        least_pause_seconds: Between two measurements.
        columns: Those that are written now; None measures all.
    """

    def __init__(
        self,
        job: "GenerationJob",
        open_reference: "Callable[[], CorpusReference | None]",
        least_pause_seconds: float = _LEAST_PAUSE_SECONDS,
        columns: Sequence[int] | None = None,
    ) -> None:
        self._columns = range(len(job.pieces)) if columns is None else columns
        self._job, self._open_reference = job, open_reference
        self._least_pause_seconds = least_pause_seconds
        self._measured = [0] * len(job.pieces)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="live measures")

    def __enter__(self) -> Self:
        """Begin to measure."""
        self._thread.start()
        return self

    def __exit__(self, *details: object) -> None:
        """Measure no more."""
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        pause = self._least_pause_seconds
        reference: CorpusReference | None = None
        is_open = False
        while not self._over.wait(pause):
            if not is_open:
                reference, is_open = self._open_reference(), True
            started = time.perf_counter()
            self.measure(reference)
            pause = pause_after(time.perf_counter() - started, self._least_pause_seconds)

    def measure(self, reference: "CorpusReference | None") -> None:
        """Measure the end of every text that has grown since the last time."""
        from shakespeare_tui.measures import measure_text

        for column in self._columns:
            pieces = self._job.pieces[column]
            count = len(pieces)
            if count == self._measured[column] or self._over.is_set():
                continue
            self._measured[column] = count
            # No piece is empty: so many have as many characters at least.
            end = "".join(pieces[max(0, count - MOST_CHARACTERS) : count])[-MOST_CHARACTERS:]
            prompt = self._job.request.prompt if len(end) < MOST_CHARACTERS else ""
            self._job.preview(column, measure_text(prompt + end, reference, len(prompt)))


def pause_after(seconds: float, least_seconds: float = _LEAST_PAUSE_SECONDS) -> float:
    """How long to wait after a measurement of so many seconds."""
    return max(least_seconds, _PAUSE_RATIO * seconds)


_log = logging.getLogger(__name__)


def write_columns(request: "GenerationRequest", job: "GenerationJob") -> None:
    """Continue a prompt with every strategy and measure the texts; runs in the job's thread.

    Texts of one checkpoint are written together, and those of several one checkpoint after another.

    Raises:
        CancelledError: The job was stopped; what is written by then is measured.
        UserError: There is no such checkpoint, it is damaged, or the request does not fit it.
    """
    from shakespeare_tui.training.threads import SharedThreads

    groups: dict[str, list[int]] = {}
    for column in range(len(request.strategies)):
        groups.setdefault(request.reference_of(column), []).append(column)
    # The prompt is checked before a model is loaded: a wrong one fails at once.
    groups_prepared = [
        _prepared(request, reference, columns) for reference, columns in groups.items()
    ]
    with SharedThreads() as threads:
        for group in groups_prepared:
            job.state = "loading"
            _write(group, request, job, threads)


@dataclass(frozen=True)
class _Group:
    """Texts that one checkpoint writes.

    Attributes:
        reference: The checkpoint.
        run_path: Of its run.
        prompt: In its tokens.
        places: Of the texts among all.
        columns: How they are written.
    """

    reference: str
    run_path: Path
    prompt: list[int]
    places: list[int]
    columns: "list[Column]"


def _prepared(request: "GenerationRequest", reference: str, places: list[int]) -> _Group:
    from shakespeare_tui.decoding.columns import Column
    from shakespeare_tui.runs.folder import find_checkpoint
    from shakespeare_tui.sampling import parse_strategy

    run = find_checkpoint(reference, request.runs_root).run
    tokenizer = run.tokenizer()
    defaults = tokenizer.sampling_defaults()
    columns = [
        Column(
            strategy=parse_strategy(request.strategies[place], defaults),
            seed=request.seed_of(place),
        )
        for place in places
    ]
    return _Group(reference, run.path, tokenizer.encode(request.prompt).tolist(), places, columns)


def _write(
    group: _Group, request: "GenerationRequest", job: "GenerationJob", threads: "SharedThreads"
) -> None:
    from shakespeare_tui.data.tokenizers.tokenizer import characters_begun
    from shakespeare_tui.decoding.choosers import WAITING
    from shakespeare_tui.decoding.columns import generate_bursts
    from shakespeare_tui.decoding.factory import make_decoder
    from shakespeare_tui.decoding.streaming_text import StopTexts, StreamedText

    model, tokenizer = load_model_of(group.reference, request.runs_root, job.stop_requested)
    stops = StopTexts((), tokenizer)
    texts = [StreamedText(tokenizer, stops) for _ in group.columns]
    recordings = [job.recordings[place] for place in group.places]

    def add(pieces: Sequence[str], searched: Sequence[int] = ()) -> None:
        everywhere = [""] * len(job.pieces)
        looked_at = [0] * len(job.pieces)
        for place, piece in zip(group.places, pieces, strict=True):
            everywhere[place] = piece
        for place, count in zip(group.places, searched, strict=False):
            looked_at[place] = count
        job.add(everywhere, time.perf_counter() - started, looked_at)

    begun = characters_begun(tokenizer).tolist()
    started = time.perf_counter()
    is_whole = False
    live = LiveMeasures(job, lambda: reference_of(group.run_path), columns=group.places)
    with contextlib.suppress(CancelledError), live:
        bursts = generate_bursts(
            make_decoder(model, 1, is_settled=True, cancelled=job.stop_requested),
            group.prompt,
            group.columns,
            max_tokens=request.max_tokens,
            stop=stops or None,
            cancelled=job.stop_requested,
            recordings=recordings,
            draw_ahead=True,
        )
        for rows in bursts:
            threads.take_turns()
            columns = list(zip(*rows, strict=True))
            for recording, tokens in zip(recordings, columns, strict=True):
                # Negative ones are no tokens: a column has ended, or its next is not known yet.
                for token in tokens:
                    if token >= 0:
                        recording.place(0 if token in stops.end_tokens else begun[token])
            add(
                [
                    "".join(map(text.feed, tokens))
                    for text, tokens in zip(texts, columns, strict=True)
                ],
                [tokens.count(WAITING) for tokens in columns],
            )
        is_whole = True
    # Half a character, where the last token was one.
    add([text.flush() for text in texts])
    job.state = "measuring"
    # Of the run, not of the checkpoint: training may have removed that one meanwhile.
    _measure(job, group.places, reference_of(group.run_path), model, tokenizer)
    check_cancelled(lambda: not is_whole, "writing")


def _measure(
    job: "GenerationJob",
    places: list[int],
    reference: "CorpusReference | None",
    model: "Model",
    tokenizer: "Tokenizer",
) -> None:
    from shakespeare_tui.decoding.score import score_tokens
    from shakespeare_tui.measures import measure_text

    prompt = job.request.prompt
    for column in places:
        if text := job.text(column):
            whole = prompt + text
            tokens, starts = tokenizer.encode_in_place(whole)
            mean = score_tokens(model, tokens).nats_per_character(starts, len(prompt))
            job.measure(column, measure_text(whole, reference, len(prompt)).with_surprise(mean))


_MOST_MODELS = 2
_models: "dict[tuple[Path, int, int], tuple[Model, Tokenizer]]" = {}


def load_model_of(
    reference: str, runs_root: Path, cancelled: Callable[[], bool] = never
) -> "tuple[Model, Tokenizer]":
    """A checkpoint's model and tokenizer, from memory where it was used lately and is the same.

    Raises:
        UserError: There is no such checkpoint, it is damaged, or it does not fit into memory.
        CancelledError: ``cancelled`` became true.
    """
    from shakespeare_tui.runs.folder import find_checkpoint
    from shakespeare_tui.training.session import open_model

    checkpoint = find_checkpoint(reference, runs_root)
    weights = checkpoint.weights_path
    try:
        key = (checkpoint.run.path, checkpoint.info.step, weights.stat().st_mtime_ns)
        loaded = _models.pop(key, None)
        if loaded is None:
            while len(_models) >= _MOST_MODELS:
                del _models[next(iter(_models))]
            loaded = open_model(checkpoint, cancelled=cancelled)
    except FileNotFoundError:
        # Training keeps only a few, and may remove one while it is being read.
        raise UserError(f"{weights} is missing; choose another checkpoint") from None
    _models[key] = loaded
    return loaded


@functools.lru_cache(maxsize=4)
def reference_of(run_path: Path) -> "CorpusReference | None":
    """The training split that a run's texts are compared with; None where it is gone."""
    from shakespeare_tui.measures import reference_for_run
    from shakespeare_tui.runs.folder import RunFolder

    try:
        return reference_for_run(RunFolder(run_path))
    except UserError:  # the run was deleted or renamed meanwhile
        return None
    except OSError:
        _log.exception("the corpus could not be indexed")
        return None
