import hashlib
import json
import math
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from checkpoint_trees import add_checkpoint, add_run, add_run_with_losses
from real_cli import TINY, CommandLine
from safetensors.torch import load_file, save_file
from trained_run import evaluate, fingerprints, trained

from shakespeare_tui.config.schema import Config, ModelConfig
from shakespeare_tui.paths import shipped_folder
from shakespeare_tui.runs.folder import RunFolder
from shakespeare_tui.runs.losses import Loss
from shakespeare_tui.training.torch_state import load_model

__all__ = ["trained"]


def by_hand(run: RunFolder, step: int, split: str) -> tuple[float, float, int]:
    """Loss, accuracy and predicted tokens: each token once, windows of 16 one after the other."""
    model, tokenizer = load_model(run.checkpoint(step), torch.device("cpu"))
    text = (shipped_folder("data") / "sample.txt").read_text(encoding="utf-8")
    at = int(0.9 * len(text))
    tokens = torch.tensor(tokenizer.encode(text[at:] if split == "val" else text[:at]).tolist())
    loss, right, count = 0.0, 0, 0
    with torch.no_grad():
        for start in range(0, len(tokens) - 1, 16):
            window = tokens[start : start + 17]
            logits = model(window[None, :-1])[0].double()
            loss += F.cross_entropy(logits, window[1:], reduction="sum").item()
            right += int((logits.argmax(-1) == window[1:]).sum())
            count += len(window) - 1
    return loss / count, right / count, count


@pytest.mark.parametrize("split", ["val", "train"])
@pytest.mark.parametrize("step", [10, 30])
def test_exact_figures_are_those_by_hand(
    step: int, split: str, cli: CommandLine, trained: RunFolder
) -> None:
    figures = evaluate(cli, f"alpha@{step}", f"--split={split}")
    loss, accuracy, count = by_hand(trained, step, split)
    assert figures["checkpoint"] == f"alpha@{step}"
    assert (figures["split"], figures["protocol"], figures["tokens"]) == (split, "exact", count)
    assert figures["loss"] == pytest.approx(loss, rel=1e-5)
    assert figures["accuracy"] == pytest.approx(accuracy, abs=2 / count)
    assert figures["perplexity"] == pytest.approx(math.exp(loss), rel=1e-4)
    assert figures["bits_per_character"] == pytest.approx(loss / math.log(2), rel=1e-5)


def test_a_precision_is_measured_by_what_texts_are_written_with(
    cli: CommandLine, trained: RunFolder
) -> None:
    loss, _, _ = by_hand(trained, 30, "val")
    known = fingerprints(trained.path)
    for precision, least, most in (("float32", 0.0, 1e-5), ("int8", 1e-7, 1e-2)):
        figures = evaluate(cli, "alpha@30", f"--precision={precision}")
        assert figures["precision"] == precision
        assert least <= abs(figures["loss"] - loss) <= most * loss
    # It is not the checkpoint's own.
    assert fingerprints(trained.path) == known


def test_an_exact_figure_counts_for_the_checkpoint_from_then_on(
    cli: CommandLine, trained: RunFolder
) -> None:
    assert trained.checkpoint(10).info.exact_val_loss is None
    evaluate(cli, "alpha@10", "--split=train")
    evaluate(cli, "alpha@10", "--protocol=nanogpt")
    assert trained.checkpoint(10).info.exact_val_loss is None
    figures = evaluate(cli, "alpha@10")
    assert trained.checkpoint(10).info.loss == Loss(figures["loss"], "exact")
    assert trained.checkpoint(10).info.exact_accuracy == figures["accuracy"]


def test_the_runs_final_figure_is_the_exact_one(cli: CommandLine, trained: RunFolder) -> None:
    events = [json.loads(line) for line in trained.events_path.read_text().splitlines()]
    assert (events[-1]["type"], events[-1]["protocol"]) == ("RunFinished", "exact")
    assert evaluate(cli, "alpha@last")["loss"] == pytest.approx(events[-1]["val_loss"], rel=1e-6)


