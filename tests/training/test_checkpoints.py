"""Files that are cut short, foreign, newer or hostile: refused in one line, and nothing runs."""

import hashlib
import io
import json
import math
import os
import pickle
import pickletools
import random
import shutil
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from real_cli import CliProcess, CommandLine
from safetensors.torch import load_file, save_file
from torch import Tensor
from trained_run import fingerprints, trained
from training_runs import forget_digests

from shakespeare_tui.errors import UserError
from shakespeare_tui.models.transformer import Transformer
from shakespeare_tui.runs.folder import RunFolder
from shakespeare_tui.training.checkpoints import (
    Progress,
    read_arrays,
    read_state,
    restore,
)
from shakespeare_tui.training.torch_state import TorchTrainState, load_model

__all__ = ["trained"]

CPU = torch.device("cpu")


def load(run: RunFolder) -> Transformer:
    return load_model(run.checkpoint(30), CPU)[0]


def restore_at(run: RunFolder, step: int = 30) -> tuple[Progress, TorchTrainState]:
    config = run.config()
    model = Transformer(config.model, run.tokenizer().vocab_size)
    state = TorchTrainState(model, config.training, CPU)
    return restore(read_state(run.checkpoint(step)), state), state


def refused(action: Callable[[], object]) -> str:
    """The message, which must be one line."""
    with pytest.raises(UserError) as caught:
        action()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def forget_tokenizer(run: RunFolder) -> None:
    """As a run of an older version, which does not tell its tokenizer's fingerprint."""
    path = run.path / "run.json"
    info = json.loads(path.read_text())
    del info["tokenizer_sha256"]
    path.write_text(json.dumps(info | {"format": 1}))


def change_weights(run: RunFolder, change: Callable[[dict[str, Tensor]], object]) -> None:
    path = run.checkpoint(30).weights_path
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)
    forget_digests(run.checkpoint(30))


def change_state(
    run: RunFolder,
    change: Callable[[dict[str, Tensor]], object] = lambda tensors: None,
    metadata: dict[str, str] | None = None,
    **progress: Any,
) -> None:
    path = run.checkpoint(30).state_path
    tensors, (_, found) = load_file(path), read_arrays(path)
    change(tensors)
    found["progress"] = json.dumps({**json.loads(found["progress"]), **progress})
    save_file(tensors, path, found if metadata is None else metadata)
    forget_digests(run.checkpoint(30))


class TestWhatIsWritten:
    def test_no_file_is_a_pickle(self, trained: RunFolder) -> None:
        files = [path for path in trained.path.rglob("*") if path.is_file()]
        assert {path.suffix for path in files} == {"", ".json", ".jsonl", ".safetensors", ".yaml"}
        for path in files:
            with pytest.raises((ValueError, IndexError, UnicodeDecodeError)):
                for _ in pickletools.genops(path.read_bytes()):
                    pass
            assert not path.read_bytes().startswith((b"\x80", b"PK"))  # pickle, torch's archive

    def test_weights_open_elsewhere_with_names_and_shapes_of_the_model(
        self, trained: RunFolder
    ) -> None:
        tensors = load_file(trained.checkpoint(30).weights_path)
        named = dict(load(trained).named_parameters())
        assert tensors.keys() == named.keys()
        assert all(torch.equal(tensors[name], named[name]) for name in tensors)
        assert sum(t.numel() for t in tensors.values()) == trained.info().parameters

    def test_restored_is_what_was_saved(self, trained: RunFolder) -> None:
        progress, state = restore_at(trained)
        tensors = load_file(trained.checkpoint(30).state_path)
        (optimizer,) = state.optimizers
        for name, parameter in state.model.named_parameters():
            for slot in ("exp_avg", "exp_avg_sq", "step"):
                assert torch.equal(
                    optimizer.state[parameter][slot], tensors[f"optimizer.0.{name}.{slot}"]
                )
        assert torch.equal(torch.get_rng_state(), tensors["rng.cpu"])
        assert (progress.step, progress.batches) == (30, 30)
        assert progress.val_loss == trained.checkpoint(30).info.val_loss


