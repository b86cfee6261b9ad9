"""What ``train --no-ui`` prints, at any width, in any encoding, in a pipe, and as JSON."""

import io
import json
import operator
import os
import re
import shlex
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from real_cli import TINY, CommandLine, Outcome, wait_until

from shakespeare_tui.cli.main import main
from shakespeare_tui.cli.recipes import recipe_minutes
from shakespeare_tui.cli.train_console import TrainConsole, fit_line
from shakespeare_tui.config.load import load_config
from shakespeare_tui.config.schema import Config
from shakespeare_tui.data.catalogue import CATALOGUE, CorpusEntry, UrlSource
from shakespeare_tui.experiments.compose import for_time
from shakespeare_tui.experiments.folder import ExperimentFolder
from shakespeare_tui.runs.event_log import read_events
from shakespeare_tui.runs.events import CommandApplied, RunStarted, StepCompleted
from shakespeare_tui.runs.folder import RunFolder
from shakespeare_tui.runs.length import RunLength

LINE = re.compile(
    r"Step (\d+) \| train_loss: (\d+\.\d{3}) \| val_loss: (\d+\.\d{3})"
    r"(?: \| accuracy: \d+\.\d%)? \| lr: (\d\.\de[+-]\d\d) \| ([\d,]+|-) tok/s"
)
TRAIN = ("train", "--no-ui", *TINY, "--max-steps=20", "--name=alpha")


@pytest.fixture
def trained_here(cli: CommandLine) -> Outcome:
    outcome = cli(*TRAIN)
    assert outcome.code == 0, outcome.err
    return outcome


def rows(text: str) -> dict[str, str]:
    """The labels and values in two columns of the header and the summary."""
    found = (re.fullmatch(r"(\w[\w ]{0,10}?) {2,}(\S.*)", line) for line in text.splitlines())
    return {match[1]: match[2] for match in found if match}


def events(runs_root: Path, kind: str, name: str = "alpha") -> list[dict[str, float]]:
    lines = (runs_root / name / "events.jsonl").read_text().splitlines()
    return [event for event in map(json.loads, lines) if event["type"] == kind]


def in_training(runs_root: Path) -> dict[float, dict[str, float]]:
    """Evaluations by step, without the final exact one."""
    found = events(runs_root, "EvalCompleted")
    return {event["step"]: event for event in found if event["protocol"] != "exact"}


class TestLines:
    def test_a_line_for_every_evaluation_in_the_documented_form(
        self, trained_here: Outcome, runs_root: Path
    ) -> None:
        found = [LINE.fullmatch(line) for line in trained_here.err.splitlines()]
        lines = [match for match in found if match]
        evaluations = in_training(runs_root)
        rates = {e["step"]: e["learning_rate"] for e in events(runs_root, "StepCompleted")}
        losses = {e["step"]: e["loss"] for e in events(runs_root, "StepCompleted")}
        assert [int(line[1]) for line in lines] == [10, 20] == list(evaluations)
        for line in lines:
            step = int(line[1])
            # The mean over 25 steps, by weights that fall by 1 - 1/25 a step.
            weights = [0.96 ** (step - earlier) for earlier in losses if earlier <= step]
            mean = sum(map(operator.mul, weights, losses.values())) / sum(weights)
            assert float(line[2]) == pytest.approx(mean, abs=6e-4)
            assert line[3] == f"{evaluations[step]['val_loss']:.3f}"
            assert line[4] == f"{rates[step]:.1e}"
            assert int(line[5].replace(",", "")) > 0

    def test_header(self, trained_here: Outcome) -> None:
        header = rows(trained_here.err.partition("Step ")[0])
        assert list(header)[:7] == (
            ["run", "device", "corpus", "characters", "vocabulary", "parameters", "steps"]
        )
        assert header["run"] == "alpha"
        assert header["device"].endswith(", float32")
        assert (header["corpus"], header["steps"]) == ("sample", "20")
        assert header["characters"] == "28,525"
        assert header["vocabulary"] == "62"
        assert header["parameters"].startswith("3,088")

    def test_estimated_time(self, trained_here: Outcome) -> None:
        assert re.search(
            r"^time +a step of 64 tokens takes \d+ ms: about \d+s for 14 steps more$",
            trained_here.err,
            re.MULTILINE,
        )

    def test_samples_between_rules(self, trained_here: Outcome, runs_root: Path) -> None:
        for sample in events(runs_root, "SampleGenerated"):
            framed = re.escape(f"step {sample['step']}: 'ROMEO:' ")
            text = re.escape(f"{sample['prompt']}{sample['text']}")
            assert re.search(rf"^── {framed}─+\n{text}\n─+$", trained_here.err, re.MULTILINE)

    def test_fitting_a_line(self) -> None:
        parts = ["Step 100", "train_loss: 2.134", "val_loss: 2.178", "lr: 5.0e-04", "18,204 tok/s"]
        whole = "Step 100 | train_loss: 2.134 | val_loss: 2.178 | lr: 5.0e-04 | 18,204 tok/s"
        assert fit_line(parts, len(whole)) == whole
        for width in range(20, len(whole)):
            lines = fit_line(parts, width).splitlines()
            assert all(len(line) <= width for line in lines)
            assert " | ".join(line.strip() for line in lines) == whole