def test_the_nanogpt_protocol_is_an_estimate_of_the_same_loss(
    cli: CommandLine, trained: RunFolder
) -> None:
    figures = evaluate(cli, "alpha", "--protocol=nanogpt")
    assert figures["protocol"] == "nanogpt"
    assert figures["loss"] == pytest.approx(by_hand(trained, 30, "val")[0], abs=0.05)
    assert figures == evaluate(cli, "alpha", "--protocol=nanogpt", "--batches=200")
    assert figures["loss"] != evaluate(cli, "alpha", "--protocol=nanogpt", "--batches=3")["loss"]


def test_as_text(cli: CommandLine, trained: RunFolder) -> None:
    outcome = cli("eval", "alpha@10")
    figures = evaluate(cli, "alpha@10")
    shown = dict(line.rsplit("  ", 1) for line in outcome.out.splitlines())
    shown = {name.strip(): value.strip() for name, value in shown.items()}
    assert shown["loss"] == f"{figures['loss']:.4f}"
    assert shown["tokens"] == "2,852"
    assert shown["protocol"] == "exact"
    assert shown.keys() == {name.replace("_", " ") for name in figures}


def test_evaluating_changes_nothing(cli: CommandLine, trained: RunFolder, tmp_path: Path) -> None:
    before = fingerprints(tmp_path)
    evaluate(cli, "alpha")
    assert fingerprints(tmp_path) == before


def test_weights_that_compute_no_numbers_have_no_loss(cli: CommandLine, trained: RunFolder) -> None:
    checkpoint = trained.checkpoint(20)
    weights = load_file(checkpoint.weights_path)
    save_file({n: torch.full_like(w, 3e38) for n, w in weights.items()}, checkpoint.weights_path)
    info = checkpoint.folder / "info.json"
    digest = hashlib.sha256(checkpoint.weights_path.read_bytes()).hexdigest()
    info.write_text(json.dumps(json.loads(info.read_text()) | {"weights_sha256": digest}))
    for arguments in ((), ("--json",), ("--protocol=nanogpt", "--batches=1")):
        outcome = cli("eval", "alpha@20", *arguments)
        assert outcome.code == 2
        assert "alpha@20 has no loss" in outcome.err


def test_a_validation_split_shorter_than_the_context(cli: CommandLine, tmp_path: Path) -> None:
    corpus = tmp_path / "short.txt"
    corpus.write_text("To be, or not to be: that is all. ")
    outcome = cli("train", "--no-ui", *TINY, f"--corpus={corpus}", "--max-steps=2", "--name=short")
    assert outcome.code == 0
    assert evaluate(cli, "short")["tokens"] == 3
    outcome = cli("eval", "short", "--protocol=nanogpt")
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)


def test_a_corpus_that_changed_is_not_taken_for_the_runs_own(
    cli: CommandLine, tmp_path: Path
) -> None:
    corpus = tmp_path / "mine.txt"
    corpus.write_text("To be, or not to be: that is all. " * 40)
    cli("train", "--no-ui", *TINY, f"--corpus={corpus}", "--max-steps=2", "--name=mine")
    corpus.write_text("that is all: To be, or not to be. " * 40)
    outcome = cli("eval", "mine", "--json")
    assert (outcome.code, outcome.out) == (2, "")
    assert "has changed" in outcome.err
    assert outcome.err.count("\n") == 1


def test_a_file_called_like_a_named_corpus_is_itself(cli: CommandLine, tmp_path: Path) -> None:
    corpus = tmp_path / "tiny_shakespeare.txt"
    corpus.write_text("To be, or not to be: that is all. " * 40)
    cli("train", "--no-ui", *TINY, f"--corpus={corpus}", "--max-steps=2", "--name=mine")
    assert evaluate(cli, "mine")["tokens"] == 135