class TestCutShort:
    @pytest.mark.parametrize("share", [0.0, 1e-4, 0.001, 0.05, 0.3, 0.6, 0.9, 0.999, None])
    @pytest.mark.parametrize("file", ["weights", "state"])
    def test_at_any_length(self, file: str, share: float | None, trained: RunFolder) -> None:
        path = trained.checkpoint(30).folder / f"{file}.safetensors"
        content = path.read_bytes()
        path.write_bytes(
            content[: len(content) - 1 if share is None else int(share * len(content))]
        )
        before = fingerprints(trained.path)
        action = load if file == "weights" else restore_at
        message = refused(lambda: action(trained))
        assert str(path) in message
        assert "use another checkpoint" in message
        assert fingerprints(trained.path) == before
        load_model(trained.checkpoint(20), CPU)

    def test_in_the_header(self, trained: RunFolder) -> None:
        path = trained.checkpoint(30).weights_path
        content = path.read_bytes()
        for length in (*range(0, 16), 40, 100):
            path.write_bytes(content[:length])
            refused(lambda: load(trained))

    @pytest.mark.parametrize("seed", range(30))
    def test_flipped_bytes_never_end_in_a_traceback(self, seed: int, trained: RunFolder) -> None:
        chance = random.Random(seed)
        for path, action in (
            (trained.checkpoint(30).weights_path, load),
            (trained.checkpoint(30).state_path, restore_at),
        ):
            content = bytearray(path.read_bytes())
            header = 8 + struct.unpack("<Q", content[:8])[0]
            for _ in range(chance.randint(1, 6)):
                content[chance.randrange(header)] = chance.randrange(256)
            path.write_bytes(content)
            try:
                action(trained)
            except UserError as error:
                assert "\n" not in str(error)

    @pytest.mark.parametrize("length", [2**63, 2**64 - 1, 10**12])
    def test_a_header_that_claims_to_be_huge(self, length: int, trained: RunFolder) -> None:
        path = trained.checkpoint(30).weights_path
        path.write_bytes(struct.pack("<Q", length) + b"{}")
        refused(lambda: load(trained))

    @pytest.mark.parametrize("file", ["weights", "state"])
    def test_missing(self, file: str, trained: RunFolder) -> None:
        (trained.checkpoint(30).folder / f"{file}.safetensors").unlink()
        action = load if file == "weights" else restore_at
        assert "is missing" in refused(lambda: action(trained))

    def test_a_folder_in_its_place(self, trained: RunFolder) -> None:
        path = trained.checkpoint(30).weights_path
        path.unlink()
        path.mkdir()
        refused(lambda: load(trained))


class TestForeignWeights:
    def test_of_another_model(self, trained: RunFolder) -> None:
        change_weights(trained, lambda t: (t.clear(), t.update(a=torch.zeros(3))))
        message = refused(lambda: load(trained))
        assert "holds 3 parameters" in message
        assert f"need {trained.info().parameters:,}" in message

    def test_as_many_parameters_by_other_names(self, trained: RunFolder) -> None:
        count = trained.info().parameters
        change_weights(trained, lambda t: (t.clear(), t.update(a=torch.zeros(count))))
        assert "'" in refused(lambda: load(trained))

    @pytest.mark.parametrize(
        "change",
        [
            lambda tensors: tensors.popitem(),
            lambda tensors: tensors.update(extra=torch.zeros(1)),
            lambda tensors: tensors.update(extra=torch.zeros(0)),
            lambda tensors: tensors.update(
                {"embedding.weight": tensors["embedding.weight"].T.contiguous()}
            ),
            lambda tensors: tensors.update({n: t.flatten() for n, t in tensors.items()}),
            lambda tensors: tensors.update({n: t.to(torch.int32) for n, t in tensors.items()}),
            lambda tensors: tensors.update({n: t.to(torch.bool) for n, t in tensors.items()}),
            lambda tensors: tensors.update({n: t.to(torch.complex64) for n, t in tensors.items()}),
            lambda tensors: tensors.update(
                {n: t.to(torch.float8_e4m3fn) for n, t in tensors.items()}
            ),
            lambda tensors: tensors.clear(),
        ],
        ids=[
            "lacking",
            "extra",
            "empty",
            "transposed",
            "flat",
            "integers",
            "booleans",
            "complex",
            "float8",
            "none",
        ],
    )
    def test_that_do_not_fit(
        self, change: Callable[[dict[str, Tensor]], object], trained: RunFolder
    ) -> None:
        change_weights(trained, change)
        message = refused(lambda: load(trained))
        assert str(trained.checkpoint(30).weights_path) in message
        refused(lambda: restore_at(trained))

    @pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
    def test_other_precisions_are_no_reason_to_refuse(
        self, kind: torch.dtype, trained: RunFolder
    ) -> None:
        wanted = load(trained).embedding.weight.to(kind).float()
        change_weights(trained, lambda t: t.update({n: v.to(kind) for n, v in t.items()}))
        model = load(trained)
        assert {p.dtype for p in model.parameters()} == {torch.float32}
        assert torch.equal(model.embedding.weight, wanted)


