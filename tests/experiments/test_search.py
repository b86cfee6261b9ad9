"""Searches by Optuna: what is tried, what is given up, and points shared by processes."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from real_cli import CommandLine, wait_until
from small_experiments import MICRO, InProcess, prepare, table_of, train

from shakespeare_tui.errors import UserError
from shakespeare_tui.experiments.folder import ExperimentFolder, Trial
from shakespeare_tui.experiments.runner import RunPaths
from shakespeare_tui.experiments.search import SearchWork
from shakespeare_tui.runs.events import EvalCompleted, Event, RunStarted, StepCompleted
from shakespeare_tui.runs.history import RunHistory

AXES = "axes: {learning_rate: {low: 1e-4, high: 1e-2, log: true}, d_model: [8, 16]}\n"
SEARCH = AXES + "search: {trials: 4, startup_trials: 2}\n"


def work_of(folder: ExperimentFolder, root: Path) -> SearchWork:
    return SearchWork(folder, RunPaths(folder, root))


def tried(folder: ExperimentFolder, root: Path) -> list[tuple[object, ...]]:
    table = table_of(folder, root)
    return [(row.trial.run, *row.trial.variant.values.values()) for row in table.rows]


def test_every_point_is_tried_and_the_best_marked(
    tmp_path: Path, runs_root: Path, cli: CommandLine
) -> None:
    folder = prepare(tmp_path, SEARCH)
    heard = train(folder, runs_root, work=work_of(folder, runs_root))
    assert [run for run, _, _ in heard.outcomes] == [f"micro-{n}" for n in (1, 2, 3, 4)]
    table = table_of(folder, runs_root)
    assert (table.planned, table.is_complete) == (4, True)
    rates = [row.config.training.learning_rate for row in table.rows]
    assert len(set(rates)) == 4 and all(1e-4 <= rate <= 1e-2 for rate in rates)
    finished = [row for row in table.rows if row.state == "finished"]
    best = min(finished, key=lambda row: row.losses[0].value)
    assert table.best[0].rows == (best,)
    # The same seed draws the same points.
    again = prepare(tmp_path, SEARCH, name="again")
    train(again, runs_root, work=work_of(again, runs_root))
    assert [values for _, *values in tried(again, runs_root)] == [
        values for _, *values in tried(folder, runs_root)
    ]
    # More trials go on from there.
    more = prepare(tmp_path, SEARCH, limit=5)
    assert len(train(more, runs_root, work=work_of(more, runs_root)).outcomes) == 1
    with pytest.raises(UserError, match="searches other values"):
        prepare(tmp_path, SEARCH.replace("1e-4", "2e-4"))


def test_a_point_that_was_left_is_taken_over_by_another(tmp_path: Path, runs_root: Path) -> None:
    folder = prepare(tmp_path, SEARCH)
    first, second = work_of(folder, runs_root), work_of(folder, runs_root)
    mine = first.claim()
    theirs = second.claim()
    assert mine is not None and theirs is not None and mine.run != theirs.run
    first.close(mine, "stopped", "")  # as when its process has gone: the claim is free
    taken = second.claim()
    assert taken == mine
    assert not second.is_over()


def test_a_failed_point_and_several_seeds(tmp_path: Path, runs_root: Path) -> None:
    text = AXES.replace("d_model: [8, 16]", "n_heads: [2, 3]") + (
        "search: {trials: 4, startup_trials: 4, pruning: false}\nseeds: [1, 2]\n"
    )
    folder = prepare(tmp_path, text)
    train(folder, runs_root, work=work_of(folder, runs_root))
    table = table_of(folder, runs_root)
    refused = [row for row in table.rows if row.state == "failed"]
    sound = [variant for variant in table.variants if variant.rows[0].state == "finished"]
    assert refused and all("not divisible by n_heads 3" in row.failure for row in refused)
    assert sound and all(len(variant.rows) == 2 for variant in sound)
    assert len(refused) + len(sound) == 4


def test_tokenizers_are_searched_by_bits_per_byte(tmp_path: Path, runs_root: Path) -> None:
    folder = prepare(tmp_path, "axes: {tokenizer: [char, bpe]}\nsearch: {trials: 2}\n")
    work = work_of(folder, runs_root)
    train(folder, runs_root, work=work)
    journal = folder.journal_path.read_text()
    told = [json.loads(line) for line in journal.splitlines() if '"values":[' in line]
    rows = [row for row in table_of(folder, runs_root).rows if row.bits_per_byte]
    assert sorted(value for record in told for value in record["values"]) == pytest.approx(
        sorted(row.bits_per_byte or 0.0 for row in rows)
    )


def evaluation(step: int, loss: float) -> list[Event]:
    return [
        StepCompleted(
            step=step,
            loss=loss,
            learning_rate=1e-3,
            grad_norm=1.0,
            tokens_per_second=1e4,
            elapsed_seconds=step / 10,
        ),
        EvalCompleted(step=step, train_loss=loss, val_loss=loss, protocol="subset-4"),
    ]


def history_of(folder: ExperimentFolder, trial: Trial) -> RunHistory:
    history = RunHistory()
    config = folder.config(trial).model_dump(mode="json")
    history.apply(RunStarted(run=trial.run, config=config, parameters=9, device="cpu"))
    return history


def test_a_run_above_the_median_is_given_up(tmp_path: Path, runs_root: Path) -> None:
    folder = prepare(tmp_path, SEARCH.replace("trials: 4", "trials: 9"))
    work = work_of(folder, runs_root)
    # Two points are finished first, by real runs whose evaluations lie at 50 %.
    for _ in range(2):
        trial = work.claim()
        assert trial is not None
        trainer = InProcess().start(
            [
                *("train", "--no-ui", "--config", str(folder.config_path(trial.run))),
                *("--name", trial.run, "--experiment", "micro"),
            ],
            {"SHAKESPEARE_TUI_RUNS": str(runs_root)},
            folder.log_path(trial.run),
        )
        assert trainer.poll() == 0
        history = history_of(folder, trial)
        for event in evaluation(2, 4.0):
            history.apply(event)
        assert not work.is_hopeless(trial, history, evaluation(2, 4.0)[1])  # type: ignore[arg-type]
        work.close(trial, "finished", "")
    third, fourth = work.claim(), work.claim()
    assert third is not None and fourth is not None
    for trial, loss, is_hopeless in ((third, 3.9, False), (fourth, 4.1, True)):
        history = history_of(folder, trial)
        step, measured = evaluation(2, loss)
        history.apply(step)
        history.apply(measured)
        assert work.is_hopeless(trial, history, measured) is is_hopeless  # type: ignore[arg-type]
    work.close(fourth, "pruned", "")
    work.close(third, "failed", "no reason")
    assert not work.is_over()


def test_half_a_line_in_the_journal_is_cut_off(tmp_path: Path, runs_root: Path) -> None:
    folder = prepare(tmp_path, SEARCH)
    work = work_of(folder, runs_root)
    assert work.claim() is not None
    with folder.journal_path.open("ab") as file:
        file.write(b'{"op_code":4,"worker')
    assert work_of(folder, runs_root).claim() is not None


def test_a_database_that_cannot_be_opened_is_one_line(tmp_path: Path, runs_root: Path) -> None:
    text = AXES + "search: {trials: 2, storage: 'nosuch://here'}\n"
    folder = prepare(tmp_path, text)
    with pytest.raises(UserError, match="search.storage nosuch://here cannot be opened"):
        work_of(folder, runs_root)


@pytest.mark.slow
def test_trials_in_a_database(tmp_path: Path, runs_root: Path) -> None:
    text = AXES + f"search: {{trials: 2, storage: 'sqlite:///{tmp_path}/trials.db'}}\n"
    folder = prepare(tmp_path, text)
    train(folder, runs_root, work=work_of(folder, runs_root))
    assert table_of(folder, runs_root).is_complete
    assert not folder.journal_path.exists()


@pytest.mark.slow
def test_three_processes_share_a_search_and_one_is_killed(
    tmp_path: Path, runs_root: Path, cli: CommandLine
) -> None:
    """No point is lost, and none is trained twice."""
    file = tmp_path / "micro.yaml"
    text = AXES + "search: {trials: 9, startup_trials: 3, pruning: false}\n"
    file.write_text(MICRO.replace("steps: 4", "steps: 60") + text)
    command = [sys.executable, "-m", "shakespeare_tui", "experiment", "run", str(file)]
    with (tmp_path / "log").open("wb") as log:
        command += ["--threads=1", "--json"]
        processes = [subprocess.Popen(command, stdout=log, stderr=log) for _ in range(3)]
        try:
            wait_until(lambda: len(list(runs_root.glob("micro-*/step-*"))) >= 3, "runs", 120)
            processes[0].kill()
            for path in Path("/proc").glob("[0-9]*/stat"):  # and one trainer, whose parent it was
                try:
                    words = path.read_text().rpartition(")")[2].split()
                except OSError:
                    continue
                if int(words[1]) == processes[0].pid:
                    os.kill(int(path.parent.name), signal.SIGKILL)
            codes = [process.wait(300) for process in processes]
        finally:
            for process in processes:
                process.kill()
    assert codes == [-signal.SIGKILL, 0, 0], (tmp_path / "log").read_text()
    table = json.loads(cli("experiment", "status", "micro", "--json").out)
    assert [run["state"] for run in table["runs"]] == 9 * ["finished"]
    assert len({run["run"] for run in table["runs"]}) == 9
    for run in table["runs"]:
        lines = (Path(run["path"]) / "events.jsonl").read_text().splitlines()
        events = [json.loads(line) for line in lines]
        steps = [event["step"] for event in events if event["type"] == "StepCompleted"]
        assert steps == list(range(1, 61)), "each step once"
        assert [event["type"] for event in events].count("RunFinished") == 1
    folder = ExperimentFolder(tmp_path / "experiments" / "micro")
    states = [
        json.loads(line)["state"]
        for line in folder.journal_path.read_text().splitlines()
        if json.loads(line).get("values") is not None
    ]
    assert len(states) == 9, "told once each"


@pytest.mark.slow
def test_trials_on_a_ray_cluster(tmp_path: Path, runs_root: Path, cli: CommandLine) -> None:
    pytest.importorskip("ray")
    file = tmp_path / "micro.yaml"
    file.write_text(MICRO + "axes: {d_model: [8, 16]}\n")
    outcome = cli("experiment", "run", str(file), "--on=ray", "--threads=1", "--json")
    assert outcome.code == 0, outcome.err
    found = json.loads(outcome.out)
    assert [run["state"] for run in found["runs"]] == ["finished", "finished"]
