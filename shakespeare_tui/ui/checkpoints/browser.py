"""Which checkpoints there are and which of them are shown: read, filtered, sorted, marked."""

from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path

from shakespeare_tui.formatting import counted
from shakespeare_tui.measures import Memorisation
from shakespeare_tui.runs.catalog import RunCatalog, RunEntry
from shakespeare_tui.runs.compare.blind_tests import Rating, games_now, ratings_of, read_verdicts
from shakespeare_tui.runs.compare.items import GREATEST_FIRST, CheckpointItem, items_of, sort_items
from shakespeare_tui.runs.compare.query import Query, parse_query, without_begun_name
from shakespeare_tui.runs.compare.recommendation import Recommendation, recommend
from shakespeare_tui.runs.compare.settings import Texts
from shakespeare_tui.runs.notes import RunNames
from shakespeare_tui.ui.checkpoints.table import CheckpointLine
from shakespeare_tui.ui.engine.generation import GenerationRequest
from shakespeare_tui.ui.engine.text_writer import TextWriter

SORTS: tuple[str | None, ...] = (None, "val", "train", "gap", "elo", "step", "size", "age", "run")
"""None is by run, newest first. Losses, sizes and ages begin with the smallest."""


@dataclass(frozen=True)
class Listing:
    """What the runs' folders held when they were read."""

    runs: list[RunEntry]
    ratings: Mapping[str, Rating]


