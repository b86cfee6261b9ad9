"""``import``: a pretrained model becomes a run, or one line says why not and nothing is left."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from pretrained_files import make_theirs, write_folder, write_gguf, write_tokenizer
from real_cli import CommandLine
from safetensors import safe_open

from shakespeare_tui.config.estimate.figures import measure_corpus
from shakespeare_tui.config.write import config_to_yaml
from shakespeare_tui.data.tokenizers.chat_template import ChatTemplate
from shakespeare_tui.decoding.factory import make_decoder
from shakespeare_tui.errors import UserError
from shakespeare_tui.paths import runs_folder
from shakespeare_tui.runs.folder import find_checkpoint
from shakespeare_tui.training.torch_state import load_model


@pytest.fixture(autouse=True)
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("SHAKESPEARE_TUI_CACHE", str(tmp_path / "cache"))
    return folder


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.mark.parametrize("case", ["gpt2", "llama", "qwen3"])
def test_a_folder_becomes_a_run(cli: CommandLine, case: str) -> None:
    theirs = write_folder(Path("theirs"), case)
    outcome = cli("import", "theirs", "--name", "mine", "--json")
    assert outcome.code == 0, outcome.err
    record = json.loads(outcome.out)
    assert record["run"] == "mine" and record["family"] == theirs.config.model_type
    checkpoint = find_checkpoint("mine", runs_folder())
    assert checkpoint.info.step == 0 and checkpoint.run.info().pretrained == "theirs"
    text = cli("generate", "mine", "--prompt", "ROMEO", "--greedy", "--max-tokens", "5")
    assert text.code == 0, text.err
    ids = checkpoint.run.tokenizer().encode("ROMEO").tolist()
    model, _ = load_model(checkpoint, torch.device("cpu"))
    with torch.no_grad():
        for _ in range(5):
            ids.append(int(theirs(torch.tensor([ids])).logits[0, -1].argmax()))
    assert text.out.startswith(checkpoint.run.tokenizer().decode(ids))
    logits = make_decoder(model, 1).read(np.array([ids]))
    with torch.no_grad():
        expected = theirs(torch.tensor([ids])).logits[0, -1].numpy()
    np.testing.assert_allclose(logits[0], expected, rtol=1e-3, atol=1e-3)
    listed = cli("runs")
    assert listed.code == 0 and "finished" in listed.out


CHATS = (
    "{% for message in messages %}{% if message['role'] == 'tool' %}"
    "{{ raise_exception('no tools') }}{% endif %}\n"
    "{{ bos_token + message['role'] }}: {{ message['content'] | trim }}{{ eos_token }}\n"
    "{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
)
MESSAGES = [{"role": "user", "content": " Speak, speak. "}, {"role": "assistant", "content": "No."}]


@pytest.mark.parametrize("place", ["file", "text", "list"])
def test_a_chat_template_is_kept_and_goes_on_with_an_export(cli: CommandLine, place: str) -> None:
    transformers = pytest.importorskip("transformers")
    write_folder(Path("theirs"))
    config: dict[str, object] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": {"__type": "AddedToken", "content": "<b>"},
        "eos_token": "<e>",
    }
    if place == "file":
        Path("theirs/chat_template.jinja").write_text(CHATS)
    elif place == "text":
        config["chat_template"] = CHATS
    else:
        named = [{"name": "rag", "template": "x"}, {"name": "default", "template": CHATS}]
        config["chat_template"] = named
    Path("theirs/tokenizer_config.json").write_text(json.dumps(config))
    oracle = transformers.AutoTokenizer.from_pretrained("theirs").apply_chat_template
    expected = oracle(MESSAGES, tokenize=False, add_generation_prompt=True)
    outcome = cli("import", "theirs", "--name", "mine", "--json")
    assert outcome.code == 0 and json.loads(outcome.out)["chat"] is True
    template = find_checkpoint("mine", runs_folder()).run.chat_template()
    assert template is not None and template.render(MESSAGES) == expected
    with pytest.raises(UserError, match="no tools"):
        template.render([{"role": "tool", "content": ""}])
    assert cli("export", "mine", "--to=hf", "--output=out").code == 0
    again = transformers.AutoTokenizer.from_pretrained("out").apply_chat_template
    assert again(MESSAGES, tokenize=False, add_generation_prompt=True) == expected


def test_a_template_runs_where_it_can_only_make_text() -> None:
    for code in ("messages.append(1)", "messages.__class__.__mro__", "''.__init__.__globals__"):
        with pytest.raises(UserError, match="refuses these messages"):
            ChatTemplate(f"{{{{ {code} }}}}").render(MESSAGES)


def test_a_run_is_named_after_its_source(cli: CommandLine) -> None:
    write_folder(Path("some-llama"))
    for number in (1, 2):
        outcome = cli("import", "some-llama", "--json")
        assert json.loads(outcome.out)["run"] == f"some-llama-{number}"


def test_a_gguf_takes_a_tokenizer_from_elsewhere(cli: CommandLine) -> None:
    pytest.importorskip("gguf")
    write_gguf(Path("m.gguf"), make_theirs("llama"))
    before = files(Path())
    outcome = cli("import", "m.gguf")
    assert outcome.code == 2 and "no tokenizer" in outcome.err
    assert files(Path()) == before
    write_tokenizer(Path("tokenizer.json"))
    assert cli("import", "m.gguf", "--tokenizer", "tokenizer.json").code == 0


def other_tokenizer() -> None:
    write_tokenizer(Path("theirs/tokenizer.json"), 300)


def no_tokenizer() -> None:
    Path("theirs/tokenizer.json").unlink()


def pickles() -> None:
    Path("theirs/model.safetensors").rename("theirs/pytorch_model.bin")


def unknown() -> None:
    path = Path("theirs/config.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_type": "mamba"}))


def short_gguf() -> None:
    pytest.importorskip("gguf")
    write_gguf(Path("theirs/m.gguf"), make_theirs("llama"))
    content = Path("theirs/m.gguf").read_bytes()
    Path("theirs/m.gguf").write_bytes(content[: len(content) // 2])


def taken() -> None:
    (runs_folder() / "x").mkdir(parents=True)
    (runs_folder() / "x/notes.txt").write_text("mine")


BAD: dict[str, tuple[Callable[[], None], list[str], str]] = {
    "tokenizer of another model": (other_tokenizer, ["theirs"], "does not fit the weights"),
    "no tokenizer": (no_tokenizer, ["theirs"], "--tokenizer"),
    "tokenizer missing": (lambda: None, ["theirs", "--tokenizer", "x.json"], "x.json is no file"),
    "pickles": (pickles, ["theirs"], "pickles only"),
    "architecture": (unknown, ["theirs"], "'mamba'"),
    "cut short": (short_gguf, ["theirs/m.gguf"], "cut short"),
    "another file": (lambda: None, ["theirs/config.json"], "no GGUF file"),
    "nothing of that name": (lambda: None, ["smollm2"], "did you mean smollm2-135m?"),
    "no name": (lambda: None, ["theirs", "--name", "../x"], "cannot be a run's name"),
    "name taken": (taken, ["theirs", "--name", "x"], "already a run"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_imported_is_told_in_a_line(cli: CommandLine, case: str) -> None:
    write_folder(Path("theirs"))
    prepare, arguments, message = BAD[case]
    prepare()
    before = files(Path())
    outcome = cli("import", *arguments)
    assert outcome.code == 2
    assert message in outcome.err and outcome.err.count("\n") == 1
    assert files(Path()) == before
    assert not list(runs_folder().glob("*/*.*")) or case == "name taken"


def test_a_full_disk_leaves_nothing(cli: CommandLine) -> None:
    import resource

    write_folder(Path("theirs"))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        outcome = cli("import", "theirs", "--name", "mine")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert outcome.code == 1
    assert outcome.err.count("\n") == 1 and "Traceback" not in outcome.err
    assert not (runs_folder() / "mine").exists()
    assert cli("import", "theirs", "--name", "mine").code == 0


def test_a_repository_that_cannot_be_reached_is_told_in_a_line(
    cli: CommandLine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # A proxy that refuses: no test leaves this machine.
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    outcome = cli("import", "nobody/nothing")
    assert outcome.code == 2
    assert "nobody/nothing cannot be fetched from the hub" in outcome.err
    assert outcome.err.count("\n") == 1
    outcome = cli("import", "gpt2")
    assert outcome.code == 2 and "the model gpt2 cannot be fetched" in outcome.err
    assert not runs_folder().exists()
    assert list((tmp_path / "cache/models").iterdir()) == []


def test_an_imported_model_is_measured_and_tuned_with_a_word_of_caution(cli: CommandLine) -> None:
    write_folder(Path("theirs"))
    edit = Path("theirs/tokenizer.json")
    write_tokenizer(edit, 61)
    Path("theirs/chat_template.jinja").write_text(CHATS)
    Path("play.txt").write_text("ROMEO: WHAT HO! WHERE ART THOU, ANNA?\n" * 60)
    assert cli("import", "theirs", "--name", "mine").code == 0
    before = cli("eval", "mine", "--corpus", "play.txt", "--json")
    assert before.code == 0, before.err
    short = ("--set=data.seq_len=16", "--set=sampling.max_tokens=4", "--max-steps=4")
    outcome = cli(
        *("train", "--no-ui", "--from", "mine", "--corpus", "play.txt", "--lora", "2", "--json"),
        *("--name", "tuned", *short),
    )
    assert outcome.code == 0, outcome.err
    assert "may have read this very text" in outcome.err
    tuned = find_checkpoint("tuned", runs_folder())
    forked = tuned.run.config_to_fork()  # as the lab begins a run: its figures are of these tokens
    assert measure_corpus("play.txt", settings=forked.tokens).vocab_size == 61
    Path("fork.yaml").write_text(config_to_yaml(forked))
    again = cli("train", "--no-ui", "--from", "tuned", "--config", "fork.yaml", "--name", "again")
    assert again.code == 0, again.err
    assert find_checkpoint("again", runs_folder()).run.config().data.tokenizer == "huggingface"
    assert tuned.run.info().pretrained == "theirs"
    template = tuned.run.chat_template()
    assert template is not None and template.template == CHATS
    config = tuned.run.config()
    assert (config.training.lora_rank, config.training.learning_rate) == (2, 1e-3)
    measured = cli("eval", "tuned", "--json")
    assert json.loads(measured.out)["pretrained"] == "theirs"
    assert json.loads(measured.out)["tokens"] == json.loads(before.out)["tokens"]
    elsewhere = cli("eval", "tuned", "--corpus", "play.txt")
    assert elsewhere.code == 2 and "on its own corpus" in elsewhere.err
    assert "may have read" in measured.err
    check_shared_weights(cli, "tuned", {"lora_a", "lora_b"})
    frozen = cli(
        *("train", "--no-ui", "--from", "mine", "--corpus", "play.txt", "--freeze", "1"),
        *("--name", "frozen", *short),
    )
    assert frozen.code == 0, frozen.err
    check_shared_weights(cli, "frozen", {"weight"})
    refused = cli("train", "--no-ui", "--resume", "mine")
    assert refused.code == 2 and "--from mine" in refused.err


def check_shared_weights(cli: CommandLine, name: str, kinds: set[str]) -> None:
    """Checkpoints of a run that learns a part have that part, and the run the rest, once."""
    run = runs_folder() / name
    whole = (runs_folder() / "mine/step-00000000/weights.safetensors").stat().st_size
    own = [folder / "weights.safetensors" for folder in run.glob("step-*")]
    with safe_open(own[0], framework="np") as file:
        assert {key.rpartition(".")[2] for key in file.keys()} == kinds  # noqa: SIM118
    shared = run / "frozen/weights.safetensors"
    assert own[0].stat().st_size < whole / 2 < shared.stat().st_size <= whole
    with safe_open(own[0].with_name("state.safetensors"), framework="np") as file:
        assert not any("raw." in key for key in file.keys())  # noqa: SIM118
    text = cli("generate", name, "--prompt", "ROMEO", "--greedy", "--max-tokens", "5").out
    more = cli("train", "--no-ui", "--resume", name, "--max-steps", "6")
    assert more.code == 0, more.err
    assert cli("runs", "check", name).code == 0
    assert (
        json.loads(cli("runs", "show", name, "--json").out)["shared_bytes"] == shared.stat().st_size
    )
    exported = cli("export", f"{name}@4", "--to", "safetensors", "--output", f"{name}-out")
    assert exported.code == 0, exported.err
    hidden = shared.rename(shared.with_name("elsewhere"))
    outcome = cli("generate", name)
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert "which all checkpoints of" in outcome.err
    assert "frozen/weights.safetensors is missing" in cli("runs", "--json").out
    hidden.rename(shared)
    again = cli("generate", f"{name}@4", "--prompt", "ROMEO", "--greedy", "--max-tokens", "5")
    assert again.out == text
