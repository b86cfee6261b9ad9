"""Every format against the program that it is for: transformers, gguf, ONNX Runtime …"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from exported_runs import SHAPES, make_run
from numpy.typing import NDArray

from shakespeare_tui.errors import RunFailedError, UserError
from shakespeare_tui.export.export import Exported, export
from shakespeare_tui.export.registry import FORMATS, variants
from shakespeare_tui.export.source import ExportSource, Options, open_source

Open = Callable[..., ExportSource]


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Open:
    """``opened("quick", "bpe")``: a run of random weights, made once."""
    made: dict[tuple[str, ...], ExportSource] = {}

    def open_(*which: str) -> ExportSource:
        if which not in made:
            made[which] = open_source(make_run(tmp_path_factory.mktemp("runs"), *which))
        return made[which]

    return open_


def written(source: ExportSource, name: str, target: Path, **options: Any) -> Exported:
    return export(source, FORMATS[name], Options(**options), target)


def texts(source: ExportSource) -> list[NDArray[np.int64]]:
    generator = np.random.default_rng(1)
    sizes = [(1, 1), (3, 1), (1, 2), (2, 7), (1, source.model.context)]
    return [generator.integers(source.model.vocab_size, size=size) for size in sizes]


def ours(source: ExportSource, tokens: NDArray[np.int64]) -> NDArray[np.float32]:
    return source.model.last_logits(tokens, tokens.shape[1])


def greedy_text(source: ExportSource, prompt: str, count: int) -> str:
    """The likeliest text by a plain loop."""
    tokens = source.tokenizer.encode(prompt).astype(np.int64)
    for _ in range(count):
        best = source.model.last_logits(tokens[None], 1)[0, 0].argmax()
        tokens = np.append(tokens, best)
    return source.tokenizer.decode(tokens)


@pytest.mark.parametrize(
    ("shape", "tokenizer"),
    [
        ("quick", "char"),
        ("nanogpt", "char"),
        ("gpt2", "bpe"),
        ("qwen3", "bpe"),
        *(
            pytest.param(shape, "char", marks=pytest.mark.slow)
            for shape in ("sines", "llama", "llama-3.1")
        ),
    ],
)
def test_transformers_opens_the_folder_and_writes_the_same(
    shape: str, tokenizer: str, opened: Open, tmp_path: Path
) -> None:
    transformers = pytest.importorskip("transformers")
    source = opened(shape, tokenizer)
    done = written(source, "hf", tmp_path / "hf")
    assert done.verification.logit_difference <= 1e-5
    assert done.verification.greedy_equal == done.verification.greedy_tokens
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "hf").eval()
    split = transformers.AutoTokenizer.from_pretrained(tmp_path / "hf")
    for tokens in texts(source):
        with torch.no_grad():
            found = theirs(torch.from_numpy(tokens)).logits.numpy()
        np.testing.assert_allclose(found, ours(source, tokens), rtol=0, atol=1e-5)
    prompt = "First.\n  'tis é" if tokenizer == "bpe" else "ROMEO:\n  é "
    assert split(prompt)["input_ids"] == source.tokenizer.encode(prompt).tolist()
    ids = split("ROMEO:", return_tensors="pt")
    text = theirs.generate(**ids, max_new_tokens=12, do_sample=False)
    assert split.decode(text[0]) == greedy_text(source, "ROMEO:", 12)


@pytest.mark.parametrize(
    "shape",
    ["gpt2", "llama", *(pytest.param(s, marks=pytest.mark.slow) for s in ("llama-3.1", "qwen3"))],
)
def test_gguf_is_read_by_its_package_and_by_transformers(
    shape: str, opened: Open, tmp_path: Path
) -> None:
    gguf = pytest.importorskip("gguf")
    transformers = pytest.importorskip("transformers")
    source = opened(shape, "bpe")
    done = written(source, "gguf", tmp_path / "model.gguf")
    assert done.verification.logit_difference <= 1e-5
    reader = gguf.GGUFReader(tmp_path / "model.gguf")
    tokens_field = reader.fields["tokenizer.ggml.tokens"].contents()
    assert len(tokens_field) == source.tokenizer.vocab_size
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="model.gguf")
    if shape != "llama-3.1":  # transformers leaves its frequencies unscaled
        for tokens in texts(source):
            with torch.no_grad():
                found = theirs.eval()(torch.from_numpy(tokens)).logits.numpy()
            np.testing.assert_allclose(found, ours(source, tokens), rtol=0, atol=1e-5)
    split = transformers.AutoTokenizer.from_pretrained(tmp_path, gguf_file="model.gguf")
    prompt = "ROMEO:\n  Is  the day so young?"
    expected = source.tokenizer.encode(prompt).tolist()
    assert split(prompt, add_special_tokens=False)["input_ids"] == expected


@pytest.mark.parametrize("dtype", ["float16", "q8_0"])
def test_gguf_rounds_as_its_package_does(dtype: str, opened: Open, tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf")
    source = opened("llama", "char")
    done = written(source, "gguf", tmp_path / "m.gguf", dtype=dtype)
    assert 0 < done.verification.logit_difference < 0.5
    (down,) = [
        tensor
        for tensor in gguf.GGUFReader(tmp_path / "m.gguf").tensors
        if tensor.name == "blk.1.attn_output.weight"
    ]
    weight = source.weights["blocks.1.attention.out.weight"]
    found = gguf.dequantize(down.data, down.tensor_type)
    assert np.abs(found - weight).max() <= np.abs(weight).max() / 250


@pytest.mark.parametrize(
    ("shape", "kv_cache"),
    [
        *((shape, True) for shape in SHAPES if shape != "ngrams"),
        *(
            pytest.param(shape, False, marks=[pytest.mark.slow] if shape != "ngrams" else [])
            for shape in SHAPES
        ),
    ],
)
def test_onnx_runtime_computes_the_same_at_every_length(
    shape: str, kv_cache: bool, opened: Open, tmp_path: Path
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    source = opened(shape, "char")
    written(source, "onnx", tmp_path / "model.onnx", kv_cache=kv_cache)
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"))
    for entry in session.get_inputs():
        assert isinstance(entry.shape[0], str)  # a name: any batch
    past = [entry for entry in session.get_inputs() if entry.name != "input_ids"]
    assert bool(past) == kv_cache
    for tokens in texts(source):
        given = {
            entry.name: np.zeros((len(tokens), entry.shape[1], 0, entry.shape[3]), np.float32)
            for entry in past
        }
        (logits, *_) = session.run(None, {"input_ids": tokens, **given})
        np.testing.assert_allclose(logits, ours(source, tokens), rtol=0, atol=1e-5)
        if kv_cache and tokens.shape[1] > 2:
            _, *present = session.run(None, {"input_ids": tokens[:, :-2], **given})
            names = [entry.name for entry in past]
            given = dict(zip(names, present, strict=True))
            logits, *_ = session.run(["logits"], {"input_ids": tokens[:, -2:], **given})
            expected = ours(source, tokens)[:, -2:]
            np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-5)


def test_eight_bits_in_onnx_are_a_quarter(opened: Open, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    source = opened("gpt2", "bpe")
    plain = written(source, "onnx", tmp_path / "plain.onnx")
    small = written(source, "onnx", tmp_path / "small.onnx", dtype="int8")
    saved = plain.size_bytes - small.size_bytes
    matrices = sum(w.nbytes for n, w in source.weights.items() if w.ndim == 2 and "pos" not in n)
    assert saved > 0.7 * matrices * 0.75
    assert 0 < small.verification.logit_difference < 0.2


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_safetensors_keep_the_weights(dtype: str, opened: Open, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    source = opened("quick", "char")
    done = written(source, "safetensors", tmp_path / "out", dtype=dtype)
    tensors = load_file(tmp_path / "out" / "model.safetensors")
    for name, weight in source.weights.items():
        tensor, scale = tensors[name], tensors.get(f"{name}.scale")
        found = tensor.float() if scale is None else tensor.float() * scale[:, None]
        if dtype == "float32":
            assert torch.equal(found, torch.from_numpy(weight))
        elif dtype == "bfloat16":
            assert torch.equal(tensor, torch.from_numpy(weight).bfloat16())
        else:
            np.testing.assert_allclose(found, weight, rtol=0, atol=np.abs(weight).max() / 250)
    record = json.loads((tmp_path / "out" / "export.json").read_text())
    assert record["dtype"] == dtype
    assert record["bytes"] == done.size_bytes
    assert (tmp_path / "out" / "config.yaml").is_file()


def test_pruning_removes_what_is_nearest_to_zero(opened: Open, tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    source = opened("quick", "char")
    written(source, "safetensors", tmp_path / "out", prune=30.0)
    found = load_file(tmp_path / "out" / "model.safetensors")
    for name, weight in source.weights.items():
        if name.startswith("blocks.") and weight.ndim == 2:
            gone = found[name] == 0
            assert gone.sum() == int(weight.size * 0.3)
            assert np.abs(weight[gone]).max() <= np.abs(weight[~gone]).min()
        else:
            assert np.array_equal(found[name], weight)


def test_what_has_no_equivalent_is_named(opened: Open, tmp_path: Path) -> None:
    for name, shape, setting in (
        ("hf", "plain", "model.positions rope"),
        ("gguf", "plain", "model.positions rope"),
        ("gguf", "ngrams", "model.ngram_embedding 3"),
        ("gguf", "convolution", "model.short_convolution 3"),
        ("gguf", "quick", "model.activation relu2"),
    ):
        with pytest.raises(UserError, match=f"no equivalent of {setting}") as raised:
            written(opened(shape, "char"), name, tmp_path / "x")
        assert "\n" not in str(raised.value)
        assert list(tmp_path.iterdir()) == []


def test_an_export_that_computes_something_else_is_not_kept(opened: Open, tmp_path: Path) -> None:
    source = opened("llama", "char")
    weights = dict(source.weights)
    weights["norm.weight"] = weights["norm.weight"] * np.float32(1.01)
    wrong = ExportSource(**{**vars(source), "weights": weights})
    with pytest.raises(RunFailedError, match="does not compute what the model does"):
        written(wrong, "hf", tmp_path / "hf")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_nothing(
    opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import resource
    import signal

    source = opened("quick", "char")
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limit[1]))
    try:
        with pytest.raises(OSError, match="large"):
            written(source, "safetensors", tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert list(tmp_path.iterdir()) == []


def test_the_numpy_backend_exports_the_same_bytes(opened: Open, tmp_path: Path) -> None:
    for backend in ("torch", "numpy"):
        source = opened("qwen3", "char", backend)
        written(source, "hf", tmp_path / backend)
    files = [tmp_path / backend / "model.safetensors" for backend in ("torch", "numpy")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_every_format_says_what_it_has() -> None:
    for format_ in FORMATS.values():
        assert len(variants(format_)) == len(format_.dtypes) * (2 if format_.takes_cache else 1)
        with pytest.raises(UserError, match="has no weights in int3"):
            format_.options("int3")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["torchscript", "torch.export", "int8"])
@pytest.mark.parametrize("shape", ["quick", "gpt2", "llama"])
def test_programs_run_in_a_process_without_this_one(
    name: str, shape: str, opened: Open, tmp_path: Path
) -> None:
    source = opened(shape, "char")
    target = tmp_path / f"model{FORMATS[name].suffix}"
    done = written(source, name, target)
    load = torch.export.load if name == "torch.export" else torch.jit.load
    program = load(target)
    run = program.module() if name == "torch.export" else program
    for tokens in texts(source):
        with torch.no_grad():
            found = run(torch.from_numpy(tokens)).numpy()
        atol = 0.3 if name == "int8" else 1e-5
        np.testing.assert_allclose(found, ours(source, tokens), rtol=0, atol=atol)
    assert "without this program" in done.verification.opened_by


def test_the_torchscript_traces_any_batch_and_length(opened: Open, tmp_path: Path) -> None:
    from shakespeare_tui.export.torch_programs import torch_model, write_script

    source = opened("quick", "char", "numpy")
    write_script(torch_model(source), source, tmp_path / "model.pt")
    program = torch.jit.load(tmp_path / "model.pt")
    for tokens in texts(source):
        found = program(torch.from_numpy(tokens)).detach().numpy()
        np.testing.assert_allclose(found, ours(source, tokens), rtol=0, atol=1e-5)
