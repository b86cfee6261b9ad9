"""Which run a name means, now or at an earlier moment: renamed runs are found again."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from shakespeare_tui.runs.notes import FormerName


class Named(Protocol):
    """What is known of a run by its name."""

    @property
    def name(self) -> str:
        """Its name now."""

    @property
    def created(self) -> float:
        """When it was made, Unix seconds."""

    @property
    def former_names(self) -> tuple[FormerName, ...]:
        """The names it bore before."""


@dataclass(frozen=True)
class _Bearer:
    name: str
    start: float
    until: float


class RunNames:
    """The names of runs in time.

    Lineage and taste tests are recorded under the name that a run had then. Its bearer at that
    moment is meant, even where the name has gone to another run since.

    Args:
        runs: All runs that there are.
    """

    def __init__(self, runs: Iterable[Named]) -> None:
        self._bearers: dict[str, list[_Bearer]] = {}
        for run in runs:
            start = run.created
            for former in run.former_names:
                self._add(former.name, _Bearer(run.name, start, former.until))
                start = former.until
            self._add(run.name, _Bearer(run.name, start, float("inf")))

    def _add(self, name: str, bearer: _Bearer) -> None:
        self._bearers.setdefault(name, []).append(bearer)

    def now(self, name: str, time: float) -> str | None:
        """What the run that was called ``name`` at ``time`` is called now; None if it is gone."""
        bearers = self._bearers.get(name, ())
        for bearer in bearers:
            if bearer.start <= time <= bearer.until:
                return bearer.name
        # Clocks are set back now and then: better a bearer at another time than none.
        return bearers[-1].name if len(bearers) == 1 else None

    def reference_now(self, reference: str, time: float) -> str | None:
        """``RUN@STEP`` as it was written at ``time`` under the run's name of today."""
        name, _, step = reference.rpartition("@")
        now = self.now(name, time)
        return None if now is None else f"{now}@{step}"
