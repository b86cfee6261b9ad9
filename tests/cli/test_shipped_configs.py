"""Every shipped config goes through the real command line."""

import json
from pathlib import Path

import pytest
from real_cli import CommandLine
from story_templates import write_stories

from shakespeare_tui.config.load import load_config, preset_names
from shakespeare_tui.runs.folder import RunFolder

# Two steps of a model that a laptop makes in no time; what makes a config itself stays.
SMALL = (
    "--corpus=sample",
    "--max-steps=2",
    "--set=model.d_model=24",
    "--set=model.n_heads=2",
    "--set=model.n_layers=2",
    "--set=model.d_ff=48",
    "--set=model.max_seq_len=32",
    "--set=training.batch_size=2",
    "--set=sampling.max_tokens=5",
)


# Its byte pairs and its windows ask for more text than is shipped.
OF_A_SHORT_TEXT = {
    "tinystories": (
        *("--set=data.tokenizer=bpe", "--set=data.vocab_size=300"),
        "--set=data.windows=shuffled",
    )
}


@pytest.mark.parametrize("preset", preset_names())
def test_two_steps_of_every_preset(preset: str, cli: CommandLine, runs_root: Path) -> None:
    # GPT-2's own vocabulary would have to be fetched.
    options = ("--set=data.tokenizer=char", *OF_A_SHORT_TEXT.get(preset, ()))
    outcome = cli("train", "--no-ui", f"--config={preset}", *SMALL, *options)
    assert outcome.code == 0, outcome.err
    run = RunFolder(runs_root / f"{preset}-1")
    config, shipped = run.config(), load_config(preset)
    kept = ("optimizer", "scheduler", "learning_rate", "grad_clip", "precision")
    assert all(getattr(config.training, k) == getattr(shipped.training, k) for k in kept)
    decay = shipped.training.weight_decay
    if decay is None:  # by the corpus, in steps of two windows of 32
        tokens = 64 / (config.training.muon_learning_rate * config.training.decay)
        assert tokens == pytest.approx(1.15 * 0.9 * run.info().characters, rel=0.05)
    else:
        assert config.training.weight_decay == decay
    kept = ("positions", "activation", "norm", "qk_norm", "bias", "dropout", "tie_weights")
    assert all(getattr(config.model, k) == getattr(shipped.model, k) for k in kept)
    lines = [json.loads(line) for line in run.events_path.read_text().splitlines()]
    steps = [line for line in lines if line["type"] == "StepCompleted"]
    assert [line["step"] for line in steps] == [1, 2]
    prompts = [line["prompt"] for line in lines if line["type"] == "SampleGenerated"]
    # Before the first step, where samples are drawn on the way, and at the end.
    assert prompts == (1 + bool(shipped.sampling.every)) * list(shipped.sampling.prompts)
    finished = lines[-1]
    assert (finished["type"], finished["protocol"]) == ("RunFinished", "exact")
    generated = cli("generate", run.name, "--max-tokens=3", "--json")
    assert generated.code == 0, generated.err
    assert json.loads(generated.out)["prompt"] == shipped.sampling.prompts[0]


@pytest.mark.parametrize("backend", ["torch", "numpy"])
def test_stories_by_either_backend(
    backend: str, cli: CommandLine, runs_root: Path, tmp_path: Path
) -> None:
    """Byte pairs, loss, perplexity and accuracy in every table, and several samples at once."""
    text = tmp_path / "stories.txt"
    write_stories(text, 60_000)
    train = ("train", "--no-ui", "--config=tinystories", *SMALL, f"--corpus={text}")
    small = ("--set=data.windows=shuffled", "--set=data.vocab_size=400", "--max-steps=20")
    outcome = cli(*train, *small, "--set=training.eval_every=10", f"--backend={backend}", "--json")
    assert outcome.code == 0, outcome.err
    result = json.loads(outcome.out)
    assert 0 < result["accuracy"] < 1 and result["perplexity"] < 400
    (listed,) = json.loads(cli("runs", "--json").out)["runs"]
    measured = json.loads(cli("eval", "tinystories-1@last", "--json").out)
    for figure in ("accuracy", "perplexity"):
        assert measured[figure] == pytest.approx(result[figure], rel=1e-5)
        assert listed[figure] == pytest.approx(result[figure], rel=1e-5)
    assert f"{result['accuracy']:.1%}" in cli("runs").out
    sampling = ("--temperature=0.8", "--top-k=50", "--top-p=0.95", "--max-tokens=8")
    texts = json.loads(cli("generate", "tinystories-1", "--num-samples=3", *sampling, "--json").out)
    assert len({sample["text"] for sample in texts["samples"]}) > 1


def test_two_steps_of_tiny_as_it_is(cli: CommandLine, runs_root: Path) -> None:
    arguments = ("--config=tiny", "--corpus=sample", "--max-steps=2")
    outcome = cli("train", "--no-ui", *arguments)
    assert outcome.code == 0, outcome.err
    resolved = RunFolder(runs_root / "tiny-1").config()
    assert resolved == load_config("tiny", ["data.corpus=sample", "training.max_steps=2"])


def test_the_written_config_of_a_run_is_one_to_train_with(
    cli: CommandLine, runs_root: Path
) -> None:
    assert cli("train", "--no-ui", "--config=tiny", *SMALL).code == 0
    path = runs_root / "tiny-1" / "config.yaml"
    assert cli("config", "check", str(path)).code == 0
    assert cli("train", "--no-ui", f"--config={path}", "--name=again").code == 0
    losses = [
        [
            json.loads(line)["loss"]
            for line in (runs_root / name / "events.jsonl").read_text().splitlines()
            if '"StepCompleted"' in line
        ]
        for name in ("tiny-1", "again")
    ]
    assert len(losses[0]) == 2 and losses[0] == losses[1]
