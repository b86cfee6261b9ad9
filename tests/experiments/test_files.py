"""What stands in an experiment file, what it comes to, and every problem with its line."""

import json
from pathlib import Path
from typing import get_args

import pytest
from real_cli import CommandLine

from shakespeare_tui.config.problems import ConfigError
from shakespeare_tui.errors import UserError
from shakespeare_tui.experiments.plan import Changes, Definition, read_definition
from shakespeare_tui.experiments.schema import (
    Budget,
    MetricName,
    parse_experiment,
    shipped_experiments,
)
from shakespeare_tui.experiments.table import METRICS

BASE = "model: {d_model: 32, n_heads: 2}\ntraining: {batch_size: 8, seed: 7}\n"


def definition(text: str, **changes: object) -> Definition:
    return Definition(text, "e.yaml", BASE, Changes(**changes))  # type: ignore[arg-type]


def labels(text: str, **changes: object) -> list[str]:
    return [run.variant.label for run in definition(text, **changes).runs()]


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as found:
        definition(text).runs()
    return str(found.value).splitlines()


def test_a_grid_in_every_arm() -> None:
    text = "arms: {a: {}, b: {set: {dropout: 0.1}}}\naxes: {d_model: [16, 32], n_layers: [1, 2]}"
    found = definition(text).runs()
    assert [run.variant.label for run in found] == [
        f"{arm} d_model={width} n_layers={depth}"
        for arm in "ab"
        for width in (16, 32)
        for depth in (1, 2)
    ]
    assert [run.config.model.dropout for run in found] == 4 * [0.0] + 4 * [0.1]
    assert {run.seed for run in found} == {7}


def test_one_axis_at_a_time_with_the_base_once() -> None:
    text = "design: one_at_a_time\naxes: {d_model: [16, 32, 64], model.n_layers: [2, 4]}"
    assert labels(text) == ["base", "d_model=16", "d_model=64", "n_layers=2"]


def test_lists_side_by_side() -> None:
    text = "design: paired\naxes: {d_model: [16, 64], learning_rate: [1e-3, 3e-4]}"
    assert labels(text) == ["d_model=16 learning_rate=0.001", "d_model=64 learning_rate=0.0003"]


def test_every_variant_once_before_any_a_second_time() -> None:
    found = definition("axes: {d_model: [16, 32]}\nseeds: [1, 2]").runs()
    assert [(run.config.model.d_model, run.config.training.seed) for run in found] == [
        (16, 1),
        (32, 1),
        (16, 2),
        (32, 2),
    ]
    assert len(definition("seeds: [1, 2]", seeds=(4,), limit=1).runs()) == 1


@pytest.mark.parametrize(
    ("budget", "steps", "minutes"),
    [
        ("{steps: 1e3}", 1000, None),
        ("{minutes: 1m 30s}", 2000, 1.5),
        # 8 windows of 128 tokens a step: 10 steps are too few.
        ("{tokens: 10241}", 11, None),
    ],
)
def test_budgets(budget: str, steps: int, minutes: float | None) -> None:
    training = definition(f"budget: {budget}").runs()[0].config.training
    assert (training.max_steps, training.minutes) == (steps, minutes)


def test_an_arm_has_its_own_budget_and_prompts_and_the_command_line_wins() -> None:
    text = (
        "arms: {a: {budget: {steps: 9}, prompts: [A]}, b: {}}\n"
        "budget: {steps: 5}\nprompts: [B, C]\nset: {dropout: 0.2}"
    )
    a, b = (run.config for run in definition(text).runs())
    assert (a.training.max_steps, a.sampling.prompts) == (9, ("A",))
    assert (b.training.max_steps, b.sampling.prompts) == (5, ("B", "C"))
    changes = {"budget": Budget(steps=10), "overrides": ("model.dropout=0.3",)}
    a, b = (run.config for run in definition(text, **changes).runs())
    # Where another length is asked for, one arm stays as many times as long as the other.
    assert (a.training.max_steps, a.model.dropout) == (18, 0.3)
    assert (b.training.max_steps, b.model.dropout) == (10, 0.3)
    a, b = (run.config for run in definition(text, budget=Budget(minutes=5)).runs())
    assert (a.training.minutes, b.training.minutes) == (9, 5)
    a, b = definition(text, budget=Budget(tokens=10**6)).experiment.arms.values()
    assert a.budget == Budget(tokens=1_800_000) and b.budget is None
    with pytest.raises(
        UserError, match="arm a, scaled like the others, must be less than or equal"
    ):
        definition(text, budget=Budget(steps=90_000_000)).runs()