class TestSummary:
    def test_result_place_and_next_command(self, trained_here: Outcome, runs_root: Path) -> None:
        summary = rows(trained_here.out.rpartition("─\n")[2])
        finished = events(runs_root, "RunFinished")[0]
        assert summary["state"] == "finished, 20 steps"
        assert summary["val_loss"].startswith(f"{finished['val_loss']:.4f}, exact, perplexity ")
        assert summary["accuracy"].startswith(f"{finished['accuracy']:.1%} of the tokens")
        assert f"(exact) | accuracy: {finished['accuracy']:.1%}" in trained_here.err
        assert re.match(r"\d\.\d{4}, exact, at step (10|20)$", summary["best"])
        assert summary["saved in"] == str(runs_root / "alpha")

    def test_the_command_it_names_works(self, trained_here: Outcome, cli: CommandLine) -> None:
        program, *arguments = shlex.split(rows(trained_here.out)["next"])
        assert program == "shakespeare-tui"
        outcome = cli(*arguments, "--max-tokens=5")
        assert outcome.code == 0
        assert outcome.out.startswith("ROMEO:")

    def test_a_prompt_that_needs_quotes(self, cli: CommandLine) -> None:
        outcome = cli(*TRAIN[:-1], "--name=beta", '--set=sampling.prompts=["\'s a\\nword"]')
        assert outcome.code == 0
        command = outcome.out.rpartition("next ")[2]
        _, *arguments = shlex.split(command)
        generated = cli(*arguments, "--max-tokens=5")
        assert generated.out.startswith("'s a\nword")

    def test_minutes_end_a_run_in_time(self, cli: CommandLine) -> None:
        arguments = [argument for argument in TRAIN if "max-steps" not in argument]
        outcome = cli(*arguments, "--minutes=0.005")
        assert outcome.code == 0, outcome.err
        assert rows(outcome.err)["steps"] == "as many as fit into 0s"
        assert rows(outcome.out)["state"].startswith("finished, ")


