"""What a student learns from its teachers, how that is kept, and what becomes of the run."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from real_cli import TINY, CommandLine
from training_runs import (
    make_config,
    on_both_backends,
    post_at,
    read_lines,
    run_session,
    what_was_learned,
)

from shakespeare_tui.config.schema import ModelConfig, TrainingConfig
from shakespeare_tui.errors import CancelledError, UserError
from shakespeare_tui.models.numpy_gpt import GPT
from shakespeare_tui.models.transformer import Transformer
from shakespeare_tui.runs.commands import Stop
from shakespeare_tui.runs.folder import RunFolder, find_checkpoint
from shakespeare_tui.training.distillation import (
    Probabilities,
    foretold,
    open_soft_targets,
    teacher_digest,
)
from shakespeare_tui.training.numpy_state import NumpyTrainState
from shakespeare_tui.training.request import TrainingRequest
from shakespeare_tui.training.session import open_session
from shakespeare_tui.training.torch_state import TorchTrainState

VOCAB = 11
SHAPE: dict[str, Any] = {"d_model": 16, "n_heads": 2, "n_layers": 2, "d_ff": 24}


def make_teacher(seed: int, context: int) -> Transformer:
    config, generator = ModelConfig(**SHAPE, max_seq_len=8), torch.Generator().manual_seed(seed)
    model = Transformer(config, VOCAB, generator, context=context).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter *= 20
    return model


TEXT = np.random.default_rng(1).integers(0, VOCAB, 20_000).astype(np.uint8)


# --- what teachers foretell -----------------------------------------------------------------------


@pytest.mark.parametrize("context", [8, 7, 2, 1])
def test_every_token_is_foretold_with_half_a_context_before_it(context: int) -> None:
    model, hop = make_teacher(1, context), max(1, context // 2)
    found = np.concatenate([rows for _, rows in foretold(model, TEXT, 0, 61)])
    for place in range(61):
        begin = max(0, place - place % hop - (context - hop))
        seen = TEXT[begin : place + 1]
        assert len(seen) >= min(place + 1, context / 2) and len(seen) <= context
        with torch.no_grad():
            logits = model(torch.from_numpy(seen[None].astype(np.int64)))[0, -1]
        np.testing.assert_allclose(found[place], logits.softmax(-1), atol=2e-6)
    # A text is read in pieces, of which none needs another.
    parts = [*foretold(model, TEXT, 32, 61)]
    assert parts[0][0] == 32
    if 32 % hop == 0:
        np.testing.assert_allclose(np.concatenate([p for _, p in parts]), found[32:], atol=2e-6)


class Kept:
    """Two teachers' probabilities of a text in a cache of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.models = [make_teacher(1, 8), make_teacher(2, 6)]
        self.loaded = 0

    def open(self, **options: Any) -> Probabilities:
        found = iter(self.models)

        def load(checkpoint: Any) -> Transformer:
            self.loaded += 1
            return next(found)

        # Any checkpoints will do that are what they are called.
        root = self.folder.parent
        teachers = {
            f"t@{step}": teacher_digest(find_checkpoint(f"t@{step}", root)) for step in (1, 2)
        }
        return open_soft_targets(teachers, root, TEXT, VOCAB, self.folder, load, **options)


@pytest.fixture
def kept(cli: CommandLine, runs_root: Path) -> Kept:
    options = ["--max-steps=2", "--name=t", "--set=checkpoints.every=1"]
    assert cli("train", "--no-ui", *TINY, *options).code == 0
    return Kept(runs_root / ".soft")


def test_the_mean_is_computed_once_and_kept_in_sixteen_bits(kept: Kept) -> None:
    told: list[tuple[int, int]] = []
    table = kept.open(report=lambda *bytes_: told.append(bytes_))
    assert (table.shape, table.dtype) == ((len(TEXT) - 1, VOCAB), np.float16)
    means = sum(
        np.concatenate([rows for _, rows in foretold(model, TEXT, 0, 500)]) for model in kept.models
    )
    np.testing.assert_allclose(table[:500], means / 2, rtol=2e-3, atol=1e-7)
    assert told == sorted(told) and told[-1] == (table.nbytes, table.nbytes)
    assert kept.loaded == 2
    assert np.array_equal(kept.open(), table)
    assert kept.loaded == 2


