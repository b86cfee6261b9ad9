"""A finished run's rank among the runs that compare with it."""

import contextlib
from dataclasses import dataclass
from pathlib import Path

from shakespeare_tui.errors import UserError
from shakespeare_tui.runs.folder import RunFolder, list_runs
from shakespeare_tui.runs.losses import Loss, TokenUnit, difference, in_one_unit, rank_by_loss


@dataclass(frozen=True)
class Rank:
    """Where a run stands among the runs on its corpus, each by its best checkpoint.

    Attributes:
        place: 1 is the lowest loss.
        runs: How many compare: same corpus, same protocol.
        best_name: The run with the lowest loss.
        best_loss: Its loss.
        left_out: How many other runs on the corpus were measured otherwise.
    """

    place: int
    runs: int
    best_name: str
    best_loss: Loss
    left_out: int = 0


def rank_of(run: RunFolder, root: Path) -> Rank | None:
    """Compare a run with all below ``root``; None where it was not evaluated."""
    mine = _result(run)
    if mine is None:
        return None
    found = {run.name: mine}
    for other in list_runs(root):
        result = _result(other)
        if result is not None and result.corpus_sha256 == mine.corpus_sha256:
            found[other.name] = result
    losses_of = in_one_unit(found, lambda name: found[name].losses, lambda name: found[name].unit)
    results = {name: losses_of(name) for name in found}
    own = results[run.name]
    # What this run was measured by is what it can be ranked by.
    comparable = [name for name in results if difference(results[name], own) is not None]
    ranking = rank_by_loss(comparable, lambda name: results[name], mine.losses[0].protocol)
    if ranking is None or run.name not in ranking.ranked:
        return None
    best = ranking.ranked[0]
    lower = [name for name in ranking.ranked if (difference(results[name], own) or 0) < 0]
    return Rank(
        place=1 if best == run.name else 1 + len(lower),
        runs=len(ranking.ranked),
        best_name=best,
        best_loss=results[best][0],
        left_out=len(results) - len(ranking.ranked),
    )


@dataclass(frozen=True)
class _Result:
    """A run's corpus, and the losses of its best checkpoint."""

    corpus_sha256: str
    losses: list[Loss]
    unit: TokenUnit


def _result(run: RunFolder) -> _Result | None:
    with contextlib.suppress(UserError, OSError):
        best = run.best()
        if best is not None and best.info.losses:
            info = run.info()
            return _Result(info.corpus_sha256, best.info.losses, info.unit)
    return None
