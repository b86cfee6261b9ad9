"""Many speakers at once into a file: a text for each, one after another, exported at the end."""

from collections.abc import Callable
from pathlib import Path

from shakespeare_tui.errors import RunFailedError, UserError
from shakespeare_tui.files import read_bounded, reason
from shakespeare_tui.formatting import counted
from shakespeare_tui.ui.engine.generation import GenerationJob, GenerationRequest
from shakespeare_tui.ui.playground.export import WrittenText, export_texts, written_text

_MOST_SPEAKERS = 1000
_MOST_BYTES = 1 << 20


def read_speakers(text: str) -> list[str]:
    """Prompts from names separated by commas, or from a file with one a line.

    A name without a colon gets one; a backslash and an n are a new line.

    Raises:
        UserError: There is none, there are too many, or the file cannot be read.
    """
    path = Path(text.strip()).expanduser()
    try:
        is_file = path.is_file()
    except OSError:
        # So many names that they are too long for one of a file.
        is_file = False
    try:
        listed = read_bounded(path, _MOST_BYTES).decode() if is_file else None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {reason(error)}") from None
    lines = text.split(",") if listed is None else listed.splitlines()
    names = [line.strip().replace("\\n", "\n") for line in lines if line.strip()]
    if not names:
        raise UserError("name at least one speaker, for example ROMEO")
    if len(names) > _MOST_SPEAKERS:
        raise UserError(f"{len(names):,} speakers are too many; give {_MOST_SPEAKERS:,} at most")
    return [name if ":" in name else f"{name}:" for name in names]


class Batch:
    """Texts under way to a file; ``follow`` is to be called often, on the UI thread.

    Args:
        requests: One a text, with one strategy each.
        path: Where the texts go; its ending decides the format.
        write: Writes a text, as ``GenerationJob`` wants it.

    Attributes:
        outcome: What came of it, one line, once it is over.
        is_failed: Whether nothing was written.
    """

    def __init__(
        self,
        requests: list[GenerationRequest],
        path: Path,
        write: Callable[[GenerationRequest, GenerationJob], None],
    ) -> None:
        self._requests, self._path, self._write = requests, path, write
        self._texts: list[WrittenText] = []
        self._job = GenerationJob(requests[0], write)
        self.outcome = ""
        self.is_failed = False

    @property
    def progress(self) -> str:
        """How far it is."""
        place = len(self._texts)
        prompt = self._requests[place].prompt.strip()
        return f"batch: {prompt} {place + 1} of {len(self._requests)} · x stops"

    def stop(self) -> None:
        """Write nothing more, and no file."""
        self._job.stop()

    def follow(self) -> bool:
        """Take what was written, begin the next text or write the file; whether it is over."""
        job = self._job
        is_over = job.is_over
        if not is_over:
            return False
        if job.state != "done":
            self.outcome, self.is_failed = job.error or "the batch was stopped", True
            return True
        request = job.request
        self._texts.append(
            written_text(
                checkpoint=request.reference,
                strategy=request.strategies[0],
                seed=request.seed,
                text=request.prompt + job.text(0),
                prompt_length=len(request.prompt),
                measures=job.measures[0],
            )
        )
        if len(self._texts) < len(self._requests):
            self._job = GenerationJob(self._requests[len(self._texts)], self._write)
            return False
        try:
            export_texts(self._path, self._texts)
            self.outcome = f"{self._path} holds {counted(len(self._texts), 'text')}"
        except (UserError, RunFailedError) as error:
            self.outcome, self.is_failed = str(error), True
        return True
