"""Text made in the background for the Playground: one job at a time, polled by the screen."""

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

GenerationState = Literal["loading", "writing", "done", "stopped", "failed"]


@dataclass(frozen=True, kw_only=True)
class GenerationRequest:
    """What to continue, with which checkpoint and strategy; 0 temperature is greedy."""

    runs_root: Path
    reference: str
    prompt: str
    max_tokens: int = 500
    temperature: float = 0.8
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    seed: int = 42


class GenerationJob:
    """One continuation under way; the thread writes, the screen polls.

    Args:
        request: What to make.
        write: What the thread does: ``write(request, job)``.
    """

    def __init__(
        self,
        request: GenerationRequest,
        write: "Callable[[GenerationRequest, GenerationJob], None] | None" = None,
    ) -> None:
        self.request = request
        self.state: GenerationState = "loading"
        self.error = ""
        self.tokens = 0
        self.seconds = 0.0
        self._pieces: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=write or _write_in_bridge, args=(request, self), name="generation"
        )
        self._thread.start()

    @property
    def is_over(self) -> bool:
        """Whether nothing more comes, apart from what ``take`` still returns."""
        return self.state in ("done", "stopped", "failed")

    def take(self) -> str:
        """The text written since the last call."""
        pieces = []
        while True:
            try:
                pieces.append(self._pieces.get_nowait())
            except queue.Empty:
                return "".join(pieces)

    def stop(self) -> None:
        """Ask the thread to end after the token at hand."""
        self._stop.set()

    # --- for the thread ------------------------------------------------------------------------

    def stop_requested(self) -> bool:
        """Whether the text is no longer wanted."""
        return self._stop.is_set()

    def add(self, piece: str, tokens: int, seconds: float) -> None:
        """Hand over text: ``tokens`` made in ``seconds`` so far."""
        self.tokens, self.seconds = tokens, seconds
        self._pieces.put(piece)
        self.state = "writing"

    def end(self, state: GenerationState, error: str = "") -> None:
        """Nothing more comes."""
        self.error, self.state = error, state


def _write_in_bridge(request: GenerationRequest, job: GenerationJob) -> None:
    from shakespeare_tui.ui.bridge import write_text

    write_text(request, job)
