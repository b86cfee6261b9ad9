"""Texts made in the background for the Playground: one job at a time, polled by the screen."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from shakespeare_tui.ui.jobs import Job

if TYPE_CHECKING:
    from shakespeare_tui.measures import Measures

GenerationState = Literal["loading", "writing", "measuring", "done", "stopped", "failed"]


@dataclass(frozen=True, kw_only=True)
class GenerationRequest:
    """What to continue, with which checkpoint and strategies: one text a strategy, one seed.

    Attributes:
        references: Of each text, where not all are written by ``reference``.
        seeds: Of each text, where not all have ``seed``.
    """

    runs_root: Path
    reference: str
    prompt: str
    strategies: tuple[str, ...]
    max_tokens: int = 400
    seed: int = 42
    references: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()

    def reference_of(self, column: int) -> str:
        """The checkpoint that writes a text."""
        return self.references[column] if self.references else self.reference

    def seed_of(self, column: int) -> int:
        """The seed of a text."""
        return self.seeds[column] if self.seeds else self.seed


class GenerationJob:
    """Continuations under way, one a strategy; the thread writes, the screen polls.

    Args:
        request: What to make.
        write: What the thread does: ``write(request, job)``; it raises ``CancelledError`` where it
            obeys ``stop_requested``, ``UserError`` where it fails.

    Attributes:
        state: How it stands; it is set last, so that all else is there when it says ``done``.
        error: One line, where the state is ``failed``.
        pieces: Of each column, what was written so far; the thread appends and takes nothing back.
        characters: How many each column has got.
        searched: How many tokens a search has looked at in each column, before it writes any.
        seconds: How long each took so far, without loading.
        recordings: Of each column, what its tokens were chosen from.
        measures: Of each column, once they are known.
        previews: Provisional ones of each column, while it is written.
    """

    def __init__(
        self,
        request: GenerationRequest,
        write: "Callable[[GenerationRequest, GenerationJob], None]",
    ) -> None:
        from shakespeare_tui.sampling import Recording

        self.request = request
        self.state: GenerationState = "loading"
        self.error = ""
        self.pieces: list[list[str]] = [[] for _ in request.strategies]
        self.characters = [0] * len(request.strategies)
        self.searched = [0] * len(request.strategies)
        self.seconds = [0.0] * len(request.strategies)
        self.recordings: list[Recording] = [Recording() for _ in request.strategies]
        self.measures: list[Measures | None] = [None] * len(request.strategies)
        self.previews: list[Measures | None] = [None] * len(request.strategies)
        self._n_taken = [0] * len(request.strategies)
        self._write = write
        self._job = Job("generation", self._run, self._end, daemon=False)

    def _run(self, job: Job[None]) -> None:
        # The thread may be here before the constructor has it.
        self._job = job
        self._write(self.request, self)

    def _end(self, job: Job[None]) -> None:
        self.error = job.error
        if job.state == "done":
            self.state = "done"
        else:
            self.state = "stopped" if job.state == "cancelled" else "failed"

    @property
    def is_over(self) -> bool:
        """Whether nothing more comes, apart from what ``take`` still returns."""
        return self.state in ("done", "stopped", "failed")

    def text(self, column: int) -> str:
        """All that a column has got, without the prompt."""
        return "".join(self.pieces[column])

    def take(self) -> list[str]:
        """What each column got since the last call."""
        new = [pieces[n:] for pieces, n in zip(self.pieces, self._n_taken, strict=True)]
        self._n_taken = [n + len(got) for n, got in zip(self._n_taken, new, strict=True)]
        return ["".join(got) for got in new]

    def stop(self) -> None:
        """Ask the thread to end after the token at hand."""
        self._job.cancel()

    def join(self, seconds: float) -> None:
        """Wait for the thread."""
        self._job.join(seconds)

    # --- for the thread ------------------------------------------------------------------------

    def stop_requested(self) -> bool:
        """Whether the texts are no longer wanted."""
        return self._job.cancelled.is_set()

    def add(self, pieces: Sequence[str], seconds: float, searched: Sequence[int] = ()) -> None:
        """Hand over a piece a column, ``seconds`` after those that are written together began.

        So many more tokens were looked at as a column has ``searched``, and none is chosen yet.
        """
        for column, piece in enumerate(pieces):
            if piece:
                self.pieces[column].append(piece)
                self.characters[column] += len(piece)
                self.seconds[column] = seconds
        for column, count in enumerate(searched):
            self.searched[column] += count
        self.state = "writing"

    def measure(self, column: int, measures: "Measures") -> None:
        """Hand over the measures of a column."""
        self.measures[column] = measures

    def preview(self, column: int, measures: "Measures") -> None:
        """Hand over the measures of a column as far as it is written."""
        self.previews[column] = measures
