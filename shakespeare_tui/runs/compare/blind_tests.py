"""Ratings from pairwise verdicts, with how sure they are.

The model is Bradley and Terry's (Rank analysis of incomplete block designs, Biometrika 39, 1952):
one text is preferred to another with the logistic probability of the difference of two strengths. A
tie counts as half a win for each. Strengths are shown on Elo's scale (The Rating of Chessplayers,
1978), where 400 points are odds of ten to one.

A normal prior keeps strengths finite after few verdicts; its width is the deviation of a newcomer
in Glickman's Glicko system (1995). The strengths are those of highest posterior probability, and
their errors come from the curvature there (Laplace's approximation). Unlike Elo's update by update,
the result does not depend on the order of the verdicts.
"""

import dataclasses
import json
import math
import os
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shakespeare_tui.files import as_number, parse_json, read_bounded
from shakespeare_tui.runs.notes import RunNames

MEAN = 1500.0
"""The rating of what has not been judged yet."""
PRIOR_DEVIATION = 350.0
"""Its standard error."""
POINTS_A_LOGIT = 400 / math.log(10)

_MOST_ITERATIONS = 100
_TOLERANCE = 1e-9


@dataclass(frozen=True)
class Game:
    """A verdict on two texts: ``score`` is 1 where the first was better, 0 the second, 0.5 tied."""

    first: str
    second: str
    score: float


@dataclass(frozen=True)
class Rating:
    """A strength in Elo points, its standard error, and the number of verdicts behind it."""

    points: float
    error: float
    games: int

    def __str__(self) -> str:
        return f"{self.points:.0f}±{self.error:.0f}"


@dataclass(frozen=True)
class Ratings:
    """Strengths of several players at once.

    Attributes:
        names: The players.
        logits: Their strengths in logits, shape [n].
        covariance: Of the strengths, in logits squared, shape [n, n].
        games: Verdicts of each, shape [n].
    """

    names: tuple[str, ...]
    logits: NDArray[np.float64]
    covariance: NDArray[np.float64]
    games: NDArray[np.int64]

    def by_name(self) -> dict[str, Rating]:
        """The rating of everyone who has been judged."""
        errors = np.sqrt(np.diag(self.covariance)) * POINTS_A_LOGIT
        points = MEAN + self.logits * POINTS_A_LOGIT
        return {
            name: Rating(float(points[i]), float(errors[i]), int(self.games[i]))
            for i, name in enumerate(self.names)
            if self.games[i]
        }

    def information(self) -> NDArray[np.float64]:
        """How much a verdict on each pair would tell, shape [n, n], -inf on the diagonal.

        It is the variance of the difference times the variance of the verdict: pairs that are
        unsure and close come first.
        """
        variance = np.diag(self.covariance)
        spread = variance[:, None] + variance[None, :] - 2 * self.covariance
        chance = _logistic(self.logits[:, None] - self.logits[None, :])
        told = spread * chance * (1 - chance)
        np.fill_diagonal(told, -np.inf)
        return told


def rate(games: Iterable[Game], names: Sequence[str] = ()) -> Ratings:
    """Strengths of highest posterior probability.

    Args:
        games: The verdicts, in any order.
        names: Further players, who may not have been judged yet.
    """
    games = [game for game in games if game.first != game.second]
    players = dict.fromkeys([*names, *(name for g in games for name in (g.first, g.second))])
    index = {name: i for i, name in enumerate(players)}
    n = len(index)
    first = np.array([index[game.first] for game in games], np.int64)
    second = np.array([index[game.second] for game in games], np.int64)
    score = np.array([game.score for game in games], np.float64)
    precision = (POINTS_A_LOGIT / PRIOR_DEVIATION) ** 2
    logits = np.zeros(n)
    for _ in range(_MOST_ITERATIONS):
        gradient, curvature = _derivatives(logits, first, second, score, precision)
        step = np.linalg.solve(curvature, gradient)
        # Newton's step is cut where it would leave the region in which the model is quadratic.
        logits = logits + np.clip(step, -1, 1)
        if np.abs(step).max(initial=0.0) < _TOLERANCE:
            break
    _, curvature = _derivatives(logits, first, second, score, precision)
    counts = np.bincount(first, minlength=n) + np.bincount(second, minlength=n)
    return Ratings(tuple(index), logits, np.asarray(np.linalg.inv(curvature), np.float64), counts)


def _derivatives(
    logits: NDArray[np.float64],
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    score: NDArray[np.float64],
    precision: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Gradient [n] and negative Hessian [n, n] of the log posterior."""
    chance = _logistic(logits[first] - logits[second])
    gradient = -precision * logits
    np.add.at(gradient, first, score - chance)
    np.add.at(gradient, second, chance - score)
    weight = chance * (1 - chance)
    curvature = precision * np.eye(len(logits))
    np.add.at(curvature, (first, first), weight)
    np.add.at(curvature, (second, second), weight)
    np.add.at(curvature, (first, second), -weight)
    np.add.at(curvature, (second, first), -weight)
    return gradient, curvature


def _logistic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(0.5 * (1 + np.tanh(x / 2)))


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