class TestRuns:
    def test_none(self, cli: CommandLine) -> None:
        outcome = cli("runs")
        assert (outcome.code, outcome.out) == (0, "")
        assert "shakespeare-tui train" in outcome.err
        outcome = cli("runs", "--json")
        assert (json.loads(outcome.out), outcome.err) == ({"runs": []}, "")

    def test_a_table_newest_first(
        self, cli: CommandLine, trained: RunFolder, runs_root: Path
    ) -> None:
        shutil.copytree(trained.path, runs_root / "a-much-longer-name")
        path = runs_root / "a-much-longer-name" / "run.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"created": time.time() + 9}))
        outcome = cli("runs")
        header, *rows = outcome.out.splitlines()
        titles = (
            "run state step val loss protocol at step perplexity accuracy parameters corpus age"
        )
        assert header.split() == titles.split()
        assert [row.split()[0] for row in rows] == ["a-much-longer-name", "alpha"]
        info = trained.checkpoint(30).info
        assert info.loss is not None
        assert rows[1].split()[1:11] == [
            *("✓", "finished", "30", f"{info.loss.value:.4f}", info.loss.protocol, "30"),
            *(f"{math.exp(info.loss.value):.2f}", f"{info.loss.accuracy:.1%}", "3.09K", "sample"),
        ]
        end = header.index("val loss") + len("val loss")
        assert all(row[:end].endswith(f"{info.loss.value:.4f}") for row in rows)  # flush right

    def test_json_has_the_figures_unrounded(self, cli: CommandLine, trained: RunFolder) -> None:
        (run,) = json.loads(cli("runs", "--json").out)["runs"]
        assert run["val_loss"] == trained.checkpoint(30).info.exact_val_loss
        assert run["accuracy"] == trained.checkpoint(30).info.exact_accuracy > 0
        assert (run["best_step"], run["protocol"]) == (30, "exact")
        assert (run["name"], run["step"], run["state"]) == ("alpha", 30, "finished")
        assert run["path"] == str(trained.path)

    def test_a_damaged_run_is_listed_with_its_problem(
        self, cli: CommandLine, trained: RunFolder
    ) -> None:
        (trained.path / "run.json").write_text("{")
        outcome = cli("runs")
        assert outcome.code == 0
        assert "damaged" in outcome.out
        assert outcome.err.startswith("alpha: ")
        assert "run.json is damaged" in outcome.err
        (run,) = json.loads(cli("runs", "--json").out)["runs"]
        assert run["state"] == "damaged"
        assert "run.json" in run["problem"]

    def test_a_damaged_checkpoint_is_told(self, cli: CommandLine, trained: RunFolder) -> None:
        trained.checkpoint(20).weights_path.write_bytes(b"")
        outcome = cli("runs")
        assert outcome.err.startswith("alpha@20: weights.safetensors is damaged: it is not a")
        (run,) = json.loads(cli("runs", "--json").out)["runs"]
        assert run["problem"].startswith("alpha@20: ")

    @pytest.mark.parametrize(
        ("arguments", "found"),
        [
            ((), ["late 1.4, exact at 20", "early 1.5, subset-64 at 10", "bare"]),
            (("val<1.6",), ["late 1.4, exact at 20", "early 1.5, subset-64 at 10"]),
            (("val<1.45",), ["late 1.4, exact at 20"]),
            (("step<20",), ["late 1.8, exact at 10", "early 1.5, subset-64 at 10"]),
            (("corpus:tiny", "or", "bare"), ["late 1.4, exact at 20", "bare"]),
            (("d_model=384",), ["bare"]),
            (("run:l", "!protocol=exact"), ["early 1.5, subset-64 at 10"]),
            (("nothing",), []),
            (("--reverse",), ["bare", "early 1.5, subset-64 at 10", "late 1.4, exact at 20"]),
            (("--sort=run",), ["bare", "early 1.5, subset-64 at 10", "late 1.4, exact at 20"]),
            (("--sort=val_loss",), ["late 1.4, exact at 20", "early 1.5, subset-64 at 10", "bare"]),
            (("--sort=step",), ["late 1.4, exact at 20", "early 1.5, subset-64 at 10", "bare"]),
            (
                ("--sort=step", "--reverse", "val<9"),
                ["early 1.5, subset-64 at 10", "late 1.4, exact at 20"],
            ),
        ],
        ids=str,
    )
    def test_queries_and_sorting_are_those_of_the_checkpoint_room(
        self, arguments: tuple[str, ...], found: list[str], cli: CommandLine, runs_root: Path
    ) -> None:
        """Each run is shown by the best of its checkpoints that match."""
        wide = Config(model=ModelConfig(d_model=384, n_heads=6))
        add_run(runs_root, "bare", created=1.0, config=wide, corpus="sample")
        add_run_with_losses(runs_root, "early", {10: 1.5, 20: 1.9}, created=2.0, corpus="sample")
        late = add_run(runs_root, "late", created=3.0)
        for step, loss in ((10, 1.8), (20, 1.4)):
            add_checkpoint(late, step, loss, protocol="exact")
        late.write_index(best=20, last=20)
        runs = json.loads(cli("runs", *arguments, "--json").out)["runs"]
        told = [
            f"{run['name']} {run['val_loss']}, {run['protocol']} at {run['best_step']}"
            if run["val_loss"]
            else run["name"]
            for run in runs
        ]
        assert told == found
        lines = cli("runs", *arguments).out.splitlines()[1:]
        assert [line.split()[0] for line in lines] == [line.split()[0] for line in found]

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (("vall<2",), "nothing is called vall; did you mean val"),
            (("val<",), "val< needs a value"),
            (("--sort=vall",), "nothing to sort by is called vall; did you mean val"),
        ],
    )
    def test_a_wrong_query_names_the_nearest(
        self, arguments: tuple[str, ...], said: str, cli: CommandLine
    ) -> None:
        outcome = cli("runs", *arguments)
        assert (outcome.code, outcome.out) == (2, "")
        assert said in outcome.err

    def test_a_run_in_training_says_so(self, cli: CommandLine, trained: RunFolder) -> None:
        with trained.locked():
            assert json.loads(cli("runs", "--json").out)["runs"][0]["state"] == "training"

    def test_looking_changes_nothing(
        self, cli: CommandLine, trained: RunFolder, tmp_path: Path
    ) -> None:
        before = fingerprints(tmp_path)
        cli("runs")
        assert fingerprints(tmp_path) == before