def test_an_arm_s_budget_of_another_kind_gives_way_to_the_command_line() -> None:
    for others in ("budget: {steps: 5}", "question: none for the others"):
        text = f"arms: {{a: {{budget: {{minutes: 9}}}}, b: {{}}}}\n{others}"
        for run in definition(text, budget=Budget(steps=3)).runs():
            assert (run.config.training.max_steps, run.config.training.minutes) == (3, None)


def test_an_arm_has_its_own_seeds_and_learns_after_its_teachers() -> None:
    text = "arms: {s: {distill: t, seeds: [9]}, t: {}, u: {seeds: [4]}}\nseeds: [1, 2]"
    runs = definition(text).runs()
    assert [(run.variant.arm, run.seed) for run in runs] == [
        ("t", 1),
        ("u", 4),
        ("t", 2),
        ("s", 9),
    ]
    # The command line's are in place of them, also beside its budget.
    seeds = {"seeds": (5,), "budget": Budget(steps=3)}
    runs = definition(text, **seeds).runs()
    assert [(run.variant.arm, run.seed) for run in runs] == [("t", 5), ("u", 5), ("s", 5)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("question: x\nbugdet: {steps: 1}", "e.yaml:2: bugdet: unknown key; did you mean budget?"),
        ("axes:\n  d_modle: [1]", "e.yaml:2: axes.d_modle: unknown setting; did you mean"),
        ("axes:\n  d_model: [16, x]", "e.yaml:2: axes.d_model: must be a whole number, got 'x'"),
        ("axes:\n  d_model: []", "e.yaml:2: axes.d_model: has no values"),
        ("axes: {d_model: 16}", "e.yaml:1: axes.d_model: must be a list of values or a range"),
        ("axes: {d_model: [16, 16]}", "has a value twice"),
        ("axes:\n  d_model: [16]\n  model.d_model: [32]", "e.yaml:3: axes.model.d_model: model"),
        ("set: {seed: 3}", "seed belongs under training or sampling"),
        ("set: {training: {seed: 3}}", "belongs under 'seeds:'"),
        ("set:\n  training:\n    max_steps: 3", "e.yaml:3: set.training.max_steps: belongs under"),
        ("budget: {steps: 1, minutes: 2}", "e.yaml:1: budget: has steps and minutes; give one"),
        ("budget:\n  steps: 0", "e.yaml:2: budget.steps: must be greater than or equal to 1"),
        ("seeds: 3", "e.yaml:1: seeds: must be a list, such as [1, 2], got 3"),
        ("seeds: [1, 1]", "has a seed twice"),
        ("arms:\n  a:\n    seeds: [1, 1]", "e.yaml:3: arms.a.seeds: has a seed twice"),
        ("arms: {a: {}, b: {distill: c}}", "arms.b.distill: c is no other arm; there are a"),
        ("arms: {a: {distill: a}}", "arms.a.distill: a is no other arm; there is none"),
        (
            "arms:\n  a: {}\n  b: {distill: a}\n  c:\n    distill: b",
            "e.yaml:5: arms.c.distill: b learns from teachers itself; name an arm that does not",
        ),
        ("arms: {a: {}, b: {distill: a}}\nsearch: {}", "a search has no teachers"),
        ("arms: {a: {seeds: [1]}}\nsearch: {}", "a search has the same seeds for all arms"),
        (
            "arms:\n  a: {}\n  b:\n    distill: a\n    set:\n      corpus: c",
            "a student has the text and the tokens of its teachers; set it in a, too",
        ),
        ("metric: val", "e.yaml:1: metric: must be 'val_loss'"),
        ("arms: {a: {sett: {}}}", "arms.a.sett: unknown key; did you mean set?"),
        ("axes: {d_model: {low: 1, high: 2}}", "is a range, which needs 'search:'"),
        ("axes: {d_model: {low: 4, high: 2}}\nsearch: {}", "low 4 must be below high 2"),
        ("axes: {d_model: {low: 4}}\nsearch: {}", "axes.d_model.high: is missing"),
        ("axes: {norm: {low: 4, high: 5}}\nsearch: {}", "list its values, such as [layernorm,"),
        ("axes: {corpus: [a, b]}\nsearch: {}", "losses on different texts do not compare"),
        ("design: paired\naxes: {d_model: [1], n_layers: [1, 2]}", "lists of one length"),
        ("metric: val_loss\nmetric: seconds", "e.yaml:2: metric: given twice"),
        ("- a", "e.yaml:1: must hold keys"),
    ],
)
def test_every_problem_names_its_line(text: str, expected: str) -> None:
    found = problems(text)
    assert any(expected in line for line in found), found
    assert all(line.startswith("e.yaml:") for line in found)


