"""Models of others: the same logits as transformers', and a clear word where that cannot be."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pretrained_files import CASES, make_theirs, tokens, write_gguf

from shakespeare_tui.errors import UserError
from shakespeare_tui.models.parameters import count_parameters
from shakespeare_tui.models.pretrained.gguf_file import read_gguf
from shakespeare_tui.models.pretrained.hugging_face import read_folder


def equal_logits(ours: Any, theirs: Any, tolerance: float = 1e-4) -> None:
    with torch.no_grad():
        expected = theirs(tokens()).logits
        found = ours(tokens())
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("case", CASES)
def test_a_folder_gives_the_logits_of_transformers(case: str, tmp_path: Path) -> None:
    theirs = make_theirs(case)
    theirs.save_pretrained(tmp_path)
    found = read_folder(tmp_path)
    equal_logits(found.model, theirs)
    count = sum(parameter.numel() for parameter in found.model.parameters())
    assert count == count_parameters(found.model.config, found.model.vocab_size)
    assert count == sum(parameter.numel() for parameter in theirs.parameters())


def test_shards_and_bfloat16_are_read(tmp_path: Path) -> None:
    theirs = make_theirs("llama").to(torch.bfloat16)
    theirs.save_pretrained(tmp_path, max_shard_size="40KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    again = type(theirs).from_pretrained(tmp_path, dtype=torch.float32).eval()
    equal_logits(read_folder(tmp_path).model, again)


# llama.cpp knows no biases of Llama's feed-forward layer, and Mistral only as Llama.
@pytest.mark.parametrize("case", sorted(CASES.keys() - {"mistral", "llama-biases"}))
def test_gguf_gives_the_logits_of_transformers(case: str, tmp_path: Path) -> None:
    pytest.importorskip("gguf")
    theirs = make_theirs(case)
    write_gguf(tmp_path / "model.gguf", theirs)
    equal_logits(read_gguf(tmp_path / "model.gguf").model, theirs)


@pytest.mark.parametrize("kind", ["F16", "BF16", "Q8_0", "Q4_0", "Q4_1"])
def test_quantised_weights_are_those_that_the_package_gives(kind: str, tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf")
    theirs = make_theirs("llama-32")
    write_gguf(tmp_path / "model.gguf", theirs, kind)
    found = read_gguf(tmp_path / "model.gguf").model
    number = getattr(gguf.GGMLQuantizationType, kind)
    for name, parameter in found.named_parameters():
        if name == "blocks.1.feedforward.down.weight":
            weight = theirs.state_dict()["model.layers.1.mlp.down_proj.weight"].numpy()
            expected = gguf.dequantize(gguf.quantize(weight, number), number)
            assert torch.equal(parameter, torch.from_numpy(expected))


def test_k_quants_are_read(tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf")
    from gguf.constants import GGML_QUANT_SIZES

    from shakespeare_tui.data.tokenizers.gguf_file import GgufFile

    writer = gguf.GGUFWriter(tmp_path / "k.gguf", "llama")
    generator = torch.Generator().manual_seed(1)
    expected = {}
    for kind in ("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"):
        number = getattr(gguf.GGMLQuantizationType, kind)
        block, size = GGML_QUANT_SIZES[number]
        # Small bytes: as a half-precision scale no such byte is infinite.
        data = torch.randint(60, (3, 2 * size), dtype=torch.uint8, generator=generator).numpy()
        expected[kind] = torch.from_numpy(gguf.dequantize(data, number))
        assert expected[kind].shape == (3, 2 * block)
        writer.add_tensor(kind, data, raw_dtype=number)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    file = GgufFile(tmp_path / "k.gguf")
    for kind, weights in expected.items():
        assert torch.equal(torch.from_numpy(file.read(kind)), weights)


def edit_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def cut(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])


def only_pickles(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


BAD: dict[str, tuple[Callable[[Path], None], str]] = {
    "no config": (lambda f: (f / "config.json").unlink(), "config.json is missing"),
    "no JSON": (lambda f: (f / "config.json").write_text("{"), "cannot be read"),
    "unknown": (lambda f: edit_config(f, model_type="mamba"), "'mamba', which cannot be read"),
    "activation": (lambda f: edit_config(f, hidden_act="gelu"), "hidden_act 'gelu'"),
    "rope": (
        lambda f: edit_config(f, rope_parameters={"rope_type": "yarn", "factor": 2.0}),
        "type 'yarn'",
    ),
    "windows": (lambda f: edit_config(f, layer_types=["sliding_attention"]), "sliding windows"),
    "larger": (lambda f: edit_config(f, num_hidden_layers=200), "fewer weights"),
    "smaller": (lambda f: edit_config(f, num_hidden_layers=2), "no place for"),
    "other shape": (lambda f: edit_config(f, intermediate_size=70), "has the shape"),
    "heads": (lambda f: edit_config(f, num_attention_heads="six"), "num_attention_heads"),
    "no heads": (lambda f: edit_config(f, num_key_value_heads=4), "n_kv_heads 4"),
    "cut short": (lambda f: cut(f / "model.safetensors"), "cut short"),
    "pickles": (only_pickles, "pickles only"),
    "nothing": (lambda f: (f / "model.safetensors").unlink(), "no safetensors"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_folder_that_cannot_be_read_is_refused_in_a_line(case: str, tmp_path: Path) -> None:
    make_theirs("llama").save_pretrained(tmp_path)
    break_it, message = BAD[case]
    break_it(tmp_path)
    with pytest.raises(UserError) as refusal:
        read_folder(tmp_path)
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.02, 0.3, 0.999])
def test_a_gguf_cut_short_is_refused_in_a_line(share: float, tmp_path: Path) -> None:
    pytest.importorskip("gguf")
    path = tmp_path / "model.gguf"
    write_gguf(path, make_theirs("llama"))
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(UserError, match="cut short") as refusal:
        read_gguf(path)
    assert "\n" not in str(refusal.value)


def test_a_gguf_of_an_unknown_architecture_is_refused(tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf")
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "rwkv6")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with pytest.raises(UserError, match="'rwkv6', which cannot be read"):
        read_gguf(tmp_path / "m.gguf")
