import json
import math
import multiprocessing
import os
from pathlib import Path
from typing import Any

import pytest

from shakespeare_tui.config.schema import CheckpointConfig, Config
from shakespeare_tui.data.tokenizers.tokenizer import CharTokenizer
from shakespeare_tui.errors import RunFailedError, UserError
from shakespeare_tui.runs.folder import (
    RunFolder,
    check_new_name,
    check_run_name,
    create_run_folder,
    find_checkpoint,
    find_run,
    list_runs,
    new_run_info,
)


def make_run(
    root: Path, name: str = "alpha", losses: dict[int, float | None] | None = None
) -> RunFolder:
    """A run with checkpoints of the given losses by step, as far as ``core`` is concerned."""
    run = create_run_folder(root, name, "unused")
    info = new_run_info(
        name=name, corpus="sample", corpus_sha256="0" * 64, characters=9, vocab_size=2, parameters=3
    )
    run.write_definition(info, Config(), CharTokenizer("ab"))
    for step, loss in (losses or {}).items():
        add_checkpoint(run, step, loss)
    return run


def add_checkpoint(run: RunFolder, step: int, loss: float | None, /, **changes: Any) -> None:
    folder = run.checkpoint_folder(step)
    folder.mkdir()
    figures = {"val_loss": loss, "train_loss": loss, "protocol": "exact" if loss else None}
    record = {"format": 1, "step": step, "time": 1.0, "elapsed_seconds": 2, **figures, **changes}
    (folder / "info.json").write_text(json.dumps(record))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "runs"


@pytest.fixture
def alpha(root: Path) -> RunFolder:
    run = make_run(root, losses={100: 2.5, 200: 2.1, 300: 2.3})
    run.write_index(200, 300)
    return run


class TestNames:
    @pytest.mark.parametrize("name", ["a", "9", "quick-1", "My.run_2", "a" * 100])
    def test_good(self, name: str, root: Path) -> None:
        check_run_name(name)
        assert create_run_folder(root, name, "x").name == name

    @pytest.mark.parametrize(
        "name",
        ["", ".", "..", ".hidden", "-x", "_x", "a/b", "a\\b", "a@b", "a b", "a\n", "a:b", "é", "a*"]
        + ["a" * 101, "../a", "/etc"],
    )
    def test_bad(self, name: str, root: Path) -> None:
        with pytest.raises(UserError, match="letters, digits") as caught:
            create_run_folder(root, name, "x")
        assert "\n" not in str(caught.value)
        assert list(root.parent.rglob("*")) == [root]

    def test_taken(self, alpha: RunFolder, root: Path) -> None:
        (root / "just-a-file").touch()
        for name in ("alpha", "just-a-file"):
            for check in (
                lambda n: create_run_folder(root, n, "x"),
                lambda n: check_new_name(n, root),
            ):
                with pytest.raises(UserError, match=f"--resume {name}"):
                    check(name)
        check_new_name("beta", root)
        assert not (root / "beta").exists()

    def test_unnamed_runs_take_the_first_free_number(self, root: Path) -> None:
        names = [create_run_folder(root, None, "quick").name for _ in range(3)]
        assert names == ["quick-1", "quick-2", "quick-3"]
        (root / "quick-2").rmdir()
        assert create_run_folder(root, None, "quick").name == "quick-2"
        assert create_run_folder(root, None, "tiny").name == "tiny-1"

    @pytest.mark.parametrize(
        ("stem", "name"),
        [("my config", "my-config-1"), ("../../etc", "etc-1"), ("é", "run-1"), ("", "run-1")]
        + [("..", "run-1"), ("a" * 300, "a" * 80 + "-1"), ("-x-", "x-1")],
    )
    def test_a_stem_becomes_a_safe_name(self, stem: str, name: str, root: Path) -> None:
        run = create_run_folder(root, None, stem)
        assert run.name == name
        check_run_name(run.name)
        assert run.path.parent == root


