"""Runs of an experiment trained, stopped, killed and resumed, and the table that comes of them."""

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from listed_experiments import experiment, in_training, make_trial, shifted
from real_cli import CommandLine, wait_until
from small_experiments import (
    MICRO,
    Ended,
    Heard,
    InProcess,
    prepare,
    table_of,
    train,
    without_clock,
)
from streams import finished_run

from shakespeare_tui.errors import UserError
from shakespeare_tui.experiments.compose import read_added
from shakespeare_tui.experiments.folder import ExperimentFolder
from shakespeare_tui.experiments.runner import Job, PlannedWork, Runner, RunPaths
from shakespeare_tui.experiments.table import ExperimentTable
from shakespeare_tui.runs.editing import rename_run
from shakespeare_tui.runs.events import Event, RunStarted
from shakespeare_tui.runs.folder import RunFolder, find_run

TWO = "axes: {d_model: [8, 16]}\nseeds: [1, 2]\n"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The experiment ``TWO``, trained from beginning to end."""
    home = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHAKESPEARE_TUI_CACHE", str(home / "cache"))
        train(prepare(home, TWO), home / "runs")
    return home


@pytest.fixture
def finished(undisturbed: Path, tmp_path: Path) -> ExperimentFolder:
    """A copy of it."""
    for name in ("experiments", "runs", "cache"):
        shutil.copytree(undisturbed / name, tmp_path / name)
    return ExperimentFolder(tmp_path / "experiments" / "micro")


class TestTable:
    def test_each_run_is_a_run_folder_with_its_lineage(
        self, finished: ExperimentFolder, runs_root: Path, cli: CommandLine
    ) -> None:
        run = find_run("micro-2", runs_root)
        info = run.info()
        assert (info.experiment, info.variant) == ("micro", "d_model=16 seed=1")
        assert (run.config().model.d_model, run.config().training.seed) == (16, 1)
        listed = json.loads(cli("runs", "experiment=micro", "variant:d_model=16", "--json").out)
        assert {item["name"] for item in listed["runs"]} == {"micro-2", "micro-4"}

    def test_the_time_left_counts_the_reading_of_teachers(self, tmp_path: Path) -> None:
        def read(name: str, student: str, steps: int = 0) -> ExperimentTable:
            text = (
                f"base: quick\narms: {{t: {{seeds: [1, 2]}}, s: {student}}}\nbudget: {{steps: 600}}"
            )
            folder = experiment(tmp_path, name=name, text=text, trained=0)
            for trial in folder.trials(folder.record()):
                if trial.variant.arm == "t":
                    begun, *events = shifted(folder, trial.run, finished_run(600, run=trial.run))
                    assert isinstance(begun, RunStarted)
                    begun = dataclasses.replace(begun, train_tokens=1_000_000)
                    make_trial(folder, tmp_path / "runs", trial.run, [begun, *events])
                elif steps:
                    in_training(folder, tmp_path / "runs", trial.run, steps)
            return table_of(folder, tmp_path / "runs")

        alone, taught = read("alone", "{}"), read("taught", "{distill: t}")
        first = taught.rows[0]
        assert first.history.started is not None and first.figures.tokens_per_second is not None
        tokens, speed = first.history.started.train_tokens, first.figures.tokens_per_second
        assert tokens == 1_000_000
        without, whole = alone.seconds_left(1), taught.seconds_left(1)
        assert without and whole
        # Measured: three teachers of 1,003,854 tokens in 178 s, trained at 30,000 a second.
        assert whole - without == pytest.approx(2 * tokens / (0.56 * speed))
        begun = read("begun", "{distill: t}", steps=10).seconds_left(1)
        assert begun and begun < without

    def test_means_over_seeds_and_the_best(
        self, finished: ExperimentFolder, runs_root: Path
    ) -> None:
        table = table_of(finished, runs_root)
        assert table.is_complete
        assert table.differing == ["model.d_model"]
        for variant in table.variants:
            losses = [find_run(row.name, runs_root).best() for row in variant.rows]
            values = [best.info.losses[0].value for best in losses if best]
            spread = variant.spread("val_loss")
            assert spread is not None and spread.deviation is not None
            assert spread.mean == pytest.approx(sum(values) / 2)
            # Of two values the standard deviation of a sample is their distance by √2.
            assert spread.deviation == pytest.approx(abs(values[0] - values[1]) / 2**0.5)
        (judgement,) = table.judgements
        means = [variant.spread("val_loss") for variant in judgement.ranked]
        assert judgement.protocol == "exact"
        assert judgement.best is not None
        assert [spread.mean for spread in means if spread] == sorted(
            spread.mean for spread in means if spread
        )

    def test_as_a_command_prints_it(self, finished: ExperimentFolder, cli: CommandLine) -> None:
        text = cli("experiment", "status", "micro").out
        assert text.startswith("Does width help?\n")
        assert " ± " in text and "(exact)" in text and text.count("★") == 1
        assert "best on sample: d_model=" in text
        head = next(line for line in text.splitlines() if "val loss" in line)
        assert head.split()[:4] == ["state", "d_model", "seeds", "parameters"]
        by_run = cli("experiment", "status", "micro", "--runs").out
        assert all(f"micro-{number} " in by_run for number in (1, 2, 3, 4))
        listed = cli("experiment", "status").out
        assert "micro" in listed and "4/4" in listed and "finished" in listed
        found = json.loads(cli("experiment", "status", "micro", "--json").out)
        assert [run["state"] for run in found["runs"]] == 4 * ["finished"]
        assert [variant["best"] for variant in found["variants"]].count(True) == 1

    def test_a_damaged_experiment_is_one_line(
        self, finished: ExperimentFolder, tmp_path: Path, cli: CommandLine
    ) -> None:
        other = tmp_path / "experiments" / "other"
        other.mkdir()
        for content in ("{", "[]", '{"format": 1}', '{"format": 99}'):
            (other / "experiment.json").write_text(content)
            outcome = cli("experiment", "status", "other")
            assert outcome.code == 2 and len(outcome.err.splitlines()) == 1
            listed = cli("experiment", "status")
            assert listed.code == 0 and "micro" in listed.out
            assert listed.err.startswith("other: ")

    def test_a_renamed_run_stays_in_it(self, finished: ExperimentFolder, runs_root: Path) -> None:
        rename_run(find_run("micro-1", runs_root), "first")
        row = table_of(finished, runs_root).rows[0]
        assert (row.name, row.state) == ("first", "finished")
        assert train(finished, runs_root).outcomes == []

    def test_tokenizers_compare_by_bits_per_byte(self, tmp_path: Path, runs_root: Path) -> None:
        text = "arms: {char: {}, bpe: {set: {tokenizer: bpe, vocab_size: 260}}}"
        folder = prepare(tmp_path, text)
        train(folder, runs_root)
        table = table_of(folder, runs_root)
        (judgement,) = table.judgements
        assert judgement.unit == "bits per byte"
        figures = [variant.rows[0].bits_per_byte for variant in judgement.ranked]
        assert len(figures) == 2 and figures == sorted(figures, key=lambda bits: bits or 0)

    def test_texts_do_not_compare(self, tmp_path: Path, runs_root: Path) -> None:
        other = tmp_path / "other.txt"
        other.write_text("So it is, so it was, and so it will be.\n" * 90)
        folder = prepare(tmp_path, f"axes: {{corpus: [sample, {other}], d_model: [8, 16]}}")
        train(folder, runs_root)
        table = table_of(folder, runs_root)
        assert [judgement.corpus for judgement in table.judgements] == ["sample", str(other)]
        assert all(len(judgement.ranked) == 2 for judgement in table.judgements)


class TestFailures:
    def test_a_failed_run_is_recorded_and_the_rest_goes_on(
        self, tmp_path: Path, runs_root: Path
    ) -> None:
        rate = "optimizer: sgd, learning_rate: 100, grad_clip: 0, warmup_steps: 0"
        wild = f"{{set: {{{rate}}}, budget: {{steps: 40}}}}"
        missing = tmp_path / "missing.txt"
        text = f"arms: {{wild: {wild}, lost: {{set: {{corpus: {missing}}}}}, sound: {{}}}}"
        folder = prepare(tmp_path, text)
        heard = train(folder, runs_root)
        assert [outcome for _, outcome, _ in heard.outcomes] == ["failed", "failed", "finished"]
        wild_row, lost, sound = table_of(folder, runs_root).rows
        assert (wild_row.state, lost.state, sound.state) == ("failed", "failed", "finished")
        assert "training diverged" in wild_row.failure
        assert table_of(folder, runs_root).is_complete
        # What failed is left alone, unless it is asked for.
        assert train(folder, runs_root).outcomes == []
        missing.write_text("Now it is here, and there is enough of it to learn from.\n" * 60)
        again = dict(
            (run, outcome) for run, outcome, _ in train(folder, runs_root, retry=True).outcomes
        )
        assert again == {"micro-1": "failed", "micro-2": "finished"}

    def test_a_trainer_that_is_killed_again_and_again(
        self, tmp_path: Path, runs_root: Path
    ) -> None:
        class Killed:
            def start(
                self, arguments: Sequence[str], environment: Mapping[str, str], log: Path
            ) -> Ended:
                return Ended(-signal.SIGKILL)

        folder = prepare(tmp_path, "")
        heard = train(folder, runs_root, executor=Killed())
        assert [outcome for _, outcome, _ in heard.outcomes] == ["again", "again", "failed"]
        assert "killed by SIGKILL, 3 times" in table_of(folder, runs_root).rows[0].failure

    def test_a_foreign_run_of_the_name_is_left_alone(
        self, tmp_path: Path, runs_root: Path, cli: CommandLine
    ) -> None:
        folder = prepare(tmp_path, "")
        config = str(folder.config_path("micro-1"))
        assert cli("train", "--no-ui", f"--config={config}", "--name=micro-1").code == 0
        before = (runs_root / "micro-1" / "events.jsonl").read_bytes()
        ((run, outcome, reason),) = train(folder, runs_root).outcomes
        assert (run, outcome) == ("micro-1", "failed")
        assert "another run called micro-1" in reason
        assert (runs_root / "micro-1" / "events.jsonl").read_bytes() == before


class TestTeachers:
    TEXT = (
        "arms: {student: {distill: teacher, seeds: [7]}, teacher: {}}\n"
        "axes: {d_model: [8, 16]}\nseeds: [1, 2]\n"
    )

    def test_students_learn_from_the_finished_runs_of_their_values(
        self, tmp_path: Path, runs_root: Path
    ) -> None:
        folder = prepare(tmp_path, self.TEXT)
        taught: dict[str, list[int]] = {}

        def note(job: Job) -> None:
            teachers = job.trial.teachers
            taught[job.trial.variant.label] = [
                find_run(name, runs_root).config().model.d_model for name in teachers
            ]
            rows = table_of(folder, runs_root).rows
            assert all(row.state == "finished" for row in rows if row.name in teachers)

        heard = train(folder, runs_root, listener=Heard(note), jobs=3)
        assert [outcome for _, outcome, _ in heard.outcomes] == 6 * ["finished"]
        assert taught["student d_model=8"] == [8, 8]
        assert taught["student d_model=16"] == [16, 16]
        student = table_of(folder, runs_root).rows[-1]
        assert student.name == "micro-6"
        teachers = find_run("micro-6", runs_root).info().teachers
        assert teachers is not None and len(teachers) == 2
        # All is done; other teachers would be another student.
        assert train(folder, runs_root).outcomes == []
        with pytest.raises(UserError, match="has 2 runs of other settings"):
            prepare(tmp_path, self.TEXT.replace("[1, 2]", "[1, 2, 3]"))

    def test_a_student_waits_for_a_teacher_that_failed(
        self, tmp_path: Path, runs_root: Path
    ) -> None:
        missing = tmp_path / "missing.txt"
        corpus = f"set: {{corpus: {missing}}}"
        folder = prepare(tmp_path, f"arms: {{s: {{distill: t, {corpus}}}, t: {{{corpus}}}}}")
        assert [outcome for _, outcome, _ in train(folder, runs_root).outcomes] == ["failed"]
        missing.write_text("Now it is here, and there is enough of it to learn from.\n" * 60)
        assert train(folder, runs_root).outcomes == []
        again = train(folder, runs_root, retry=True).outcomes
        assert [outcome for _, outcome, _ in again] == ["finished", "finished"]

    def test_a_command_says_what_students_wait_for(
        self, tmp_path: Path, runs_root: Path, cli: CommandLine
    ) -> None:
        corpus = f"corpus: {tmp_path / 'missing.txt'}"
        file = tmp_path / "taught.yaml"
        file.write_text(
            f"{MICRO}arms: {{s: {{distill: t}}, t: {{}}}}\n".replace("corpus: sample", corpus)
        )
        outcome = cli("experiment", "run", str(file))
        assert outcome.code == 1
        assert "1 run is left, whose teachers failed" in outcome.err and "--retry" in outcome.err

    def test_a_teacher_that_ends_meanwhile_is_not_taken_for_lost(
        self, tmp_path: Path, runs_root: Path
    ) -> None:
        text = "arms: {s: {distill: t}, t: {}}"
        train(prepare(tmp_path, text, limit=1), runs_root)
        folder = prepare(tmp_path, text)

        class Late(RunPaths):
            """The end of the teacher, which another process trains, is seen at the third look."""

            looks = 0

            def ending(self, name: str) -> Event | None:
                self.looks += name == "micro-1"
                return super().ending(name) if self.looks > 2 else None

        work = PlannedWork(folder, Late(folder, runs_root), retry=False)
        elsewhere = folder.claim("micro-1")
        assert elsewhere is not None
        assert work.claim() is None
        elsewhere.release()
        trial = work.claim()
        assert trial is not None and trial.run == "micro-2"

    def test_a_student_that_is_added_has_the_seed_of_its_arm(
        self, tmp_path: Path, runs_root: Path
    ) -> None:
        folder = prepare(tmp_path, "arms: {t: {}, s: {distill: t, seeds: [4]}}\nseeds: [1]")
        definition = folder.record().definition
        added = folder.add_run(read_added(["arm=s", "d_model=16"], definition), runs_root)
        assert (added.seed, added.teachers) == (4, ("micro-1",))
        # Its settings are those of a teacher, but it is taught.
        taught = folder.add_run(read_added(["arm=s", "seed=1"], definition), runs_root)
        assert (taught.variant.arm, taught.seed, taught.teachers) == ("s", 1, ("micro-1",))

    def test_a_student_waits_for_a_teacher_that_was_interrupted(
        self, tmp_path: Path, runs_root: Path
    ) -> None:
        class Interrupted:
            def start(
                self, arguments: Sequence[str], environment: Mapping[str, str], log: Path
            ) -> Ended:
                return Ended(130)

        folder = prepare(tmp_path, "arms: {s: {distill: t}, t: {}}")
        heard = train(folder, runs_root, executor=Interrupted())
        assert [(run, outcome) for run, outcome, _ in heard.outcomes] == [("micro-1", "stopped")]
        heard = train(folder, runs_root)
        assert [(run, outcome) for run, outcome, _ in heard.outcomes] == [
            ("micro-1", "finished"),
            ("micro-2", "finished"),
        ]


class TestSharing:
    def test_two_processes_train_each_run_once(
        self, undisturbed: Path, tmp_path: Path, runs_root: Path
    ) -> None:
        """The second runner begins while the first is at its first run."""
        folder = prepare(tmp_path, TWO)
        mine, theirs = InProcess(), InProcess()
        second = Heard()

        def begin_second(job: Job) -> None:
            if not second.outcomes:
                runs = [*mine.started]
                assert len(runs) == 1
                train_others(second)

        def train_others(listener: Heard) -> None:
            work = PlannedWork(folder, RunPaths(folder, runs_root), retry=False)
            while (trial := work.claim()) is not None:
                assert trial.run != "micro-1", "the other has it"
                theirs.start(
                    [
                        *("train", "--no-ui", "--config", str(folder.config_path(trial.run))),
                        *("--name", trial.run, "--experiment", "micro"),
                    ],
                    {"SHAKESPEARE_TUI_RUNS": str(runs_root)},
                    folder.log_path(trial.run),
                )
                work.close(trial, "finished", "")
                listener.outcomes.append((trial.run, "finished", ""))

        first = train(folder, runs_root, executor=mine, listener=Heard(begin_second))
        assert [run for run, _, _ in first.outcomes] == ["micro-1"]
        assert [run for run, _, _ in second.outcomes] == ["micro-2", "micro-3", "micro-4"]
        same = (
            table_of(f, r)
            for f, r in [
                (folder, runs_root),
                (ExperimentFolder(undisturbed / "experiments" / "micro"), undisturbed / "runs"),
            ]
        )
        assert len({without_clock(table.as_json()) for table in same}) == 1

    def test_the_orphan_of_a_runner_that_is_gone_is_waited_for(
        self, tmp_path: Path, runs_root: Path
    ) -> None:
        folder = prepare(tmp_path, "")
        InProcess().start(
            [
                *("train", "--no-ui", "--config", str(folder.config_path("micro-1"))),
                *("--name", "micro-1", "--experiment", "micro", "--max-steps=2"),
            ],
            {"SHAKESPEARE_TUI_RUNS": str(runs_root)},
            folder.log_path("micro-1"),
        )
        run = RunFolder(runs_root / "micro-1")
        lines = run.events_path.read_text().splitlines(keepends=True)
        run.events_path.write_text("".join(lines[:-1]))
        executor = InProcess()
        with run.locked():
            # Its trainer is at work: it is not begun again.
            held = Heard(lambda job: ends.append(job.process))
            ends: list[object] = []

            def finish(seconds: float) -> None:
                run.events_path.write_text("".join(lines))
                raise _Waited

            paths = RunPaths(folder, runs_root)
            work = PlannedWork(folder, paths, retry=False)
            runner = Runner(folder, work, paths, executor, jobs=1, listener=held, pause=finish)
            with pytest.raises(_Waited):
                runner.run()
            assert ends == [None]
        assert executor.started == []
        # As the loop would go on, once the trainer has ended.
        runner.run()
        assert held.outcomes == [("micro-1", "finished", "")]


class _Waited(Exception):
    pass


class TestChanges:
    def test_more_seeds_add_runs_and_keep_the_others(
        self, finished: ExperimentFolder, tmp_path: Path, runs_root: Path
    ) -> None:
        before = [row.name for row in table_of(finished, runs_root).rows]
        folder = prepare(tmp_path, TWO.replace("[1, 2]", "[1, 2, 3]"))
        heard = train(folder, runs_root)
        assert [run for run, _, _ in heard.outcomes] == ["micro-5", "micro-6"]
        assert [row.name for row in table_of(folder, runs_root).rows] == [
            *before,
            "micro-5",
            "micro-6",
        ]

    def test_what_would_leave_runs_out_is_refused(
        self, finished: ExperimentFolder, tmp_path: Path, runs_root: Path
    ) -> None:
        with pytest.raises(UserError, match=r"has 2 runs of other settings \(micro-2"):
            prepare(tmp_path, "axes: {d_model: [8, 24]}\nseeds: [1, 2]")
        folder = prepare(tmp_path, "axes: {d_model: [8, 24]}\nseeds: [1, 2]", replace=True)
        names = [row.name for row in table_of(folder, runs_root).rows]
        assert names == ["micro-1", "micro-5", "micro-3", "micro-6"]
        assert (runs_root / "micro-2" / "run.json").exists()

    def test_names_keep_clear_of_other_runs(self, tmp_path: Path, runs_root: Path) -> None:
        (runs_root / "micro-7").mkdir(parents=True)
        assert prepare(tmp_path, "").record().runs == ("micro-b-1",)


class Program:
    """``experiment run`` of the real program, which starts a process for each run."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        file = folder / "micro.yaml"
        if not file.exists():
            file.write_text(MICRO + TWO.replace("[8, 16]", "[8]"))
        self.log = folder / "log.txt"
        self._folder = folder
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "shakespeare_tui", "experiment", "run", file, *arguments],
                stdout=log,
                stderr=log,
            )

    def trainers(self) -> list[int]:
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                words = path.read_bytes()
                if b"\0train\0" in words and str(self._folder).encode() in words:
                    found.append(int(path.parent.name))
        return found

    def kill(self) -> None:
        """It and its trainers, by ``kill -9``."""
        self.process.kill()
        for pid in self.trainers():
            os.kill(pid, signal.SIGKILL)
        self.process.wait(60)

    def end(self) -> int:
        return self.process.wait(120)


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Callable[..., Program]]:
    programs: list[Program] = []

    def start(*arguments: str) -> Program:
        programs.append(Program(tmp_path, *arguments))
        return programs[-1]

    yield start
    for started in programs:
        started.kill()


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="needs /proc")
class TestProgram:
    def test_killed_with_its_trainers_it_goes_on_to_the_same_table(
        self,
        undisturbed: Path,
        program: Callable[..., Program],
        runs_root: Path,
        cli: CommandLine,
    ) -> None:
        first = program("--jobs=2", "--threads=1")
        checkpoint = runs_root / "micro-1" / "step-00000002"
        wait_until(checkpoint.exists, "a checkpoint", 120)
        first.kill()
        assert program("--jobs=1").end() == 0, first.log.read_text()
        mine = json.loads(cli("experiment", "status", "micro", "--json").out)
        home = ExperimentFolder(undisturbed / "experiments" / "micro")
        theirs = table_of(home, undisturbed / "runs").as_json()
        same = {(run["values"]["model.d_model"], run["seed"]): run for run in theirs["runs"]}
        assert len(mine["runs"]) == 2
        for run in mine["runs"]:
            other = same[run["values"]["model.d_model"], run["seed"]]
            for key in ("val_loss", "train_loss", "accuracy", "bits_per_byte", "step", "protocol"):
                assert run[key] == other[key]

    @pytest.mark.slow
    def test_ctrl_c_saves_the_runs_and_is_code_130(
        self, program: Callable[..., Program], runs_root: Path, cli: CommandLine
    ) -> None:
        first = program("--max-steps=1000000")
        events = runs_root / "micro-1" / "events.jsonl"
        wait_until(lambda: events.exists() and "StepCompleted" in events.read_text(), "a step", 120)
        first.process.send_signal(signal.SIGINT)
        assert first.end() == 130, first.log.read_text()
        assert json.loads(events.read_text().splitlines()[-1])["reason"] == "interrupted"
        assert "go on with: shakespeare-tui experiment run micro" in first.log.read_text()
        second = program("--max-steps=1000000")
        before = events.read_text().count("StepCompleted")
        wait_until(lambda: events.read_text().count("StepCompleted") > before, "its return", 120)
        assert cli("experiment", "stop", "micro").code == 0
        assert second.end() == 130
        assert json.loads(events.read_text().splitlines()[-1])["type"] == "RunFinished"
