"""Verdicts of taste tests: kept in ``taste.jsonl``, and which pair to judge next."""

import dataclasses
import json
import os
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shakespeare_tui.files import read_bounded
from shakespeare_tui.loose_values import as_number, parse_json
from shakespeare_tui.runs.compare.blind_tests import Game, Rating, rate
from shakespeare_tui.runs.run_names import RunNames

FILE_NAME = "taste.jsonl"
_MOST_BYTES = 1 << 28


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Which of two texts somebody liked better, not knowing where they came from.

    Attributes:
        time: Unix seconds.
        first: The checkpoint ``RUN@STEP`` of the text on the left.
        second: That of the text on the right.
        score: 1 for the first, 0 for the second, 0.5 for a tie.
        prompt: What both went on from.
        seed: What both were drawn with.
    """

    time: float
    first: str
    second: str
    score: float
    prompt: str
    seed: int


def append_verdict(root: Path, verdict: Verdict) -> None:
    """Add a verdict to those below ``root``; it is on disk when this returns.

    Raises:
        OSError: The disk is full or the folder cannot be written.
    """
    line = json.dumps(dataclasses.asdict(verdict), ensure_ascii=False, allow_nan=False)
    with (root / FILE_NAME).open("ab+") as file:
        # A crash may have left half a line: it stays one, and this one begins anew.
        if file.seek(0, os.SEEK_END) and not _ends_line(file.fileno()):
            line = "\n" + line
        file.write(f"{line}\n".encode())
        file.flush()
        os.fsync(file.fileno())


def _ends_line(descriptor: int) -> bool:
    os.lseek(descriptor, -1, os.SEEK_END)
    return os.read(descriptor, 1) == b"\n"


def read_verdicts(root: Path) -> list[Verdict]:
    """All verdicts below ``root``, oldest first; lines that are damaged are passed over."""
    try:
        lines = read_bounded(root / FILE_NAME, _MOST_BYTES).splitlines()
    except OSError:
        return []
    return [verdict for verdict in map(_read_line, lines) if verdict is not None]


def _read_line(line: bytes) -> Verdict | None:
    try:
        record = parse_json(line)
        verdict = Verdict(**{f.name: record[f.name] for f in dataclasses.fields(Verdict)})
    except (ValueError, LookupError, TypeError):
        return None
    is_text = all(isinstance(x, str) for x in (verdict.first, verdict.second, verdict.prompt))
    is_number = as_number(verdict.time) is not None
    return verdict if is_text and is_number and verdict.score in (0, 0.5, 1) else None


def games_now(verdicts: Iterable[Verdict], names: RunNames) -> list[Game]:
    """The verdicts under the names of today; those on runs that are gone are left out."""
    games = []
    for verdict in verdicts:
        first = names.reference_now(verdict.first, verdict.time)
        second = names.reference_now(verdict.second, verdict.time)
        if first is not None and second is not None:
            games.append(Game(first, second, verdict.score))
    return games


def ratings_of(games: Sequence[Game]) -> dict[str, Rating]:
    """The rating of every checkpoint that has been judged."""
    return rate(games).by_name()


def next_pair(
    references: Sequence[str], games: Sequence[Game], draw: random.Random
) -> tuple[str, str]:
    """The two checkpoints whose comparison would tell the most, in an order left to chance.

    Args:
        references: What may be judged, at least two.
        games: The verdicts so far.
        draw: Decides between equals, and which is shown on the left.
    """
    is_among = set(references)
    known = [game for game in games if game.first in is_among and game.second in is_among]
    told = rate(known, references).information()[: len(references), : len(references)]
    best = np.argwhere(np.isclose(told, told.max(), rtol=1e-6))
    first, second = best[draw.randrange(len(best))]
    pair = [references[first], references[second]]
    draw.shuffle(pair)
    return pair[0], pair[1]