class TestNarrow:
    @pytest.mark.parametrize("columns", [40, 60])
    def test_nothing_but_paths_and_commands_is_wider(
        self, columns: int, cli: CommandLine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("COLUMNS", str(columns))
        outcome = cli(*TRAIN, '--set=sampling.prompts=["ROMEO: What light, what light through it"]')
        assert outcome.code == 0
        sample = ("ROMEO: What",)
        told = outcome.err + outcome.out
        wide = [line for line in told.splitlines() if len(line) > columns]
        assert [line for line in wide if not line.startswith(("saved in", "next", *sample))] == []
        unfolded = outcome.err.replace("\n  ", " | ")
        assert len(LINE.findall(unfolded)) == 2


class TestPipesAndEncodings:
    def test_no_colour_and_no_control_codes(self, trained_here: Outcome) -> None:
        for text in (trained_here.out, trained_here.err):
            assert "\x1b" not in text
            assert "\r" not in text

    @pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp437"])
    def test_an_encoding_that_lacks_characters(
        self, encoding: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        corpus = tmp_path / "greek.txt"
        corpus.write_text("αβγ δε ζη " * 200, encoding="utf-8")
        raw = io.BytesIO()
        monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(raw, encoding=encoding))
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding=encoding))
        prompts = '--set=sampling.prompts=["αβ"]'
        assert main([*TRAIN, f"--corpus={corpus}", prompts]) == 0
        lines = raw.getvalue().decode(encoding).splitlines()
        assert sum(LINE.fullmatch(line) is not None for line in lines) == 2
        rule = "─" if encoding == "cp437" else "-"
        assert rule * 72 in lines

    @pytest.mark.parametrize(
        "both", [pytest.param(False, marks=pytest.mark.slow), True], ids=["stdout", "stderr too"]
    )
    def test_a_reader_that_leaves_ends_the_printing_but_not_the_run(
        self, both: bool, tmp_path: Path, runs_root: Path
    ) -> None:
        """As ``train --no-ui | head -1``, where head has gone before the first line."""
        reading, writing = os.pipe()
        os.close(reading)
        done = subprocess.run(
            [sys.executable, "-m", "shakespeare_tui", *TRAIN],
            stdout=writing,
            stderr=writing if both else subprocess.PIPE,
            text=True,
            cwd=tmp_path,
        )
        os.close(writing)
        assert done.returncode == 0
        (finished,) = events(runs_root, "RunFinished")
        assert (finished["step"], finished["reason"]) == (20, "completed")
        assert RunFolder(runs_root / "alpha").index()["last"] == 20
        if not both:
            assert "Traceback" not in done.stderr
            assert len(LINE.findall(done.stderr)) == 2

    def test_ctrl_c_is_code_130_though_nobody_reads(self, tmp_path: Path, runs_root: Path) -> None:
        reading, writing = os.pipe()
        os.close(reading)
        process = subprocess.Popen(
            [sys.executable, "-m", "shakespeare_tui", *TRAIN, "--max-steps=1000000"],
            stdout=writing,
            stderr=writing,
            cwd=tmp_path,
        )
        os.close(writing)
        try:
            log = runs_root / "alpha" / "events.jsonl"
            wait_until(
                lambda: log.is_file() and "StepCompleted" in log.read_text(), "a step", seconds=120
            )
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 130
        finally:
            process.kill()
        assert events(runs_root, "RunFinished")[0]["reason"] == "interrupted"


class _Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


