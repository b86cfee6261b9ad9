"""What is measured: contenders that take turns, their medians, spreads and ratios."""

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from shakespeare_tui.errors import check_cancelled


@dataclass(frozen=True)
class Figures:
    """What contenders reached, each as often as the others.

    Attributes:
        title: What was measured.
        unit: Of the samples.
        samples: By contender; not empty.
        bases: Contenders that the others are compared with.
        is_rate: More is better; else less, as with times.
        note: What else one must know.
    """

    title: str
    unit: str
    samples: Mapping[str, tuple[float, ...]]
    bases: tuple[str, ...] = ()
    is_rate: bool = True
    note: str = ""

    def median(self, contender: str) -> float:
        """Of a contender's samples."""
        return statistics.median(self.samples[contender])

    def ratio(self, contender: str, base: str) -> float:
        """How many times better than ``base`` a contender is, by their medians."""
        ours, theirs = self.median(contender), self.median(base)
        return ours / theirs if self.is_rate else theirs / ours

    def as_json(self) -> dict[str, object]:
        """For ``--json``."""
        bases = [base for base in self.bases if base in self.samples]
        return {
            "title": self.title,
            "unit": self.unit,
            "note": self.note,
            "contenders": {
                name: {
                    "median": self.median(name),
                    "least": min(found),
                    "most": max(found),
                    "samples": list(found),
                    "ratios": {base: self.ratio(name, base) for base in bases if base != name},
                }
                for name, found in self.samples.items()
            },
        }


Contenders = Mapping[str, Callable[[], float]]
"""Each measures itself once."""


@dataclass(frozen=True, eq=False)
class Watcher:
    """Who looks on while something is measured.

    Attributes:
        tell: Takes a line on what is measured now.
        cancelled: Polled between measurements.
    """

    tell: Callable[[str], None]
    cancelled: Callable[[], bool]

    def in_turn(
        self, title: str, contenders: Contenders, rounds: int
    ) -> dict[str, tuple[float, ...]]:
        """Measure all contenders in turn, so that what else the machine does meets them alike.

        Raises:
            CancelledError: ``cancelled`` became true.
        """
        found: dict[str, list[float]] = {name: [] for name in contenders}
        for number in range(rounds):
            for name, measure in contenders.items():
                check_cancelled(self.cancelled, "the benchmark")
                self.tell(f"{title}: {name}, round {number + 1} of {rounds}")
                found[name].append(measure())
        return {name: tuple(samples) for name, samples in found.items()}
