"""What does not fit into memory is refused, what is tight asked, and loads can be cancelled."""

import threading
from pathlib import Path

import pytest
import torch
from trained_run import trained
from training_runs import make_config

from shakespeare_tui.config.estimate.figures import estimate_memory
from shakespeare_tui.config.load import load_config
from shakespeare_tui.decoding.factory import make_decoder
from shakespeare_tui.errors import CancelledError, UserError
from shakespeare_tui.models.transformer import Transformer
from shakespeare_tui.runs.folder import RunFolder
from shakespeare_tui.training.checkpoints import check_room
from shakespeare_tui.training.request import TrainingRequest
from shakespeare_tui.training.session import Hooks, check_memory, open_session
from shakespeare_tui.training.torch_state import load_model

__all__ = ["trained"]

CPU = torch.device("cpu")
VOCAB = 65


class CancelAfter(threading.Event):
    """Is set from the given poll on."""

    def __init__(self, polls: int) -> None:
        super().__init__()
        self.left = polls

    def is_set(self) -> bool:
        self.left -= 1
        return self.left < 0


class TestMemory:
    config = load_config("base", ["training.precision=float32"])
    need = estimate_memory(config, VOCAB).total

    def check(self, available: int | None, answer: bool = True) -> list[str]:
        asked: list[str] = []

        def confirm(question: str) -> bool:
            asked.append(question)
            return answer

        check_memory(self.config, VOCAB, "cpu", available, Hooks(confirm=confirm))
        return asked

    def test_what_fits_is_not_asked(self) -> None:
        assert self.check(2 * self.need) == self.check(None) == []

    def test_what_does_not_fit_is_refused_with_what_it_takes(self) -> None:
        with pytest.raises(UserError) as caught:
            self.check(self.need - 1)
        words = ("weights", "gradients", "optimiser", "activations", "are free", "lower model.")
        assert all(word in str(caught.value) for word in words)

    def test_what_is_tight_is_asked(self) -> None:
        [question] = self.check(int(1.1 * self.need))
        assert "training takes about" in question and "are free" in question
        with pytest.raises(CancelledError):
            self.check(int(1.1 * self.need), answer=False)

    def test_a_giant_is_refused_before_anything_is_made(self, tmp_path: Path) -> None:
        config = make_config(model__d_model=16384, model__n_layers=250, model__n_heads=8)
        with (
            pytest.raises(UserError, match="training takes about"),
            open_session(TrainingRequest(config=config, root=tmp_path / "runs", name="giant")),
        ):
            pass
        assert not (tmp_path / "runs").exists()

    def test_a_checkpoint_that_does_not_fit_is_refused(self, trained: RunFolder) -> None:
        checkpoint = trained.checkpoint(30)
        size = checkpoint.weights_path.stat().st_size
        check_room(checkpoint, 3, 3 * size)
        check_room(checkpoint, 3, None)
        with pytest.raises(UserError, match="loading alpha@30 takes about .* are free"):
            check_room(checkpoint, 3, 3 * size - 1)


class TestCancelling:
    def test_a_new_run_at_every_poll(self, tmp_path: Path) -> None:
        config = make_config(training__precision="auto")
        for polls in range(1000):
            hooks = Hooks(cancelled=CancelAfter(polls))
            try:
                with open_session(TrainingRequest(config=config, root=tmp_path / "runs"), hooks):
                    break
            except CancelledError:
                assert not any((tmp_path / "runs").glob("*"))
        # Reading, encoding, each tensor, each n-gram order: many chances to leave.
        assert polls > 12

    def test_a_resumed_run_at_every_poll(self, trained: RunFolder) -> None:
        before = trained.index(), sorted(trained.steps())
        for polls in range(1000):
            hooks = Hooks(cancelled=CancelAfter(polls))
            try:
                with open_session(TrainingRequest(resume="alpha", root=trained.path.parent), hooks):
                    break
            except CancelledError:
                assert (trained.index(), sorted(trained.steps())) == before
                assert not trained.is_locked()
        assert polls > 12

    def test_a_checkpoint_at_every_poll(self, trained: RunFolder) -> None:
        checkpoint = trained.checkpoint(30)
        for polls in range(1000):
            try:
                model, _ = load_model(checkpoint, CPU, CancelAfter(polls).is_set)
                break
            except CancelledError:
                continue
        assert polls > 12
        with pytest.raises(CancelledError):
            make_decoder(model, 1, cancelled=lambda: True)

    def test_large_tensors_are_filled_in_pieces_and_come_out_the_same(self) -> None:
        config = make_config(model__d_model=64, model__n_heads=2).model
        seen = CancelAfter(10**6)
        model = Transformer(config, 70_000, torch.Generator().manual_seed(3), cancelled=seen.is_set)
        expected = torch.empty(70_000, 64).normal_(
            0.0, 0.02, generator=torch.Generator().manual_seed(3)
        )
        assert torch.equal(model.embedding.weight.data, expected)
        with pytest.raises(CancelledError):
            Transformer(config, 70_000, cancelled=CancelAfter(1).is_set)
