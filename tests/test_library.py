"""``import shakespeare_tui as st`` does what the commands do, prints nothing, loads late."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from loaded_modules import modules_after
from real_cli import TINY, CommandLine
from trained_run import trained

import shakespeare_tui as st
from shakespeare_tui import library
from shakespeare_tui.runs.folder import RunFolder

__all__ = ["trained"]

GUIDE = (Path(__file__).parents[1] / "docs" / "library.md").read_text(encoding="utf-8")
SMALL: dict[str, Any] = {
    "model": {"d_model": 16, "n_heads": 2, "d_ff": 32, "n_layers": 1, "max_seq_len": 16},
    "training": {"batch_size": 4, "precision": "float32", "eval_every": 10, "max_steps": 20},
    "sampling": {"every": 10, "max_tokens": 8},
}


def losses(run: st.Run) -> list[float | None]:
    return [e.loss for e in run.events() if isinstance(e, st.events.StepCompleted)]


def test_the_examples_of_the_guide_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL):
        exec(compile(block, "docs/library.md", "exec"), names)


def test_what_is_loaded_when(tmp_path: Path) -> None:
    heavy = {"torch", "numpy", "pydantic", "textual", "rich", "plotext"}
    assert modules_after("import shakespeare_tui as st; st.__version__", tmp_path) & heavy == set()
    program = "import shakespeare_tui as st; [getattr(st, name) for name in dir(st)]"
    assert modules_after(program, tmp_path) & heavy == {"numpy", "pydantic"}


def test_all_that_the_library_names_is_there() -> None:
    assert set(st.__all__) == {"__version__", *library.__all__}


def test_names_that_are_not_there() -> None:
    assert not hasattr(st, "trian")


def test_training_is_that_of_the_command_line_and_prints_nothing(
    cli: CommandLine, capfd: pytest.CaptureFixture[str]
) -> None:
    assert cli("train", "--no-ui", *TINY, "--max-steps=20", "--name=by-command").code == 0
    seen: list[st.events.Event] = []
    run = st.train("tiny", corpus="sample", on_event=seen.append, **SMALL)
    assert capfd.readouterr() == ("", "")
    assert run.name == "tiny-1"
    assert run.steps == [10, 20]
    assert losses(run) == losses(st.open_run("by-command")) != []
    assert [event.to_json() for event in seen] == [event.to_json() for event in run.events()]
    assert run.val_loss == run.folder.best().info.loss.value  # type: ignore[union-attr]
    assert run.accuracy == run.folder.best().info.loss.accuracy  # type: ignore[union-attr]


def test_a_config_is_taken_as_well_as_its_name(tmp_path: Path) -> None:
    config = st.load_config("tiny")
    (tmp_path / "lines.txt").write_text("to be or not to be\n" * 100)
    run = st.train(config, corpus=tmp_path / "lines.txt", name="lines", **SMALL)
    assert run.config.data.corpus == str(tmp_path / "lines.txt")
    assert run.config.training.learning_rate == config.training.learning_rate
    assert run.config.model.d_model == 16


def test_a_run_that_was_left_is_saved_and_goes_on_as_if_it_had_not_been() -> None:
    whole = st.train("tiny", corpus="sample", name="whole", **SMALL)
    for event in st.train_events("tiny", corpus="sample", name="left", **SMALL):
        if isinstance(event, st.events.StepCompleted) and event.step == 3:
            break
    left = st.open_run("left")
    assert isinstance(left.events()[-1], st.events.RunFinished)
    assert left.steps[-1] >= 3
    assert losses(st.train(resume="left")) == losses(whole)


def test_an_error_of_the_reader_comes_out_once_the_run_is_saved() -> None:
    def fail(event: st.events.Event) -> None:
        if isinstance(event, st.events.StepCompleted):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        st.train("tiny", corpus="sample", name="failed", on_event=fail, **SMALL)
    last = st.open_run("failed").events()[-1]
    assert isinstance(last, st.events.RunFinished)
    assert last.step in st.open_run("failed").steps


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"config": "tinny"}, "did you mean the preset tiny"),
        ({"training": {"max_steps": 0}}, "max_steps"),
        ({"training": 5}, "training must be a section"),
        ({"trainin": {"max_steps": 5}}, "did you mean training"),
        ({"corpus": "nothing.txt"}, "nothing.txt"),
        ({"resume": "nothing"}, "there is no run 'nothing'"),
        ({"resume": "nothing", "config": "tiny"}, "resume keeps the run's own config"),
    ],
)
def test_wrong_input_is_refused_in_a_line(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(st.UserError, match=re.escape(message)):
        st.train(**arguments)


def test_text_is_that_of_generate(trained: RunFolder, cli: CommandLine) -> None:
    model = st.load("alpha@best")
    strategy = "top_k=20 temperature=0.7"
    written = model.generate("ROMEO:", strategy=strategy, max_tokens=30, seed=7)
    told = cli(
        "generate",
        "alpha",
        "--prompt=ROMEO:",
        "--max-tokens=30",
        "--seed=7",
        f"--strategy={strategy}",
    )
    assert told.out == f"ROMEO:{written}\n"
    pieces = list(
        model.stream("ROMEO:", strategy=st.parse_strategy(strategy), max_tokens=30, seed=7)
    )
    assert len(pieces) == 30
    assert "".join(pieces) == written
    short = model.generate("ROMEO:", strategy=strategy, max_tokens=30, seed=7, stop=[written[4:6]])
    assert short == written[:6]
    assert len(model.generate("ROMEO:", strategy="beam=3", max_tokens=12)) == 12


def test_logits_and_scores_are_those_of_the_network(trained: RunFolder) -> None:
    model = st.open_run("alpha").load("last")
    text = "To be, or"
    tokens = torch.tensor([model.tokenizer.encode(text).tolist()])
    with torch.inference_mode():
        expected = model.network(tokens)[0].numpy()
    assert model.logits(text) == pytest.approx(expected, abs=1e-5)
    assert model.logits("").shape == (0, model.tokenizer.vocab_size)
    log_p = torch.from_numpy(expected).log_softmax(-1).numpy()
    nats = -log_p[np.arange(len(text) - 1), tokens[0, 1:].numpy()]
    assert model.score(text).nats[1:] == pytest.approx(nats, abs=1e-5)


def test_logits_beyond_the_context_are_those_that_score(trained: RunFolder) -> None:
    model = st.load("alpha")
    text = "To be, or not to be, that is the question: " * 2
    logits, surprise = model.logits(text), model.score(text)
    assert logits.shape == (len(text), model.tokenizer.vocab_size)
    for place in (1, 16, 17, 40, len(text) - 1, len(text)):
        assert logits[place - 1] == pytest.approx(surprise.logits_at(place), abs=1e-5)


def test_windows_are_made_for_pytorch() -> None:
    dataset = st.TextDataset([3, 1, 4, 1, 5, 9, 2], seq_len=3, stride=2)
    assert [(x.tolist(), y.tolist()) for x, y in dataset] == [
        ([3, 1, 4], [1, 4, 1]),
        ([4, 1, 5], [1, 5, 9]),
    ]
    assert {part.dtype for part in dataset[0]} == {np.dtype(np.int64)}
    (batch,) = torch.utils.data.DataLoader(dataset, batch_size=2)
    assert [part.shape for part in batch] == [(2, 3), (2, 3)]
    for wrong in ({"seq_len": 0}, {"seq_len": 3, "stride": 0}):
        with pytest.raises(st.UserError, match="must be at least 1, got 0"):
            st.TextDataset([1, 2, 3], **wrong)


def test_a_tiny_gpt_learns_writes_and_repeats_itself() -> None:
    text = "abcd" * 300
    tokenizer = st.CharTokenizer(text)
    tokens = tokenizer.encode(text)

    def trained_model() -> tuple[st.TinyGPT, st.History]:
        model = st.TinyGPT(4, d_model=16, n_heads=2, n_layers=1, max_seq_len=16, norm="rmsnorm")
        history = st.train_model(
            model, tokens[:1000], epochs=3, batch_size=4, seq_len=8, lr=0.02, val_data=tokens[1000:]
        )
        return model, history

    model, history = trained_model()
    assert len(history.step_losses) == 3 * 31
    assert history.train_losses[2] < history.train_losses[0] < 1.5
    assert history.val_losses[2] < 0.3 and history.val_accuracies[2] > 0.9
    assert history.val_perplexities == pytest.approx(np.exp(history.val_losses).tolist())
    written = model.generate(tokenizer.encode("abc"), 13, strategy="greedy")
    assert tokenizer.decode(written) == "dabcdabcdabcd"
    logits = model.forward(tokens[:8])
    assert logits.shape == (8, 4)
    assert model.forward([tokens[:8]])[0] == pytest.approx(logits)
    assert model.parameters == sum(weight.size for weight in model.network.weights.values())
    # What was trained in windows of 8 is not used beyond them.
    with pytest.raises(ValueError, match="9 tokens are more than the context of 8"):
        model.forward(tokens[:9])
    assert trained_model()[1] == history


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seq_len": 17}, "seq_len is from 1 to 16, got 17"),
        ({"seq_len": 0}, "seq_len is from 1 to 16, got 0"),
        ({"train_data": [1, 2, 3]}, "3 tokens are too few for windows of 16"),
        ({"lr": -1.0}, "learning_rate"),
        ({"optimiser": "sgd"}, "did you mean optimizer"),
    ],
)
def test_a_training_that_makes_no_sense_is_refused(arguments: dict[str, Any], message: str) -> None:
    model = st.TinyGPT(4, d_model=16, n_heads=2, n_layers=1, max_seq_len=16)
    with pytest.raises(st.UserError, match=re.escape(message)):
        st.train_model(model, **({"train_data": [0, 1, 2, 3] * 50} | arguments))
    with pytest.raises(st.UserError, match="n_heads"):
        st.TinyGPT(4, d_model=16, n_heads=3)


def test_a_rate_that_is_far_too_high_fails_in_a_line() -> None:
    model = st.TinyGPT(4, d_model=16, n_heads=2, n_layers=1, max_seq_len=16)
    with pytest.raises(st.RunFailedError, match="take a lower lr"):
        st.train_model(model, [0, 1, 2, 3] * 300, 9, lr=100.0, optimizer="sgd", grad_clip=0)