class TestReferences:
    @pytest.mark.parametrize(
        ("reference", "step"),
        [("alpha", 200), ("alpha@best", 200), ("alpha@last", 300), ("alpha@100", 100)]
        + [("alpha@", 200), ("alpha@000100", 100)],
    )
    def test_by_name(self, reference: str, step: int, alpha: RunFolder, root: Path) -> None:
        checkpoint = find_checkpoint(reference, root)
        assert checkpoint.info.step == step
        assert checkpoint.reference == f"alpha@{step}"
        assert checkpoint.folder == root / "alpha" / f"step-{step:08d}"

    def test_by_path(
        self, alpha: RunFolder, root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        elsewhere = tmp_path / "elsewhere"
        for path, step in (("", 200), ("@last", 300), ("/step-00000100", 100), ("/", 200)):
            assert find_checkpoint(f"{alpha.path}{path}", elsewhere).info.step == step
        monkeypatch.chdir(tmp_path)
        assert find_checkpoint("runs/alpha@100", elsewhere).info.step == 100
        monkeypatch.chdir(alpha.path)
        assert find_checkpoint(".", elsewhere).reference == "alpha@200"
        assert find_checkpoint("step-00000100", elsewhere).reference == "alpha@100"

    def test_by_a_path_with_an_at_sign(self, tmp_path: Path) -> None:
        run = make_run(tmp_path / "me@home", losses={5: 1.0, 6: 2.0})
        run.write_index(5, 6)
        for reference, step in ((f"{run.path}", 5), (f"{run.path}@last", 6)):
            assert find_checkpoint(reference, tmp_path / "runs").info.step == step

    def test_a_run_in_the_runs_folder_comes_before_a_path(
        self, alpha: RunFolder, root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        make_run(tmp_path, "alpha")
        monkeypatch.chdir(tmp_path)
        assert find_run("alpha", root).path == alpha.path

    def test_without_any_evaluation_a_run_is_its_last_checkpoint(self, root: Path) -> None:
        run = make_run(root, losses={10: None})
        run.write_index(None, 10)
        assert find_checkpoint("alpha", root).info.step == 10
        with pytest.raises(UserError, match="no best checkpoint yet"):
            find_checkpoint("alpha@best", root)

    @pytest.mark.parametrize(
        ("reference", "words"),
        [
            ("alpha@7", "no checkpoint at step 7; it has: 100, 200, 300"),
            ("alpha@newest", "after @ comes best, last or a step, not 'newest'"),
            ("alpha@best@last", "no run 'alpha@best'"),
            ("alpha@-1", "after @ comes"),
            ("alpha@1e2", "after @ comes"),
            ("alhpa", "did you mean alpha?"),
            ("alhpa@best", "did you mean alpha?"),
            ("zzz", "runs here: alpha"),
            ("", "no run ''"),
            ("@best", "no run ''"),
            ("a\nb", r"no run 'a\\nb'"),
            ("a\0b", "no run"),
            ("x" * 5000, "no run"),
            ("alpha@" + "9" * 12, "no checkpoint at step"),
            ("alpha@" + "9" * 5000, "after @ comes"),
            ("x" * 5000 + "/step-00000001", "no run"),
        ],
    )  # fmt: skip
    def test_wrong(self, reference: str, words: str, alpha: RunFolder, root: Path) -> None:
        with pytest.raises(UserError, match=words) as caught:
            find_checkpoint(reference, root)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 500

    def test_no_runs_yet(self, root: Path) -> None:
        with pytest.raises(UserError, match="holds no runs yet"):
            find_run("alpha", root)
        make_run(root)
        with pytest.raises(UserError, match="has no checkpoint yet, so there are no weights"):
            find_checkpoint("alpha", root)
        with pytest.raises(UserError, match="it has: none"):
            find_checkpoint("alpha@5", root)


class TestListing:
    def test_newest_first_and_only_runs(self, root: Path) -> None:
        for age, name in enumerate(("new", "old", "older")):
            run = make_run(root, name)
            os.utime(run.path / "run.json", (10**9 - age, 10**9 - age))
        (root / "notes").mkdir()
        (root / "file").touch()
        assert [run.name for run in list_runs(root)] == ["new", "old", "older"]

    def test_nothing(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        assert list_runs(tmp_path / "missing") == list_runs(tmp_path / "file") == []

    def test_steps_are_in_the_order_of_their_numbers(self, alpha: RunFolder) -> None:
        add_checkpoint(alpha, 123_456_789, 2.0)
        for name in ("step-5", "step-000000xx", ".step-00000400.abc", "step-00000400.bak"):
            (alpha.path / name).mkdir()
        assert alpha.steps() == [100, 200, 300, 123_456_789]

    def test_a_damaged_checkpoint_is_passed_over_but_named_when_asked_for(
        self, alpha: RunFolder
    ) -> None:
        (alpha.checkpoint_folder(200) / "info.json").write_text("{")
        assert [c.info.step for c in alpha.checkpoints()] == [100, 300]
        with pytest.raises(UserError, match=r"info\.json is damaged"):
            alpha.checkpoint(200)


class TestDamage:
    @pytest.mark.parametrize(
        "changes",
        [
            {"step": "100"},
            {"step": True},
            {"step": 1.5},
            {"step": 200},
            {"val_loss": "low"},
            {"val_loss": True},
            {"val_loss": [1]},
            {"val_loss": math.nan},
            {"val_loss": math.inf},
            {"val_loss": 10**400},
            {"time": None},
            {"protocol": 5},
            {"format": None},
            {"format": True},
            {"format": 4},
        ],
        ids=lambda changes: str(changes)[:40],
    )
    def test_a_value_that_cannot_be(self, changes: dict[str, Any], root: Path) -> None:
        run = make_run(root)
        add_checkpoint(run, 100, 2.0, **changes)
        with pytest.raises(UserError, match=r"info\.json"):
            run.checkpoint(100)
        assert run.checkpoints() == []

    def test_keys_of_later_programs_are_ignored(self, root: Path) -> None:
        run = make_run(root)
        add_checkpoint(run, 100, 2.0, tokens_seen=9)
        assert run.checkpoint(100).info.val_loss == 2.0

    @pytest.mark.parametrize(
        "content",
        [b"", b"{", b"[]", b"3", b'{"best": "a"}', b'{"best": true}', b'{"best": null}']
        + [b'{"best": 1.5}', b"\xff", b"[" * 100_000, b'{"last": 1' + b"0" * 300 + b"}"],
        ids=lambda content: content[:20].decode("latin-1"),
    )
    def test_an_index_that_cannot_be_leaves_the_steps(
        self, content: bytes, alpha: RunFolder, root: Path
    ) -> None:
        (alpha.path / "index.json").write_bytes(content)
        for reference in ("alpha", "alpha@best", "alpha@last"):
            with pytest.raises(UserError, match="alpha@STEP"):
                find_checkpoint(reference, root)
        assert find_checkpoint("alpha@300", root).info.step == 300
        alpha.sweep()

    def test_an_index_that_names_what_is_gone(self, alpha: RunFolder, root: Path) -> None:
        alpha.remove_checkpoint(200)
        with pytest.raises(UserError, match="no checkpoint at step 200; it has: 100, 300"):
            find_checkpoint("alpha", root)

    def test_no_run(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"it has no run\.json"):
            RunFolder(tmp_path).info()
        with pytest.raises(UserError, match=r"config\.yaml is missing"):
            RunFolder(tmp_path).config()
        with pytest.raises(UserError, match=r"it has no run\.json"):
            RunFolder(tmp_path).tokenizer()


class TestDefinition:
    def test_what_is_written_is_read(self, root: Path) -> None:
        run = create_run_folder(root, "alpha", "x")
        info = new_run_info(
            name="alpha",
            corpus="sample",
            corpus_sha256="f" * 64,
            characters=10,
            vocab_size=3,
            parameters=7,
            parent="beta@5",
        )
        config = Config.model_validate({"model": {"d_model": 64}, "sampling": {"prompts": ["é\n"]}})
        assert list_runs(root) == []
        run.write_definition(info, config, CharTokenizer("béa"))
        assert (run.info(), run.config()) == (info, config)
        assert run.tokenizer().decode([0, 1, 2]) == "abé"
        assert [found.path for found in list_runs(root)] == [run.path]


def _hold(path: str, has_it: Any, release: Any) -> None:
    with RunFolder(Path(path)).locked():
        has_it.set()
        release.wait(30)


class TestLock:
    def test_one_process_at_a_time_and_free_after_a_kill(self, alpha: RunFolder) -> None:
        context = multiprocessing.get_context("spawn")
        has_it, release = context.Event(), context.Event()
        process = context.Process(target=_hold, args=(str(alpha.path), has_it, release))
        process.start()
        assert has_it.wait(30)
        assert alpha.is_locked()
        with pytest.raises(UserError, match="being trained by another process"), alpha.locked(0.1):
            pass
        process.kill()
        process.join()
        assert not alpha.is_locked()
        with alpha.locked():
            assert alpha.is_locked()
        assert not alpha.is_locked()

    def test_a_look_does_not_keep_a_trainer_out(self, alpha: RunFolder) -> None:
        for _ in range(3):
            assert not alpha.is_locked()
            with alpha.locked():
                pass

    def test_freed_after_an_error(self, alpha: RunFolder) -> None:
        with pytest.raises(RuntimeError), alpha.locked():
            raise RuntimeError
        assert not alpha.is_locked()

    @pytest.mark.parametrize("is_made_anew", [False, True])
    def test_a_lock_deleted_by_hand_is_noticed(self, is_made_anew: bool, alpha: RunFolder) -> None:
        with alpha.locked():
            alpha.check_lock()
            (alpha.path / ".lock").unlink()
            if is_made_anew:
                with RunFolder(alpha.path).locked():
                    pass
            with pytest.raises(RunFailedError, match="was deleted"):
                alpha.check_lock()
        with alpha.locked():
            alpha.check_lock()

    def test_sweeping_keeps_the_lock(self, alpha: RunFolder) -> None:
        with alpha.locked():
            alpha.sweep()
            assert alpha.is_locked()
            assert (alpha.path / ".lock").exists()


class TestPrune:
    """Which checkpoints stay; the rule needs no torch, its module does."""

    def prune(self, run: RunFolder, last: int, **rule: int) -> tuple[int | None, list[int]]:
        from shakespeare_tui.training.checkpoints import prune

        best = prune(run, CheckpointConfig(**rule), last)
        return best, run.steps()

    def test_the_best_few_the_milestones_and_the_last_stay(self, root: Path) -> None:
        losses = {10: 3.0, 20: 2.0, 30: 2.5, 40: 1.9, 50: 2.2, 60: None, 70: 4.0}
        run = make_run(root, losses=losses)
        best, steps = self.prune(run, keep_best=2, every=25, last=70)
        assert (best, steps) == (40, [20, 40, 50, 70])
        assert run.index() == {"best": 40, "last": 70}

    def test_the_earlier_of_equals_is_the_better(self, root: Path) -> None:
        run = make_run(root, losses={10: 2.0, 20: 2.0, 30: 2.0})
        assert self.prune(run, keep_best=1, every=0, last=30) == (10, [10, 30])

    def test_what_is_later_than_the_last_comes_again_and_goes(self, root: Path) -> None:
        run = make_run(root, losses={10: 2.0, 20: 1.9, 30: 1.8})
        assert self.prune(run, keep_best=3, every=10, last=20) == (20, [10, 20])

    def test_nothing_evaluated(self, root: Path) -> None:
        run = make_run(root, losses={0: None, 10: None, 20: None})
        # The first stays to go back to.
        assert self.prune(run, keep_best=3, every=0, last=20) == (None, [0, 20])
        assert run.index() == {"last": 20}

    def test_the_index_never_names_what_is_gone(
        self, root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run = make_run(root, losses={step: 5.0 - step / 100 for step in range(10, 100, 10)})
        run.write_index(80, 80)
        remove = RunFolder.remove_checkpoint

        def watched(self: RunFolder, step: int) -> None:
            remove(self, step)
            assert set(self.index().values()) <= set(self.steps())

        monkeypatch.setattr(RunFolder, "remove_checkpoint", watched)
        assert self.prune(run, keep_best=1, every=0, last=90) == (90, [90])
