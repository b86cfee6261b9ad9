"""Whether a checkpoint recites: a sample of it, measured against its training text."""

from collections.abc import MutableMapping
from pathlib import Path

from shakespeare_tui.runs.compare.recommendation import Copies
from shakespeare_tui.ui.engine.generation import GenerationRequest
from shakespeare_tui.ui.engine.text_writer import TextWriter

_TOKENS = 1000
_STRATEGY = "temperature=0.8"


class CopyCheck:
    """Lets one checkpoint at a time write a sample, and notes what it copied.

    Args:
        writer: Writes the sample.
        copies: Takes what was copied, by ``RUN@STEP``.
    """

    def __init__(self, writer: TextWriter, copies: MutableMapping[str, Copies]) -> None:
        self._writer = writer
        self._copies = copies
        self._request: GenerationRequest | None = None
        self.note = ""
        """How the check stands, in words; empty where none was asked for."""

    def begin(self, runs_root: Path, reference: str) -> None:
        """Check a checkpoint, unless that was done before."""
        self.note = ""
        if reference in self._copies:
            return
        self._request = GenerationRequest(
            runs_root=runs_root,
            reference=reference,
            prompt="\n",
            strategies=(_STRATEGY,),
            max_tokens=_TOKENS,
        )
        self.note = f"writing a sample of {reference} to look for copies …"
        self._writer.forget_failures()
        self._writer.want([self._request])

    def poll(self) -> bool:
        """Follow the check; whether there is something new to say."""
        request = self._request
        if request is None:
            return False
        self._writer.poll()
        written = self._writer.of(request)
        if written.state not in ("done", "failed") and self._writer.is_busy:
            return False
        self._request = None
        found = written.measures.memorisation if written.measures else None
        if found is not None:
            self._copies[request.reference] = Copies(found.longest, found.share)
            self.note = (
                f"a sample of {request.reference}: {found.share:.0%} lies in copies, the longest "
                f"of {found.longest} characters"
            )
        elif written.error:
            self.note = written.error
        elif written.is_whole:
            self.note = "looking for copies needs the run's corpus: fetch it on the Data screen (1)"
        else:
            self.note = ""
        return True
