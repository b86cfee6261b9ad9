"""A real model of 135M parameters: opened, its logits those of transformers, its English sound."""

import json
from pathlib import Path

import pytest
import torch

pytest.importorskip("gguf")
pytest.importorskip("tokenizers")

from shakespeare_tui.data.catalogue import MODELS  # noqa: E402
from shakespeare_tui.data.download import fetch_files  # noqa: E402
from shakespeare_tui.data.tokenizers.hugging_face import HuggingFaceTokenizer
from shakespeare_tui.decoding.factory import make_decoder  # noqa: E402
from shakespeare_tui.errors import UserError  # noqa: E402
from shakespeare_tui.models.pretrained.layouts import Pretrained  # noqa: E402
from shakespeare_tui.models.pretrained.source import read_pretrained  # noqa: E402
from shakespeare_tui.paths import shipped_folder  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
PLAY = (shipped_folder("data") / "sample.txt").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHAKESPEARE_TUI_CACHE", str(tmp_path_factory.mktemp("cache")))
        entry = MODELS["smollm2-135m"]
        try:
            return fetch_files(entry.name, entry.files) / entry.files[0].name
        except UserError as error:
            pytest.skip(str(error))


@pytest.fixture(scope="module")
def ours(file: Path) -> Pretrained:
    return read_pretrained(str(file))


def test_it_knows_the_capital_of_france(ours: Pretrained) -> None:
    assert sum(parameter.numel() for parameter in ours.model.parameters()) == 134_515_008
    assert ours.tokenizer is not None
    tokenizer = HuggingFaceTokenizer(ours.tokenizer)
    for precision in ("float32", "int8"):
        ids = tokenizer.encode("The capital of France is").astype("int64")[None]
        decoder = make_decoder(ours.model, 1, precision=precision)
        first = decoder.read(ids).argmax(-1)
        second = decoder.read(first[:, None]).argmax(-1)
        assert tokenizer.decode([int(first[0]), int(second[0])]) == " Paris."


def test_tokens_and_logits_are_those_of_transformers(ours: Pretrained, file: Path) -> None:
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    folder, name = str(file.parent), file.name
    theirs = transformers.AutoModelForCausalLM.from_pretrained(
        folder, gguf_file=name, dtype=torch.float32
    ).eval()
    their_tokenizer = transformers.AutoTokenizer.from_pretrained(folder, gguf_file=name)
    ids = HuggingFaceTokenizer(json.loads(json.dumps(ours.tokenizer))).encode(PLAY)
    assert ids.tolist() == their_tokenizer(PLAY, add_special_tokens=False)["input_ids"]
    window = torch.from_numpy(ids[None, :256].astype("int64"))
    with torch.inference_mode():
        difference = (ours.model(window) - theirs(window).logits).abs().max()
    assert float(difference) < 1e-3