class TestProgressBar:
    def test_time_left_on_a_terminals_stderr_only(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        terminal = _Terminal()
        monkeypatch.setenv("TERM", "xterm-256color")
        monkeypatch.setattr(sys, "stderr", terminal)
        assert main([*TRAIN]) == 0
        assert re.search(r"\d+%", terminal.getvalue())
        assert "left" in terminal.getvalue()
        assert "val_loss" in terminal.getvalue()
        out = capsys.readouterr().out
        assert " left" not in out and "\x1b" not in out


class TestJson:
    def test_one_object_and_nothing_else(self, cli: CommandLine, runs_root: Path) -> None:
        outcome = cli(*TRAIN, "--json")
        assert outcome.code == 0, outcome.err
        assert len(LINE.findall(outcome.err)) == 2
        result = json.loads(outcome.out)
        finished = events(runs_root, "RunFinished")[0]
        assert (result["run"], result["path"]) == ("alpha", str(runs_root / "alpha"))
        assert (result["reason"], result["step"]) == ("completed", 20)
        assert (result["val_loss"], result["protocol"]) == (finished["val_loss"], "exact")
        assert result["perplexity"] == pytest.approx(2.718281828459045 ** result["val_loss"])
        assert result["accuracy"] == finished["accuracy"] > 0
        assert result["best_step"] in (10, 20)
        assert result["elapsed_seconds"] > 0

    def test_divergence_is_exit_1_without_a_result(self, cli: CommandLine) -> None:
        wild = (
            *("--set=training.learning_rate=100", "--set=training.optimizer=sgd"),
            *("--set=training.grad_clip=0", "--set=training.warmup_steps=0"),
        )
        outcome = cli(*TRAIN, "--json", *wild)
        assert (outcome.code, outcome.out) == (1, "")
        (line,) = [x for x in outcome.err.splitlines() if x.startswith("failed: ")]
        assert "lower training.learning_rate" in line


def test_the_seed_decides_the_run(cli: CommandLine, runs_root: Path) -> None:
    for name, seed in (("a", "7"), ("b", "7"), ("c", "8")):
        outcome = cli(*TRAIN[:-1], f"--name={name}", "--max-steps=3", "--seed", seed)
        assert outcome.code == 0, outcome.err
        assert RunFolder(runs_root / name).config().training.seed == int(seed)
    a, b, c = (
        [event["loss"] for event in events(runs_root, "StepCompleted", name)] for name in "abc"
    )
    assert a == b != c


@pytest.mark.skipif(os.name == "nt", reason="POSIX modes")
@pytest.mark.parametrize("umask", [0o077, 0o002])
def test_all_files_of_a_run_follow_the_umask(umask: int, cli: CommandLine, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        assert cli(*TRAIN, "--max-steps=2").code == 0
    finally:
        os.umask(before)
    modes = {
        (path.is_dir(), stat.S_IMODE(path.stat().st_mode))
        for folder in (tmp_path / "runs", tmp_path / "cache")
        for path in (folder, *folder.rglob("*"))
    }
    assert modes == {(True, 0o777 & ~umask), (False, 0o666 & ~umask)}


class TestResume:
    def test_goes_on_and_says_where(self, cli: CommandLine, trained_here: Outcome) -> None:
        outcome = cli("train", "--no-ui", "--resume=alpha", "--max-steps=30")
        assert outcome.code == 0
        first, *told = outcome.err.splitlines()
        assert first == "resuming alpha at step 20"
        found = [LINE.fullmatch(line) for line in told]
        assert [int(match[1]) for match in found if match] == [30]
        assert rows(outcome.out)["state"] == "finished, 30 steps"

    def test_best_of_all_is_told_though_it_came_before(
        self, cli: CommandLine, runs_root: Path
    ) -> None:
        wild = ("--set=training.learning_rate=5", "--set=training.scheduler=constant")
        assert cli(*TRAIN, *wild).code == 0
        outcome = cli("train", "--no-ui", "--resume=alpha", "--max-steps=30")
        assert outcome.code == 0
        evaluations = in_training(runs_root)
        assert evaluations[30]["val_loss"] > evaluations[20]["val_loss"]
        exact = {e["step"]: e["val_loss"] for e in events(runs_root, "CheckpointEvaluated")}
        best = f"{exact[10]:.4f}, exact, at step 10"
        assert rows(outcome.out)["best"].startswith(best)

    def test_from_takes_the_weights(
        self, cli: CommandLine, trained_here: Outcome, runs_root: Path
    ) -> None:
        outcome = cli(*TRAIN[:-1], "--name=beta", "--from=alpha@last")
        assert outcome.code == 0, outcome.err
        first, scratch = (events(runs_root, "StepCompleted", n)[0] for n in ("beta", "alpha"))
        assert first["loss"] < scratch["loss"] - 0.1
        assert RunFolder(runs_root / "beta").info().parent == "alpha@20"


class TestFirstRun:
    """Nothing chosen and nothing to be had: the sample stands in, and stays."""

    @pytest.fixture(autouse=True)
    def offline(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.chdir(tmp_path)
        url = (tmp_path / "nowhere").as_uri()
        entry = CATALOGUE["tiny_shakespeare"]
        gone = CorpusEntry(
            *(entry.name, entry.title, entry.licence, entry.size_bytes, entry.sha256),
            (UrlSource(url),),
        )
        monkeypatch.setitem(CATALOGUE, "tiny_shakespeare", gone)

    def test_a_notice(self, cli: CommandLine) -> None:
        outcome = cli("train", "--no-ui", "--max-steps=1", "--name=first")
        assert outcome.code == 0, outcome.err
        assert "sample" in outcome.err
        assert rows(outcome.err)["corpus"] == "sample"

    def test_the_run_can_be_evaluated_and_resumed(self, cli: CommandLine) -> None:
        assert cli("train", "--no-ui", "--max-steps=1", "--name=first").code == 0
        evaluated = cli("eval", "first@last", "--json")
        assert evaluated.code == 0, evaluated.err
        resumed = cli("train", "--no-ui", "--resume=first", "--max-steps=2")
        assert resumed.code == 0, resumed.err

    def test_what_was_asked_for_is_not_replaced(self, cli: CommandLine, runs_root: Path) -> None:
        outcome = cli("train", "--no-ui", "--corpus=tiny_shakespeare", "--max-steps=1")
        assert outcome.code == 2
        assert outcome.err.count("\n") == 1
        assert not runs_root.exists()


@pytest.mark.parametrize("is_added_now", [False, True], ids=["before a resume", "meanwhile"])
def test_the_time_left_counts_what_commands_have_added(
    is_added_now: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = _Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    console = TrainConsole(Config(), RunLength(100, None, 0 if is_added_now else 100), (1.0, 1.0))
    with console.live():
        if is_added_now:
            added = {"steps": 100, "minutes": 0.0}
            console(CommandApplied(step=49, command="ExtendRun", arguments=added))
        for step in range(50, 61):
            console(
                StepCompleted(
                    step=step,
                    loss=2.0,
                    learning_rate=1e-3,
                    grad_norm=1.0,
                    tokens_per_second=64.0,
                    elapsed_seconds=float(step),
                )
            )
    # Of 200 steps, each of a second, 60 are done.
    assert "2m 20s left" in terminal.getvalue()


def test_a_short_text_is_kept_from_being_memorised_where_no_config_is_named(
    cli: CommandLine, runs_root: Path, tmp_path: Path
) -> None:
    text = tmp_path / "short.txt"
    text.write_text("To be, or not to be, that is the question.\n" * 90)
    small = ("--set=model.d_model=8", "--set=model.n_heads=1", "--set=model.n_layers=1")
    train = ("train", "--no-ui", f"--corpus={text}", "--max-steps=12", *small)
    outcome = cli(*train, "--name=kept")
    assert outcome.code == 0, outcome.err
    said = "for so short a text, not to memorise it: training.weight_decay=null, model.dropout=0.1"
    assert said in outcome.err
    kept = load_config(runs_root / "kept" / "config.yaml")
    assert kept.model.dropout == 0.1
    # Kept as the number that it came to: more than a hundred times the usual.
    assert kept.training.weight_decay is not None and kept.training.weight_decay > 5
    assert f"weight_decay is {kept.training.weight_decay:g}, by the 3,4" in outcome.err
    # What weights know already is not of this text.
    again = ("--from=kept", f"--config={runs_root / 'kept' / 'config.yaml'}", "--name=tuned")
    outcome = cli("train", "--no-ui", *again, "--max-steps=2", "--set=training.weight_decay=null")
    assert outcome.code == 0, outcome.err
    assert load_config(runs_root / "tuned" / "config.yaml").training.weight_decay == 0.1
    assert "weight_decay is 0.1, the usual" in outcome.err
    # What is given stays, and a config that is named is taken as it is, and advised on.
    outcome = cli(*train, "--set=model.dropout=0.5", "--name=given")
    assert outcome.code == 0, outcome.err
    assert load_config(runs_root / "given" / "config.yaml").model.dropout == 0.5
    outcome = cli(*train, "--config=quick", "--name=named")
    assert outcome.code == 0, outcome.err
    named = load_config(runs_root / "named" / "config.yaml")
    assert (named.model.dropout, named.training.weight_decay) == (0, 0)
    assert "Try: --set training.weight_decay=null --set model.dropout=0.1" in outcome.err


def test_a_longer_time_budget_takes_a_stronger_weight_decay(
    cli: CommandLine, runs_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = tmp_path / "long.txt"
    text.write_text("To be, or not to be, that is the question.\n" * 25_000)
    # As fast as the machine where the presets were measured.
    for module in ("measure_speed", "session"):
        measure = f"shakespeare_tui.training.{module}.measure_throughput"
        monkeypatch.setattr(measure, lambda *_, **__: 27_000.0)
    small = ("--set=model.d_model=8", "--set=model.n_heads=1", "--set=model.n_layers=1")
    ends_at_once = ("--set=training.target_loss=99", "--set=training.eval_every=1")
    decays = {}
    for minutes in (5, 20, 40):
        train = ("train", "--no-ui", f"--corpus={text}", f"--minutes={minutes}")
        outcome = cli(*train, *small, *ends_at_once, f"--name=of-{minutes}")
        assert outcome.code == 0, outcome.err
        decay = load_config(runs_root / f"of-{minutes}" / "config.yaml").training.weight_decay
        seen = minutes * 60 * 27_000 / 967_500
        said = (
            f"weight_decay is {decay:g}, by the 967,500 tokens to train on, seen about {seen:.0f}"
        )
        assert said in outcome.err
        decays[minutes] = decay
    # The preset of 5 minutes takes 2,048 tokens a step, that of more 2,304: an epoch and a sixth at
    # first, at 32 epochs (nearest to 33.5 by halves of doublings) and at 64 so much less.
    assert decays == {5: 0.092, 20: 0.28, 40: 0.55}


def test_a_time_budget_alone_chooses_the_recipe(cli: CommandLine, runs_root: Path) -> None:
    shortest = next(iter(recipe_minutes()))
    outcome = cli("train", "--no-ui", "--corpus=sample", "--minutes=0.3s", "--name=timed")
    assert outcome.code == 0, outcome.err
    assert f"preset {shortest}, the best known" in outcome.err
    config = load_config(runs_root / "timed" / "config.yaml")
    chosen = load_config(shortest, ["training.minutes=0.3s", "data.corpus=sample"])
    assert config == chosen
    assert "one that learns from them" not in outcome.err


# Small, and its end is reached at once, by a loss that every model has.
AT_ONCE = (
    *("--corpus=sample", "--minutes=20h", "--set=training.target_loss=99"),
    *("--set=model.n_layers=1", "--set=model.d_model=16", "--set=model.n_heads=2"),
)


def test_a_long_budget_trains_teachers_and_a_student(
    cli: CommandLine, runs_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure = "shakespeare_tui.training.measure_speed.measure_throughput"
    monkeypatch.setattr(measure, lambda *_, **__: 27_000.0)
    text = tmp_path / "long.txt"
    text.write_text("To be, or not to be, that is the question.\n" * 25_000)
    prompts = "--set=sampling.prompts=['To be']"
    outcome = cli("train", "--no-ui", *AT_ONCE, f"--corpus={text}", prompts, "--seed=5", "--chart")
    assert outcome.code == 0, outcome.err
    said = "three models of preset best, 4h 00m each, and one that learns from them, 6h 00m"
    assert said in outcome.err
    runs = [runs_root / f"hour-{number}" for number in (1, 2, 3, 4)]
    configs = [load_config(run / "config.yaml") for run in runs]
    assert [config.training.seed for config in configs] == [5, 6, 7, 8]
    assert {config.data.corpus for config in configs} == {str(text)}
    assert {config.model.d_model for config in configs} == {16}
    assert {config.sampling.prompts for config in configs} == {("To be",)}
    # Together, with the reading of teachers, as long as was asked for.
    assert [config.training.minutes for config in configs] == [240, 240, 240, 360]
    # By how often a teacher sees the text, as in a run of its own.
    started = next(read_events(runs[0] / "events.jsonl"))
    assert isinstance(started, RunStarted)
    tokens = started.train_tokens
    best = load_config("best")
    by_text, decay, in_20_hours = (
        best.decay_for(tokens, minutes and minutes * 60 * 27_000 / tokens)
        for minutes in (None, 240, 1200)
    )
    assert by_text < decay < in_20_hours
    assert {config.training.weight_decay for config in configs} == {decay}
    taught = [json.loads((run / "run.json").read_text())["teachers"] or {} for run in runs]
    assert taught[:3] == [{}, {}, {}]
    assert {name.partition("@")[0] for name in taught[3]} == {"hour-1", "hour-2", "hour-3"}
    assert "training, smoothed" in outcome.out
    *_, saved, following = outcome.out.splitlines()
    assert saved.endswith("hour-4")
    assert following.endswith("generate hour-4 --prompt 'To be'")
    program, *words = shlex.split(following.removeprefix("next").strip())
    assert (program, cli(*words, "--max-tokens=5").code) == ("shakespeare-tui", 0)


def begun_hour(name: str, tmp_path: Path) -> None:
    """An hour's experiment of which nothing is trained yet."""
    definition = for_time("hour", load_config("best", ["training.minutes=60"]), ())
    folder = ExperimentFolder(tmp_path / "experiments" / name)
    folder.prepare(definition, tmp_path / "runs", threads=1, may_replace=False)


def test_a_long_budget_ends_in_the_student_as_json_beside_an_unfinished_one(
    cli: CommandLine, runs_root: Path, tmp_path: Path
) -> None:
    begun_hour("hour", tmp_path)
    # The presets' prompt has characters that are not in the text: some of that stands in for it.
    text = tmp_path / "small.txt"
    text.write_text("to be, or not to be, that is the question.\n" * 200)
    outcome = cli("train", "--json", *AT_ONCE, f"--corpus={text}")
    assert outcome.code == 0, outcome.err
    assert "hour-b is a new experiment; hour is not finished" in outcome.err
    told = json.loads(outcome.out)
    assert (told["experiment"], told["run"], told["reason"]) == ("hour-b", "hour-b-4", "target")
    assert told["path"] == str(runs_root / "hour-b-4")
    assert told["val_loss"] > 0
    assert told["best_step"] == told["step"]
    assert [run["run"] for run in told["runs"]] == [f"hour-b-{number}" for number in (1, 2, 3, 4)]


def test_a_long_budget_whose_teachers_fail_says_so(cli: CommandLine, runs_root: Path) -> None:
    bursting = ("training.optimizer=sgd", "training.learning_rate=100", "training.grad_clip=0")
    outcome = cli("train", "--json", *AT_ONCE, *(f"--set={setting}" for setting in bursting))
    assert outcome.code == 1, outcome.err
    told = json.loads(outcome.out)
    assert (told["run"], told["path"], told["reason"]) == ("hour-4", None, "waiting")
    assert (told["step"], told["val_loss"], told["protocol"]) == (0, None, None)
    assert any("training diverged" in (run["failure"] or "") for run in told["runs"])
    assert "whose teachers failed" in outcome.err


def test_an_experiment_of_the_name_is_not_begun_again(cli: CommandLine, tmp_path: Path) -> None:
    begun_hour("mine", tmp_path)
    outcome = cli("train", "--no-ui", *AT_ONCE, "--name=mine")
    assert outcome.code == 2
    assert "there is an experiment mine already" in outcome.err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("in_the_way", "said"),
    [
        ("tensorboard", "--tensorboard follows a single run"),
        ("streamed", "a streamed text is never there as a whole"),
        ("folder", "cannot be written to"),
        ("room", "are free in"),
    ],
)
def test_a_long_budget_trains_one_model_where_several_have_no_place(
    in_the_way: str,
    said: str,
    cli: CommandLine,
    runs_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = {
        "tensorboard": [f"--tensorboard={tmp_path}"],
        "streamed": ["--set=data.windows=streamed"],
    }
    if in_the_way == "folder":
        monkeypatch.setenv("SHAKESPEARE_TUI_EXPERIMENTS", "/dev/null/experiments")
    elif in_the_way == "room":
        monkeypatch.setattr("shakespeare_tui.training.distillation.free_bytes", lambda _: 1000)
    outcome = cli("train", "--no-ui", *AT_ONCE, *words.get(in_the_way, ()))
    (note,) = (line for line in outcome.err.splitlines() if "one that learns from them" in line)
    assert "end lower; but" in note and said in note
    if in_the_way == "streamed":
        assert "sample is too short for data.windows=streamed" in outcome.err
    else:
        assert outcome.code == 0, outcome.err
        assert [run.name for run in runs_root.glob("*-1")] == ["best-1"]


def test_a_long_budget_says_at_once_what_no_run_can_learn(cli: CommandLine, tmp_path: Path) -> None:
    nothing, same = tmp_path / "nothing.txt", tmp_path / "same.txt"
    same.write_text("a" * 5000)
    for corpus, said in ((nothing, "nothing.txt"), (same, "one character repeated")):
        outcome = cli("train", "--no-ui", *AT_ONCE, f"--corpus={corpus}")
        assert outcome.code == 2
        assert said in outcome.err
        assert not list((tmp_path / "experiments").glob("*"))


def test_minutes_that_are_none_are_refused(cli: CommandLine) -> None:
    outcome = cli("train", "--no-ui", "--corpus=sample", "--minutes=null")
    assert outcome.code == 2
    assert "--minutes takes a time" in outcome.err
