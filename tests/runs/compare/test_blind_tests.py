import random
from collections import Counter
from pathlib import Path

import pytest
from checkpoint_trees import add_run

from shakespeare_tui.runs.catalog import RunCatalog
from shakespeare_tui.runs.compare.blind_tests import (
    Game,
    Verdict,
    append_verdict,
    games_now,
    next_pair,
    ratings_of,
    read_verdicts,
)
from shakespeare_tui.runs.editing import delete_run, rename_run
from shakespeare_tui.runs.folder import find_run
from shakespeare_tui.runs.notes import RunNames


def verdict(first: str = "a@1", second: str = "b@2", score: float = 1, time: float = 10) -> Verdict:
    return Verdict(time=time, first=first, second=second, score=score, prompt="[b]\nX:", seed=7)


def test_verdicts_are_kept_in_order(tmp_path: Path) -> None:
    assert read_verdicts(tmp_path) == []
    made = [verdict(score=score) for score in (1, 0, 0.5)]
    for item in made:
        append_verdict(tmp_path, item)
    assert read_verdicts(tmp_path) == made


def test_half_a_line_costs_that_line_only(tmp_path: Path) -> None:
    append_verdict(tmp_path, verdict())
    path = tmp_path / "taste.jsonl"
    path.write_bytes(path.read_bytes() + b'{"time": 1, "fir')
    append_verdict(tmp_path, verdict(score=0))
    assert [item.score for item in read_verdicts(tmp_path)] == [1, 0]


@pytest.mark.parametrize(
    "line", ["", "[]", "{}", "null", "\xff", '{"time":1,"first":"a@1","second":3,"score":1}']
)
def test_damaged_lines_are_passed_over(tmp_path: Path, line: str) -> None:
    (tmp_path / "taste.jsonl").write_bytes(line.encode("latin-1") + b"\n")
    append_verdict(tmp_path, verdict())
    assert read_verdicts(tmp_path) == [verdict()]


def test_a_score_that_cannot_be_is_passed_over(tmp_path: Path) -> None:
    append_verdict(tmp_path, verdict(score=7))
    append_verdict(tmp_path, verdict(time=float("1e300")))
    assert [item.time for item in read_verdicts(tmp_path)] == [1e300]


def test_verdicts_follow_a_renamed_run_and_leave_with_a_deleted_one(runs_root: Path) -> None:
    for name in "abc":
        add_run(runs_root, name, created=1.0)
    verdicts = [verdict("a@1", "b@2"), verdict("a@1", "c@3")]
    rename_run(find_run("a", runs_root), "z", now=20.0)
    delete_run(find_run("c", runs_root))
    names = RunNames(RunCatalog(runs_root).entries())
    assert games_now(verdicts, names) == [Game("z@1", "b@2", 1)]
    assert ratings_of([Game("z@1", "b@2", 1)])["z@1"].points > 1500


def test_what_is_unsure_and_close_is_judged_next() -> None:
    # a and b are well known and far apart; c has never been judged.
    games = [Game("a", "b", 1)] * 40
    for seed in range(20):
        assert "c" in next_pair(["a", "b", "c"], games, random.Random(seed))


def test_equals_and_sides_are_left_to_chance() -> None:
    pairs = Counter(next_pair(["a", "b", "c"], [], random.Random(seed)) for seed in range(300))
    assert len(pairs) == 6
    assert min(pairs.values()) > 20


def test_every_pair_comes_up_in_time() -> None:
    draw, games, seen = random.Random(0), [], set()
    for _ in range(40):
        first, second = next_pair(["a", "b", "c", "d"], games, draw)
        games.append(Game(first, second, 0.5))
        seen.add(frozenset((first, second)))
    assert len(seen) == 6
    # Verdicts on others do not count here.
    assert next_pair(["a", "b"], [Game("x", "y", 1)], draw) in [("a", "b"), ("b", "a")]