def test_an_interrupt_keeps_what_was_read(kept: Kept) -> None:
    whole = np.array(kept.open())
    (path,) = (each for each in kept.folder.iterdir() if "-" in each.name)
    path.unlink()
    done: list[int] = []
    with pytest.raises(CancelledError):
        kept.open(
            report=lambda at, of: done.append(at), cancelled=lambda: max(done, default=0) > 4e5
        )
    assert np.array_equal(kept.open(report=lambda at, of: done.append(-at)), whole)
    assert min(map(abs, filter(lambda at: at < 0, done))) > 2 * VOCAB * 16_000
    # What was damaged since is read anew.
    (path,) = (each for each in kept.folder.iterdir() if "-" in each.name)
    path.write_bytes(b"\1" + path.read_bytes()[1:])
    assert np.array_equal(kept.open(), whole)


def test_what_would_be_too_large_is_refused(kept: Kept) -> None:
    with pytest.raises(UserError, match=r"19,999 tokens with 11 .* at most 100.0 kB are kept"):
        kept.open(most_bytes=100_000)
    assert not kept.folder.exists()


# --- gradients ------------------------------------------------------------------------------------


def drawn_targets() -> tuple[NDArray[np.int64], NDArray[np.float16]]:
    generator = np.random.default_rng(5)
    windows = generator.integers(0, VOCAB, (4, 9))
    drawn = generator.gamma(0.3, size=(4, 8, VOCAB))
    return windows, (drawn / drawn.sum(-1, keepdims=True)).astype(np.float16)


@pytest.mark.parametrize("weight", [0.3, 1.0])
@pytest.mark.parametrize("backend", ["torch", "numpy"])
def test_a_step_follows_the_gradient_of_both_losses(backend: str, weight: float) -> None:
    """Plain gradient descent shows it: weights move by the rate times the gradient."""
    config = ModelConfig(**SHAPE, max_seq_len=8)
    training = TrainingConfig(
        **{"optimizer": "sgd", "learning_rate": 1.0, "momentum": 0, "weight_decay": 0},
        grad_clip=0,
        distill_weight=weight,
        grad_accumulation=2,
    )
    ours = GPT(config, VOCAB, np.random.default_rng(1))
    before = {name: torch.from_numpy(weight.copy()) for name, weight in ours.weights.items()}
    plain = Transformer(config, VOCAB).train()
    plain.load_state_dict(before, strict=False)
    state: NumpyTrainState | TorchTrainState
    if backend == "numpy":
        state = NumpyTrainState(ours, training, np.random.default_rng(0))
    else:
        model = Transformer(config, VOCAB).train()
        model.load_state_dict(before, strict=False)
        state = TorchTrainState(model, training, torch.device("cpu"))
    windows, soft = drawn_targets()
    told = state.step([windows[:2], windows[2:]], 1.0, soft_targets=[soft[:2], soft[2:]])

    batch, p = torch.from_numpy(windows), torch.from_numpy(soft).double()
    p = p / p.sum(-1, keepdim=True)
    plain = plain.double()
    q = plain(batch[:, :-1]).log_softmax(-1)
    of_labels = F.nll_loss(q.flatten(0, 1), batch[:, 1:].flatten())
    divergence = F.kl_div(q, p, reduction="sum") / batch[:, 1:].numel()
    named = dict(plain.named_parameters())
    whole = (1 - weight) * of_labels + weight * divergence
    gradients = dict(zip(named, torch.autograd.grad(whole, [*named.values()]), strict=True))
    assert told.loss == pytest.approx(of_labels.item(), rel=1e-6)
    assert told.grad_norm == pytest.approx(
        torch.stack([g.norm() for g in gradients.values()]).norm().item(), rel=1e-4
    )
    after = state.arrays().whole
    for name, gradient in gradients.items():
        moved = before[name] - torch.from_numpy(after[name])
        scale = float(gradient.abs().max())
        torch.testing.assert_close(moved, gradient.float(), rtol=1e-3, atol=1e-4 * scale + 2e-7)


# --- runs -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder of runs with two teachers of different shapes, and its cache."""
    root = tmp_path_factory.mktemp("taught")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHAKESPEARE_TUI_CACHE", str(root / "cache"))
        for name, changes in (
            ("big", {"model__d_model": 32}),
            ("small", {"model__max_seq_len": 10}),
        ):
            config = make_config(**changes, training__max_steps=8, sampling__every=0)
            with open_session(TrainingRequest(root=root, config=config, name=name)) as session:
                run_session(session)
    yield root


@pytest.fixture
def root(taught: Path, tmp_path: Path) -> Path:
    shutil.copytree(taught / "cache", tmp_path / "cache")
    for name in ("big", "small"):
        shutil.copytree(taught / name, tmp_path / "runs" / name)
    return tmp_path / "runs"


