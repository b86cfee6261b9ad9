"""Experiments that are made of configs: files with axes, single runs, a queue."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from real_cli import CommandLine
from small_experiments import Heard, InProcess, prepare, table_of, train

from shakespeare_tui.config.load import load_config
from shakespeare_tui.config.schema import Config
from shakespeare_tui.errors import UserError
from shakespeare_tui.experiments.compose import (
    add_config,
    experiment_text,
    read_added,
    read_values,
    unbegun,
)
from shakespeare_tui.experiments.folder import find_experiment
from shakespeare_tui.experiments.plan import AddedRun, Changes, Definition, read_definition
from shakespeare_tui.experiments.runner import Job, PlannedWork, RunPaths


@pytest.mark.parametrize(
    ("preset", "overrides", "axes"),
    [
        ("quick", (), {"model.d_model": [64, 128]}),
        (
            "tiny",
            ("training.max_steps=50", "training.seed=3", 'sampling.prompts=["a b", "c:\\n"]'),
            {"training.learning_rate": [1e-3, 5e-4], "training.optimizer": ["adamw", "muon"]},
        ),
        ("quick", ("model.dropout=0.25", "data.corpus=sample"), {"training.seed": [1, 2]}),
    ],
)
def test_a_file_of_marked_settings_says_what_the_config_says(
    preset: str, overrides: tuple[str, ...], axes: Mapping[str, Any], tmp_path: Path
) -> None:
    config = load_config(preset, overrides)
    file = tmp_path / "mine.yaml"
    file.write_text(experiment_text(config, axes, name=preset))
    runs = read_definition(str(file), Changes()).runs()
    expected = {path: set(values) for path, values in axes.items()}
    found: dict[str, set[Any]] = {path: set() for path in axes}
    for run in runs:
        values = run.config.by_path()
        for path in axes:
            found[path].add(values[path])
        differing = {path for path, value in config.by_path().items() if values[path] != value}
        assert differing <= set(axes)
    assert found == expected


def test_values_of_an_axis_are_read_as_the_form_reads_them() -> None:
    assert read_values("model.d_model", "64, 128,") == [64, 128]
    assert read_values("training.learning_rate", "1e-3,3e-4") == [1e-3, 3e-4]
    for path, text, words in (
        ("model.d_model", "64, wide", "wide: "),
        ("model.d_model", "64, 64", "twice"),
        ("training.max_steps", "5, 10", "the same for all runs"),
    ):
        with pytest.raises(UserError, match=words):
            read_values(path, text)


BASE = "model: {d_model: 32, n_heads: 2}\ntraining: {batch_size: 8, seed: 7}\n"


def test_words_for_a_run_that_is_added() -> None:
    plain = Definition("axes: {d_model: [16, 64]}", "e.yaml", BASE)
    assert read_added(["d_model=96", "seed=2"], plain) == AddedRun(
        values={"model.d_model": 96, "training.seed": 2}
    )
    arms = Definition("arms: {a: {}, b: {set: {dropout: 0.1}}}", "e.yaml", BASE)
    added = read_added(["arm=b", "n_layers=3"], arms)
    run = arms.added_run(added)
    assert (run.variant.label, run.config.model.dropout) == ("b n_layers=3", 0.1)
    for words, told in (
        (["d_modle=3"], "d_model"),
        (["d_model"], "write settings"),
        (["d_model=wide"], "d_model: "),
        (["max_steps=3"], "the same for all runs"),
        (["arm=c", "d_model=96"], "there are a, b"),
        (["d_model=96"], "arm=a"),
        ([], "arm=a"),
    ):
        with pytest.raises(UserError, match=told):
            read_added(words, arms)


def micro(**changes: str) -> Config:
    shape = {
        "model.n_heads": "2",
        "model.n_layers": "1",
        "model.d_ff": "16",
        "model.max_seq_len": "16",
        "model.d_model": "8",
        "training.batch_size": "4",
        "training.backend": "numpy",
        "training.min_lr": "0",
        "data.corpus": "sample",
        "sampling.every": "0",
        "training.max_steps": "3",
    }
    return load_config("tiny", [f"{path}={value}" for path, value in (shape | changes).items()])


def test_a_run_that_is_added_while_others_train_is_trained_by_the_same_runner(
    tmp_path: Path, runs_root: Path
) -> None:
    folder = prepare(tmp_path, "axes: {d_model: [8, 16]}\n")
    executor = InProcess()

    def add(job: Job) -> None:
        if job.trial.run == "micro-1":
            folder.add_run(AddedRun(values={"model.d_model": 4}), runs_root)

    work = PlannedWork(folder, RunPaths(folder, runs_root), retry=False)
    heard = train(folder, runs_root, executor=executor, work=work, listener=Heard(add))
    assert [outcome[:2] for outcome in heard.outcomes] == [
        (f"micro-{number}", "finished") for number in (1, 2, 3)
    ]
    table = table_of(folder, runs_root)
    assert [v.variant.label for v in table.variants] == ["d_model=8", "d_model=16", "d_model=4"]
    with pytest.raises(UserError, match="that run already: micro-3"):
        folder.add_run(AddedRun(values={"model.d_model": 4}), runs_root)
    with pytest.raises(UserError):
        folder.add_run(AddedRun(values={"model.d_model": 5}), runs_root)  # two heads
    assert len(folder.record().runs) == 3


def test_configs_wait_in_a_queue_exactly_as_they_are(
    tmp_path: Path, runs_root: Path, cli: CommandLine
) -> None:
    first, second = micro(), micro(**{"training.seed": "5", "training.max_steps": "2"})
    root = tmp_path / "experiments"
    for config in (first, second):
        add_config(config, "mine", root, runs_root, experiment="queue", threads=1)
    file = tmp_path / "third.yaml"
    file.write_text("model: {d_model: 16}\n")
    assert cli("experiment", "add", "queue", "--config", str(file)).code == 0
    table = json.loads(cli("experiment", "status", "queue", "--json").out)
    assert [v["variant"] for v in table["variants"]] == ["mine", "mine 2", "third"]
    folder = find_experiment("queue", root)
    trials = folder.trials(folder.record())
    assert [folder.config(trial) for trial in trials[:2]] == [first, second]
    assert folder.config(trials[2]) == load_config(file)
    again = cli("experiment", "add", "queue", "--config", str(file))
    assert again.code == 2 and "has that run already: queue-3" in again.err


def test_a_new_experiment_takes_a_free_name(tmp_path: Path) -> None:
    for expected in ("hour", "hour-b", "hour-c"):
        folder = unbegun(None, "hour", tmp_path)
        assert folder.name == expected
        folder.path.mkdir()
        (folder.path / "experiment.json").write_text("{}")
    assert unbegun("mine", "hour", tmp_path).name == "mine"
    for name, said in (("hour-b", "there is an experiment hour-b already"), ("a b", "name")):
        with pytest.raises(UserError, match=said):
            unbegun(name, "hour", tmp_path)