def test_settings_that_do_not_go_together_name_the_run() -> None:
    (found,) = problems("axes:\n  d_model: [16, 33]")
    assert found.startswith("e.yaml:2: d_model=33: d_model 33 is not divisible by n_heads 2")


def test_what_is_varied_cannot_be_set(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--set model.d_model: is an axis"):
        definition("axes: {d_model: [16]}", overrides=("model.d_model=32",)).runs()
    with pytest.raises(UserError, match=r"--set training.seed: belongs to 'seeds:'"):
        definition("", overrides=("training.seed=3",)).runs()


def test_a_later_command_line_keeps_what_an_earlier_one_said() -> None:
    earlier = Changes(budget=Budget(steps=3), overrides=("model.dropout=0.3",), seeds=(1,))
    later = earlier.with_later(Changes(overrides=("model.dropout=0.2",), seeds=(1, 2)))
    found = Definition("", "e.yaml", BASE, later).runs()
    assert [run.seed for run in found] == [1, 2]
    training, model = found[0].config.training, found[0].config.model
    assert (training.max_steps, model.dropout) == (3, 0.2)


def test_a_base_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(BASE)
    (tmp_path / "e.yaml").write_text("base: own.yaml\naxes: {n_layers: [1]}")
    found = read_definition(str(tmp_path / "e.yaml"), Changes())
    assert found.runs()[0].config.model.d_model == 32
    assert Definition.from_json(json.loads(json.dumps(found.as_json()))) == found
    (tmp_path / "e.yaml").write_text("base: other.yaml")
    with pytest.raises(UserError, match="no such config"):
        read_definition(str(tmp_path / "e.yaml"), Changes())


def test_every_metric_of_a_file_is_one_of_the_table() -> None:
    assert set(get_args(MetricName)) == set(METRICS)


@pytest.mark.parametrize("name", shipped_experiments())
def test_shipped_experiments_as_a_dry_run(name: str, cli: CommandLine, tmp_path: Path) -> None:
    arguments = ("experiment", "run", name, "--dry-run", "--tokens-per-second=20000")
    outcome = cli(*arguments, "--json")
    assert outcome.code == 0, outcome.err
    found = json.loads(outcome.out)
    assert found["count"] >= 2
    assert all(run["parameters"] and run["memory_bytes"] for run in found["runs"])
    assert all(run["seconds"] for run in found["runs"])
    table = cli(*arguments).out
    assert found["question"] in table
    assert all(run["variant"] in table for run in found["runs"])
    assert not (tmp_path / "experiments").exists()


def test_the_two_corpora_are_those_of_the_mission() -> None:
    from shakespeare_tui.experiments.schema import find_experiment_file

    path = find_experiment_file("two-corpora")
    wiki, shakespeare = (run.config for run in read_definition(str(path), Changes()).runs())
    for config in (wiki, shakespeare):
        model = config.model
        assert (model.n_layers, model.n_heads, model.d_model, config.seq_len) == (6, 6, 384, 256)
        assert config.data.tokenizer == "gpt2"
        assert len(config.sampling.prompts) == 3
    assert (wiki.training.max_steps, shakespeare.training.max_steps) == (5000, 3000)
    assert (wiki.training.learning_rate, shakespeare.training.learning_rate) == (1e-3, 3e-3)


def test_the_schema_is_the_one_that_ships(cli: CommandLine) -> None:
    from shakespeare_tui.paths import shipped_folder

    shipped = shipped_folder("configs") / "experiments" / "schema.json"
    assert json.loads(cli("experiment", "schema").out) == json.loads(shipped.read_text())


def test_an_empty_file_is_the_base(tmp_path: Path) -> None:
    assert parse_experiment("", "e.yaml").experiment.base == "quick"
    assert labels("") == ["base"]