class TestNotFinite:
    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    def test_weights_are_refused(self, value: float, trained: RunFolder) -> None:
        change_weights(trained, lambda t: t["embedding.weight"][3].fill_(value))
        assert "NaN or infinite (embedding.weight)" in refused(lambda: load(trained))
        assert "NaN or infinite" in refused(lambda: restore_at(trained))

    def test_weights_whose_sum_overflows_are_not(self, trained: RunFolder) -> None:
        change_weights(trained, lambda t: t["embedding.weight"].fill_(3e38))
        load(trained)

    def test_no_command_writes_text_from_them(self, trained: RunFolder, cli: CommandLine) -> None:
        change_weights(trained, lambda t: t["embedding.weight"].fill_(math.nan))
        for command in ("generate", "eval"):
            outcome = cli(command, "alpha@30")
            assert (outcome.code, outcome.out) == (2, "")
            assert outcome.err.count("\n") == 1 and "NaN or infinite" in outcome.err


class TestDigests:
    @pytest.mark.parametrize("seed", range(8))
    @pytest.mark.parametrize("file", ["weights", "state"])
    def test_one_flipped_bit_is_noticed(self, file: str, seed: int, trained: RunFolder) -> None:
        path = trained.checkpoint(30).folder / f"{file}.safetensors"
        content = bytearray(path.read_bytes())
        header = 8 + struct.unpack("<Q", content[:8])[0]
        chance = random.Random(seed)
        content[chance.randrange(header, len(content))] ^= 1 << chance.randrange(8)
        path.write_bytes(content)
        action = load if file == "weights" else restore_at
        message = refused(lambda: action(trained))
        assert str(path) in message and "use another checkpoint" in message
        load_model(trained.checkpoint(20), CPU)

    def test_they_are_those_of_the_files(self, trained: RunFolder) -> None:
        for checkpoint in trained.checkpoints():
            for path, told in (
                (checkpoint.weights_path, checkpoint.info.weights_sha256),
                (checkpoint.state_path, checkpoint.info.state_sha256),
            ):
                assert hashlib.sha256(path.read_bytes()).hexdigest() == told

    def test_a_checkpoint_of_an_older_version_has_none_and_loads(self, trained: RunFolder) -> None:
        wanted = load(trained).embedding.weight
        forget_digests(trained.checkpoint(30))
        forget_tokenizer(trained)
        assert torch.equal(load(trained).embedding.weight, wanted)
        restore_at(trained)


class TestForeignState:
    def test_with_a_tensor_missing(self, trained: RunFolder) -> None:
        for key in ("embedding.weight.exp_avg_sq", "embedding.weight.step"):
            change_state(trained, lambda tensors, key=key: tensors.pop(f"optimizer.0.{key}"))
            assert "training.optimizer" in refused(lambda: restore_at(trained))

    @pytest.mark.parametrize(
        "change",
        [
            lambda t: t.pop("rng.cpu"),
            lambda t: t.update({"rng.cpu": torch.zeros(3, dtype=torch.uint8)}),
            lambda t: t.update({"rng.cpu": torch.zeros(5056)}),
            lambda t: t.update({"optimizer.0.nothing.exp_avg": torch.zeros(2)}),
            lambda t: t.update({"optimizer.0.embedding.weight.evil": torch.zeros(62, 16)}),
            lambda t: t.update({"optimizer.0.embedding.weight.exp_avg": torch.zeros(3)}),
            lambda t: t.update({"optimizer.0.embedding.weight.exp_avg": torch.zeros(())}),
            lambda t: t.update({"optimizer.0.embedding.weight.step": torch.zeros(62, 16)}),
            lambda t: t.update({"raw.embedding.weight": torch.zeros(62, 16)}),
            lambda t: t.update({k: v.int() for k, v in t.items() if k.endswith("exp_avg")}),
            lambda t: [t.pop(key) for key in list(t) if key.endswith("exp_avg_sq")],
            lambda t: t.update({k: v.double() for k, v in t.items() if k.endswith("exp_avg")}),
            lambda t: t.update({k: v.half() for k, v in t.items() if k.endswith("step")}),
        ],
        ids=[
            "no-generator",
            "short-generator",
            "float-generator",
            "unknown-parameter",
            "unknown-slot",
            "shape",
            "scalar",
            "step-shape",
            "averages",
            "integers",
            "no-squares",
            "doubles",
            "half-steps",
        ],
    )
    def test_that_does_not_fit(
        self, change: Callable[[dict[str, Tensor]], object], trained: RunFolder
    ) -> None:
        change_state(trained, change)
        assert "state.safetensors" in refused(lambda: restore_at(trained))

    @pytest.mark.parametrize(
        "progress",
        [
            {"step": "30"},
            {"step": 20},
            {"batches": 1.5},
            {"elapsed_seconds": "long"},
            {"val_loss": [1]},
            {"unheard_of": 1},
            {"rate_scale": None},
            {"batches": 2**70},
            {"batches": -1},
            {"extra_steps": -(10**9)},
            {"evaluations_without_gain": -1},
            {"elapsed_seconds": float("inf")},
            {"elapsed_seconds": -1.0},
            {"extra_minutes": float("nan")},
            {"rate_scale": float("inf")},
            {"best_loss": float("nan")},
            {"rolled_back_to": 2**60},
        ],
        ids=str,
    )
    def test_progress_that_cannot_be(self, progress: dict[str, Any], trained: RunFolder) -> None:
        change_state(trained, **progress)
        assert "state.safetensors" in refused(lambda: restore_at(trained))

    @pytest.mark.parametrize(
        "metadata",
        [
            {},
            {"progress": "{", "ema_updates": "0"},
            {"progress": "[]", "ema_updates": "0"},
            {"progress": "[" * 100_000, "ema_updates": "0"},
            {"progress": '{"step": 30}', "ema_updates": "many"},
            {"progress": '{"step": 30}', "ema_updates": "-11"},
            {"progress": '{"step": 30}', "ema_updates": "9" * 5000},
            {"progress": '{"step": 30}'},
        ],
        ids=["none", "cut", "list", "nested", "words", "negative", "endless", "no-updates"],
    )
    def test_metadata_that_is_garbage(self, metadata: dict[str, str], trained: RunFolder) -> None:
        change_state(trained, metadata=metadata)
        assert "state.safetensors" in refused(lambda: restore_at(trained))