def test_a_shorter_trained_length_is_said_beside_every_figure(
    cli: CommandLine, runs_root: Path
) -> None:
    short = ["--set=data.seq_len=8", "--set=model.max_seq_len=24"]
    note = (
        "evaluated and sampled at 8 tokens, the trained length (data.seq_len); "
        "positions up to 24 (model.max_seq_len) are never trained\n"
    )
    outcome = cli("train", "--no-ui", *TINY, *short, "--max-steps=2", "--name=short")
    assert f"note: {note}" in outcome.err
    for command in (
        ("eval", "short"),
        ("score", "short", "--text=the king"),
        ("generate", "short", "--max-tokens=3"),
        ("compare", "short", "--strategies=greedy", "--max-tokens=3"),
    ):
        assert f"note: short@2: {note}" in cli(*command).err
    assert json.loads(cli("eval", "short", "--json").out)["context"] == 8
    assert "note" not in cli("train", "--no-ui", *TINY, "--max-steps=2", "--name=whole").err


@pytest.mark.parametrize("command", [("runs",), ("config", "list"), ("config", "schema")])
def test_a_reader_that_has_left_is_no_error(
    command: tuple[str, ...], tmp_path: Path, trained: RunFolder
) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    program = [sys.executable, "-m", "shakespeare_tui", *command]
    done = subprocess.run(program, stdout=writing, stderr=subprocess.PIPE, cwd=tmp_path)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")