class CheckpointBrowser:
    """All checkpoints of all runs, and how they are looked at.

    Args:
        clock: Unix seconds; ages are filtered and sorted by it.

    Attributes:
        runs: As they were read last.
        items: All their checkpoints.
        shown: Those that the filter leaves, in order.
        marked: Keys of the marked checkpoints, in the order of marking.
        copies: What samples that were written here copied from their corpus, by ``RUN@STEP``.
        recommendation: The best of those shown.
        sorted_by: One of ``SORTS``.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._catalog: RunCatalog | None = None
        self._query = Query("")
        self.sorted_by: str | None = None
        self.is_descending = False
        self.runs: list[RunEntry] = []
        self.items: list[CheckpointItem] = []
        self.shown: list[CheckpointItem] = []
        self.marked: list[str] = []
        self.copies: dict[str, Memorisation] = {}
        self.recommendation: Recommendation | None = None

    # --- reading -------------------------------------------------------------------------------

    def read(self, runs_root: Path, reads_configs: bool) -> Listing:
        """List the folder anew, with the runs' settings if so wanted.

        May take seconds and changes nothing that is shown: for a thread.
        """
        if self._catalog is None:
            self._catalog = RunCatalog(runs_root)
        verdicts = read_verdicts(runs_root)
        runs = self._catalog.entries(reads_configs=reads_configs)
        return Listing(runs, ratings_of(games_now(verdicts, RunNames(runs))))

    def take(self, listing: Listing) -> None:
        """Show what was read."""
        self.runs = listing.runs
        self.items = items_of(listing.runs, ratings=listing.ratings)
        is_there = {item.key for item in self.items if item.is_usable}
        self.marked = [key for key in self.marked if key in is_there]
        self.refresh()

    @property
    def configs(self) -> Mapping[str, Texts]:
        """The runs' settings by their names, as far as they have been read."""
        return {run.name: run.texts for run in self.runs if run.texts is not None}

    # --- filter and order ----------------------------------------------------------------------

    def refresh(self) -> None:
        """Filter and sort what has been read, and recommend one."""
        now = self._clock()
        shown = [item for item in self.items if self._query.matches(item, now)]
        if not shown and (before := without_begun_name(self._query.text)) is not None:
            # What fits nothing is the beginning of a condition: the list waits for the rest.
            query = parse_query(before)
            shown = [item for item in self.items if query.matches(item, now)]
        if self.sorted_by is not None:
            shown = sort_items(shown, self.sorted_by, is_descending=self.is_descending, now=now)
        self.shown = shown
        self.recommendation = recommend(shown, self.copies)

    def narrow(self, query: Query) -> None:
        """Show what matches a query only."""
        self._query = query
        self.refresh()

    def sort_by(self, name: str | None) -> None:
        """Sort by one of ``SORTS``; by the same as before, the other way round."""
        if name is not None and name == self.sorted_by:
            self.reverse()
            return
        self.sorted_by = name
        self.is_descending = name in GREATEST_FIRST
        self.refresh()

    def sort_by_next(self) -> None:
        """Sort by the next column; after the last, by run again."""
        self.sort_by(SORTS[(SORTS.index(self.sorted_by) + 1) % len(SORTS)])

    def reverse(self) -> None:
        """Turn the order round."""
        self.sorted_by = self.sorted_by or "run"
        self.is_descending = not self.is_descending
        self.refresh()

    @property
    def lines(self) -> list[CheckpointLine]:
        """What is shown; in the order of the runs, each below a heading."""
        if self.sorted_by is not None:
            return [CheckpointLine("checkpoint", item) for item in self.shown]
        lines = []
        run = None
        for item in self.shown:
            if item.run is not run:
                run = item.run
                lines.append(CheckpointLine("run", item))
            if item.checkpoint is not None:
                lines.append(CheckpointLine("checkpoint", item))
        return lines

    @property
    def nothing_found(self) -> str:
        """What is said where the filter leaves nothing."""
        return f"No checkpoint matches {self._query.text.strip()}: empty the filter to see all."

    @property
    def count(self) -> str:
        """How many are shown and marked, in words."""
        checkpoints = sum(item.checkpoint is not None for item in self.shown)
        note = counted(checkpoints, "checkpoint")
        if self._query.text.strip():
            note = f"{checkpoints:,} of {sum(i.checkpoint is not None for i in self.items):,}"
        if self._query.reads_configs and not self.configs:
            note = "reading settings …"
        if self.marked:
            note += f" · {len(self.marked)} marked"
        return note

    # --- single ones ---------------------------------------------------------------------------

    def meant_by(self, line: CheckpointLine | None) -> CheckpointItem | None:
        """The usable checkpoint of a line; of a run's heading, its best."""
        if line is None:
            return None
        if line.kind == "checkpoint":
            return line.item if line.item.is_usable else None
        usable = self.usable_of(line.item.run.name)
        best = [item for item in usable if item.checkpoint and item.checkpoint.is_best]
        return next(iter([*best, *usable]), None)

    def usable_of(self, run_name: str) -> list[CheckpointItem]:
        """The checkpoints of a run that can be used."""
        return [item for item in self.items if item.run.name == run_name and item.is_usable]

    def item_of(self, key: str) -> CheckpointItem | None:
        """The checkpoint of a key, if it is there."""
        return next((item for item in self.items if item.key == key), None)

    # --- marks ---------------------------------------------------------------------------------

    def toggle_mark(self, item: CheckpointItem) -> None:
        """Mark a checkpoint, or take its mark away."""
        if item.key in self.marked:
            self.marked.remove(item.key)
        else:
            self.marked.append(item.key)

    @property
    def marked_items(self) -> list[CheckpointItem]:
        """The marked checkpoints in the order of marking."""
        return [item for key in self.marked if (item := self.item_of(key)) is not None]

    @property
    def marked_config(self) -> tuple[str, Texts] | None:
        """The run of the first marked checkpoint and its settings."""
        if not self.marked:
            return None
        name = self.marked[0].rpartition("@")[0]
        texts = self.configs.get(name)
        return None if texts is None else (name, texts)


_SAMPLE_TOKENS = 1000
_SAMPLE_STRATEGY = "temperature=0.8"


class CopyCheck:
    """Whether a checkpoint recites: a sample of it, measured against its training text.

    Args:
        writer: Writes the sample.
        copies: Takes what was copied, by ``RUN@STEP``.
    """

    def __init__(self, writer: TextWriter, copies: MutableMapping[str, Memorisation]) -> None:
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
            strategies=(_SAMPLE_STRATEGY,),
            max_tokens=_SAMPLE_TOKENS,
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
            self._copies[request.reference] = found
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