def distil(root: Path, name: str, *, stop: int | None = None, **changes: Any) -> RunFolder:
    request = TrainingRequest(
        root=root, config=make_config(**changes), name=name, teachers=("big", "small@8")
    )
    with open_session(request) as session:
        run_session(session, post_at(stop, Stop()) if stop else None)
        return session.run


def go_on(root: Path, name: str) -> None:
    with open_session(TrainingRequest(root=root, resume=name)) as session:
        run_session(session)


@on_both_backends
def test_resume_is_exact_with_the_teachers_or_with_what_is_kept_of_them(
    root: Path, backend: str, tmp_path: Path
) -> None:
    settings = {
        "training__backend": backend,
        "model__dropout": 0.1,
        "training__grad_accumulation": 2,
    }
    whole = distil(root, "whole", **settings)
    again = distil(root, "again", stop=13, **settings)
    shutil.rmtree(tmp_path / "cache" / "soft_targets")  # the teachers are read again
    go_on(root, "again")
    assert what_was_learned(again) == what_was_learned(whole)
    last = distil(root, "last", stop=13, **settings)
    shutil.rmtree(root / "big")  # the cache knows all that is needed
    go_on(root, "last")
    assert what_was_learned(last) == what_was_learned(whole)
    with open_session(TrainingRequest(root=root, config=make_config(**settings))) as session:
        alone = run_session(session).run
    mine, others = ([line for line in read_lines(r) if "grad_norm" in line] for r in (whole, alone))
    # The first step's loss is that of the same weights on the same text, whoever teaches.
    assert mine[0]["loss"] == pytest.approx(others[0]["loss"], rel=1e-6)
    assert mine[0]["grad_norm"] != pytest.approx(others[0]["grad_norm"], rel=1e-4)


def test_teachers_that_are_gone_or_changed_are_named(root: Path, tmp_path: Path) -> None:
    distil(root, "run", stop=9)
    shutil.rmtree(tmp_path / "cache" / "soft_targets")
    checkpoint = find_checkpoint("small@8", root)
    info = json.loads((checkpoint.folder / "info.json").read_text())
    (checkpoint.folder / "info.json").write_text(json.dumps(info | {"weights_sha256": "0" * 64}))
    with pytest.raises(UserError, match="the teacher small@8 has changed since the run began"):
        go_on(root, "run")
    shutil.rmtree(root / "small")
    with pytest.raises(
        UserError, match="the teacher small@8 cannot be used any more.*no run 'small'"
    ):
        go_on(root, "run")


def test_a_student_of_the_command_line(cli: CommandLine, root: Path) -> None:
    (root / "big").rename(root / "teacher")
    outcome = cli("train", "--no-ui", "--distill", "teacher", "small", "--max-steps=3")
    assert outcome.code == 0, outcome.err
    run = RunFolder(root / "distilled-1")
    assert run.config().model == RunFolder(root / "teacher").config().model
    assert [*(run.info().teachers or {})] == ["teacher@8", "small@8"]
    record = json.loads(cli("runs", "show", "distilled-1", "--json").out)
    assert (record["teachers"], record["parents"]) == (["teacher@8", "small@8"], [])
    assert json.loads(cli("runs", "show", "small", "--json").out)["students"] == ["distilled-1"]
    assert "taught by" in cli("runs", "show", "distilled-1").out
    assert "teachers" in outcome.err and "teacher@8, small@8" in outcome.err
    for arguments, said in (
        (("--resume", "distilled-1", "--distill", "small"), "keeps the run's own teachers"),
        (("--distill", "small", "small@8"), "small@8 is named twice"),
        (("--distill", "nobody"), "there is no run 'nobody'"),
        (("--distill", "small", "--corpus=tiny_shakespeare"), "was trained on another text"),
        (("--distill", "small", "--set=data.val_fraction=0.2"), "has learned another part"),
        (("--distill", "small", "--set=data.windows=streamed"), "data.windows streamed"),
    ):
        told = cli("train", "--no-ui", "--max-steps=1", *arguments)
        assert (told.code, told.out) == (2, ""), arguments
        assert said in told.err, told.err


def test_teachers_have_one_tokenizer(cli: CommandLine, root: Path) -> None:
    pairs = ["--set=data.tokenizer=bpe", "--max-steps=1", "--name=pairs"]
    assert cli("train", "--no-ui", *TINY, *pairs).code == 0
    told = cli("train", "--no-ui", "--distill", "small", "pairs")
    assert (told.code, told.err.count("\n")) == (2, 1)
    assert "the teacher pairs@1 has another tokenizer" in told.err
