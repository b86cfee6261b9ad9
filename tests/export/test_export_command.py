"""``export`` as a user calls it, and what is exported as ``eval`` and ``generate`` read it."""

import json
from pathlib import Path

import pytest
from exported_runs import make_run
from real_cli import CommandLine

from shakespeare_tui.data.tokenizers.chat_template import ChatTemplate
from shakespeare_tui.decoding.exported_file import open_exported_file

pytest.importorskip("onnxruntime")
pytest.importorskip("gguf")


@pytest.fixture
def run(runs_root: Path) -> str:
    return make_run(runs_root, "llama").run.name


def test_it_prints_what_was_compared(cli: CommandLine, run: str, tmp_path: Path) -> None:
    done = cli("export", run, "--to", "onnx", "--output", str(tmp_path / "m.onnx"))
    assert done.code == 0
    assert "logits differ by at most" in done.err
    assert "greedy text equal for 64 tokens" in done.err
    assert [path.name for path in tmp_path.glob("*m.onnx*")] == ["m.onnx"]


def test_json_holds_every_figure(cli: CommandLine, run: str, tmp_path: Path) -> None:
    target = tmp_path / "m.gguf"
    done = cli("export", run, "--to=gguf", "--dtype=q8_0", f"--output={target}", "--json")
    found = json.loads(done.out)
    assert found["bytes"] == target.stat().st_size
    assert 0 < found["verification"]["largest_logit_difference"] < 1
    # Rounded weights are always measured.
    assert abs(found["perplexity"] / found["model_perplexity"] - 1) < 0.05


@pytest.mark.parametrize("name", ["m.onnx", "m.gguf"])
def test_eval_and_generate_read_what_was_exported(
    name: str, cli: CommandLine, run: str, tmp_path: Path
) -> None:
    target = str(tmp_path / name)
    extra = ["--kv-cache"] if name == "m.onnx" else []
    assert cli("export", run, f"--to={name[2:]}", f"--output={target}", *extra).code == 0
    losses = [json.loads(cli("eval", what, "--json").out)["loss"] for what in (run, target)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    options = ["--max-tokens=40", "--temperature=0.7", "--json"]
    texts = [json.loads(cli("generate", what, *options).out)["samples"] for what in (run, target)]
    assert texts[0] == texts[1]
    lines = tmp_path / "lines.txt"
    lines.write_text("ROMEO:\nJULIET:\n")
    batch = [f"--batch={lines}", f"--output={tmp_path / 'out.txt'}", "--max-tokens=5"]
    assert cli("generate", target, *batch).code == 0
    assert cli("generate", target, "--draft=lookup").code == 2
    searched = cli("generate", target, "--strategy=contrastive=4", "--max-tokens=3")
    # An ONNX graph gives no hidden states.
    assert searched.code == (2 if name == "m.onnx" else 0)


@pytest.mark.parametrize("name", ["m.onnx", "m.gguf"])
def test_a_chat_template_is_in_the_file(
    name: str, cli: CommandLine, runs_root: Path, tmp_path: Path
) -> None:
    run = make_run(runs_root, "llama", "bpe").run
    text = "{% for m in messages %}{{ m.content }}{% endfor %}"
    template = ChatTemplate(text, eos_token="<|endoftext|>")
    run.write_definition(run.info(), run.config(), run.tokenizer(), template)
    target = tmp_path / name
    assert cli("export", run.name, f"--to={name[2:]}", f"--output={target}").code == 0
    assert open_exported_file(target).chat_template == template


def test_bad_input_is_one_line_and_leaves_nothing(
    cli: CommandLine, run: str, runs_root: Path, tmp_path: Path
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    (here / "thesis.txt").write_text("years of work")
    file = tmp_path / "there.onnx"
    file.write_text("")
    quick = make_run(runs_root, "quick").run.name
    before = sorted(path.name for path in tmp_path.iterdir())
    for arguments, words in (
        ([run, "--to=onx", f"--output={file}2"], "did you mean onnx"),
        ([run, "--to=onnx", f"--output={file}"], "--overwrite"),
        ([run, "--to=hf", f"--output={here}", "--overwrite"], "not exported from here"),
        ([run, "--to=hf", f"--output={file}", "--overwrite"], "is a folder"),
        ([run, "--to=onnx", f"--output={tmp_path}/no/x.onnx"], "make it first"),
        ([quick, "--to=gguf", f"--output={tmp_path}/x.gguf"], "activation relu2"),
        ([run, "--to=onnx", "--dtype=int4", f"--output={file}2"], "no weights in int4"),
        ([run, "--to=hf", "--kv-cache", f"--output={here}2"], "--kv-cache is for onnx"),
        ([run, "--to=hf", "--prune=10", f"--output={here}2"], "--prune is for safetensors"),
        ([run, "--all", "--dtype=int8", f"--output={here}2"], "--all writes every type"),
        (["nobody", "--to=hf", f"--output={here}2"], "there is no run"),
    ):
        done = cli("export", *arguments)
        assert (done.code, done.err.count("\n")) == (2, 1), done.err
        assert words in done.err
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert (here / "thesis.txt").read_text() == "years of work"
    for broken in (str(file), str(tmp_path / "gone.gguf")):
        done = cli("generate", broken)
        assert (done.code, done.err.count("\n")) == (2, 1), done.err


def test_an_export_is_replaced_where_that_is_asked_for(
    cli: CommandLine, run: str, tmp_path: Path
) -> None:
    target = tmp_path / "out"
    command = ["export", run, "--to=safetensors", f"--output={target}"]
    assert cli(*command).code == 0
    assert cli(*command).code == 2
    assert cli(*command, "--overwrite", "--dtype=bfloat16").code == 0
    assert json.loads((target / "export.json").read_text())["dtype"] == "bfloat16"
    assert [path.name for path in tmp_path.glob("*out*")] == ["out"]


@pytest.mark.slow
@pytest.mark.parametrize("shape", ["quick", "gpt2", "qwen3"])
def test_everything_ends_in_one_table(
    shape: str, cli: CommandLine, runs_root: Path, tmp_path: Path
) -> None:
    name = make_run(runs_root, shape, "bpe").run.name
    done = cli("export", name, "--all", f"--output={tmp_path / 'all'}", "--json")
    found = json.loads(done.out)
    assert set(found["refused"]) <= {"gguf", "html"}
    assert ("gguf" in found["refused"]) == (shape == "quick")
    plain = {row["perplexity"] for row in found["exports"] if row["dtype"] == "float32"}
    for row in found["exports"]:
        assert Path(row["path"]).exists()
        assert row["perplexity"] == pytest.approx(max(plain), rel=0.02)