class _Bomb:
    """Something whose unpickling makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, ...]]:
        return os.mkdir, (str(self.path),)


class TestHostile:
    @pytest.mark.parametrize("archive", [False, True], ids=["pickle", "torch.save"])
    @pytest.mark.parametrize("file", ["weights.safetensors", "state.safetensors"])
    def test_a_pickle_is_refused_and_not_executed(
        self, file: str, archive: bool, trained: RunFolder, tmp_path: Path
    ) -> None:
        path, proof = trained.checkpoint(30).folder / file, tmp_path / "executed"
        if archive:
            torch.save(_Bomb(proof), path)
        else:
            path.write_bytes(pickle.dumps(_Bomb(proof)))
        action = load if file.startswith("weights") else restore_at
        assert "not a checkpoint" in refused(lambda: action(trained))
        assert not proof.exists()
        # The bomb is a real one.
        unpickle: Callable[[], object] = (
            (lambda: torch.load(io.BytesIO(path.read_bytes()), weights_only=False))
            if archive
            else (lambda: pickle.loads(path.read_bytes()))
        )
        unpickle()
        assert proof.exists()

    def test_yaml_tags_are_not_obeyed(self, trained: RunFolder, tmp_path: Path) -> None:
        proof = tmp_path / "executed"
        (trained.path / "config.yaml").write_text(
            f"model: !!python/object/apply:os.mkdir ['{proof}']\n"
        )
        with pytest.raises(UserError):
            load(trained)
        assert not proof.exists()

    @pytest.mark.parametrize(
        "config",
        [
            "model: {d_model: 16384, n_layers: 256, n_heads: 64, d_ff: 65536}",
            "model: {d_model: 16384, n_heads: 2, positions: learned, max_seq_len: 131072}",
            "model: {d_model: 16, n_heads: 2, n_layers: 256, max_seq_len: 131072}",
        ],
    )
    def test_a_huge_config_allocates_nothing(self, config: str, trained: RunFolder) -> None:
        (trained.path / "config.yaml").write_text(config)
        tracemalloc.start()
        before = _peak_memory_bytes()
        message = refused(lambda: load(trained))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert "the run folder mixes files of different runs" in message
        assert peak < 10e6
        assert _peak_memory_bytes() - before < 100e6

    def test_a_huge_config_is_refused_on_resume_too(
        self, trained: RunFolder, tmp_path: Path
    ) -> None:
        text = (trained.path / "config.yaml").read_text()
        text = text.replace("d_model: 16\n", "d_model: 16384\n").replace("d_ff: 32", "d_ff: 65536")
        (trained.path / "config.yaml").write_text(text.replace("n_layers: 1\n", "n_layers: 256\n"))
        before = fingerprints(trained.path)
        process = CliProcess(
            ["train", "--no-ui", "--resume=alpha"], tmp_path / "output", memory_bytes=4 * 10**9
        )
        outcome = process.wait()
        assert outcome.code == 2, outcome
        assert outcome.err.startswith("error: ")
        assert outcome.err.count("\n") == 1
        assert fingerprints(trained.path) == before


def _peak_memory_bytes() -> int:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class TestGarbageBeside:
    GARBAGE = (
        b"",
        b"{",
        b"null",
        b"[]",
        b"7",
        b'"text"',
        b"\xff\xfe\x00",
        b"[" * 100_000,
        b"NaN",
        b'{"format": true}',
        b'{"format": "1"}',
        b'{"format": 1}',
        b'{"last": "thirty"}',
        b'{"type": "char", "characters": "ab"}',
        b'{"type": "char", "characters": ["b", "a"]}',
        b'{"type": "bpe"}',
    )

    @pytest.mark.parametrize("content", GARBAGE, ids=lambda content: content[:44].decode("latin-1"))
    @pytest.mark.parametrize("file", ["step-00000030/info.json", "tokenizer.json"])
    def test_in_json(self, file: str, content: bytes, trained: RunFolder) -> None:
        (trained.path / file).write_bytes(content)
        assert Path(file).name in refused(lambda: load_model(trained.checkpoint(30), CPU))

    @pytest.mark.parametrize(
        "content", [b"\xff\xfe", b"model: [", b"- 1", b"&a [*a]", b"a: &a [*a, *a]"]
    )
    def test_in_the_config(self, content: bytes, trained: RunFolder) -> None:
        (trained.path / "config.yaml").write_bytes(content)
        assert "config.yaml" in refused(lambda: load(trained))

    def test_another_runs_tokenizer(self, trained: RunFolder) -> None:
        path = trained.path / "tokenizer.json"
        path.write_text(json.dumps({"type": "char", "characters": ["a", "b"]}))
        assert "comes from another run" in refused(lambda: load(trained))

    def test_another_runs_tokenizer_in_an_older_run(self, trained: RunFolder) -> None:
        forget_tokenizer(trained)
        path = trained.path / "tokenizer.json"
        path.write_text(json.dumps({"type": "char", "characters": ["a", "b"]}))
        assert "mixes files of different runs" in refused(lambda: load(trained))

    def test_a_swapped_character_in_the_tokenizer(self, trained: RunFolder) -> None:
        path = trained.path / "tokenizer.json"
        record = json.loads(path.read_text())
        record["characters"][-1] = "~"
        path.write_text(json.dumps(record))
        assert "was changed" in refused(lambda: load(trained))
        forget_tokenizer(trained)
        load(trained)


class TestCrashLeftovers:
    def test_a_set_aside_checkpoint_can_be_used_and_comes_back(self, trained: RunFolder) -> None:
        wanted = load(trained).embedding.weight
        trained.set_aside(30)
        assert torch.equal(load(trained).embedding.weight, wanted)
        trained.sweep()
        assert trained.steps() == [10, 20, 30]
        assert torch.equal(load(trained).embedding.weight, wanted)

    def test_it_does_not_come_back_beside_its_newer_version(self, trained: RunFolder) -> None:
        aside = trained.set_aside(30)
        shutil.copytree(aside, trained.checkpoint_folder(30))
        (trained.checkpoint_folder(30) / "newer").touch()
        trained.sweep()
        assert not aside.exists()
        assert (trained.checkpoint_folder(30) / "newer").exists()

    def test_what_was_pruned_does_not_come_back(self, trained: RunFolder) -> None:
        trained.set_aside(10)
        trained.sweep()
        assert trained.steps() == [20, 30]

    def test_without_an_index_nothing_is_lost(self, trained: RunFolder) -> None:
        trained.set_aside(30)
        (trained.path / "index.json").write_text("{")
        trained.sweep()
        assert trained.steps() == [10, 20, 30]

    def test_unfinished_folders_and_files_go(self, trained: RunFolder) -> None:
        before = fingerprints(trained.path)
        (trained.path / ".step-00000040.abc").mkdir()
        (trained.path / ".step-00000040.abc" / "weights.safetensors").write_text("half")
        (trained.path / ".index.json.xyz").write_text("{")
        assert trained.steps() == [10, 20, 30]
        trained.sweep()
        assert fingerprints(trained.path) == before
