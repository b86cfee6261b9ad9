"""The model with its optimisers: one training step, and averaged weights."""

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from shakespeare_tui.config.schema import TrainingConfig
from shakespeare_tui.models.transformer import Transformer
from shakespeare_tui.training.muon import Muon


@dataclass(frozen=True)
class StepResult:
    """Loss in nats per token, gradient norm before clipping, and whether weights were changed."""

    loss: float
    grad_norm: float
    applied: bool


class SGDW(torch.optim.SGD):
    """Stochastic gradient descent with decoupled weight decay (SGDW, arXiv:1711.05101).

    Args:
        groups: Groups of parameters, each with its ``weight_decay``.
        lr: Learning rate.
        momentum: Decay of the momentum, which the weight decay does not enter.
    """

    def __init__(self, groups: list[dict[str, Any]], lr: float, momentum: float) -> None:
        # What SGD itself calls weight decay is L2 regularisation.
        decays = [group["weight_decay"] for group in groups]
        super().__init__([group | {"weight_decay": 0.0} for group in groups], lr, momentum)
        for group, decay in zip(self.param_groups, decays, strict=True):
            group["decoupled_decay"] = decay

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Apply one update from the gradients in place."""
        for group in self.param_groups:
            if group["decoupled_decay"]:
                torch._foreach_mul_(group["params"], 1 - group["lr"] * group["decoupled_decay"])
        super().step()


def make_optimizers(
    model: Transformer,
    training: TrainingConfig,
    device: torch.device,
    *,
    has_coupled_decay: bool = False,
) -> list[torch.optim.Optimizer]:
    """The optimisers of a config; every group remembers its ``peak_lr``.

    Matrices decay, vectors (norms, biases) do not. With Muon, the blocks' matrices go to Muon, and
    embeddings, output layer and vectors to AdamW.
    """
    named = dict(model.named_parameters())
    hidden = {n: p for n, p in named.items() if p.dim() == 2 and n.startswith("blocks.")}
    by_muon = hidden if training.optimizer == "muon" else {}
    rest = {name: p for name, p in named.items() if name not in by_muon}
    groups = [
        {
            "params": [p for p in rest.values() if p.dim() >= 2],
            "weight_decay": training.weight_decay,
        },
        {"params": [p for p in rest.values() if p.dim() < 2], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    optimizers = [_make_base_optimizer(groups, training, device, has_coupled_decay)]
    if by_muon:
        for name, parameter in by_muon.items():
            if name.endswith("qkv.weight"):
                parameter.muon_parts = 3  # type: ignore[attr-defined]
        optimizers.append(
            Muon(
                by_muon.values(),
                lr=training.muon_learning_rate,
                momentum=training.muon_momentum,
                steps=training.muon_steps,
                weight_decay=training.weight_decay,
            )
        )
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak_lr"] = group["lr"]
    return optimizers


def _make_base_optimizer(
    groups: list[dict[str, Any]],
    training: TrainingConfig,
    device: torch.device,
    has_coupled_decay: bool,
) -> torch.optim.Optimizer:
    rate = training.learning_rate
    if training.optimizer == "sgd":
        sgd = torch.optim.SGD if has_coupled_decay else SGDW
        return sgd(groups, lr=rate, momentum=training.momentum)
    is_coupled = training.optimizer == "adam" and has_coupled_decay
    adam = torch.optim.Adam if is_coupled else torch.optim.AdamW
    betas = (training.beta1, training.beta2)
    return adam(groups, lr=rate, betas=betas, fused=device.type in ("cpu", "cuda"))


class Learner:
    """Owns a model's training: gradients, clipping, optimisers, averaged weights.

    Args:
        model: On its device, in training mode.
        training: The config's section.
        device: The model's device.
        precision: Type of matrix products under autocast.
        has_coupled_decay: Let adam and sgd decay weights as runs of format 1 do.

    Attributes:
        is_whole: False while an update has changed some of the weights and not yet all.
    """

    def __init__(
        self,
        model: Transformer,
        training: TrainingConfig,
        device: torch.device,
        precision: torch.dtype,
        *,
        has_coupled_decay: bool = False,
    ) -> None:
        self.model = model
        self.device = device
        self.is_whole = True
        self.optimizers = make_optimizers(
            model, training, device, has_coupled_decay=has_coupled_decay
        )
        self.precision = precision
        self._grad_clip = training.grad_clip or math.inf
        self._parameters: list[Tensor] = list(model.parameters())
        self._ema_decay = training.ema_decay
        self.ema = [p.detach().clone() for p in self._parameters] if self._ema_decay else []
        self._ema_updates = 0

    @property
    def precision(self) -> torch.dtype:
        """Type of matrix products: of the passes under autocast, and of Muon's iteration."""
        return self._precision

    @precision.setter
    def precision(self, precision: torch.dtype) -> None:
        self._precision = precision
        for optimizer in self.optimizers:
            if isinstance(optimizer, Muon):
                optimizer.dtype = precision

    def autocast(self) -> torch.autocast:
        """The context of forward passes in the chosen precision."""
        return torch.autocast(
            self.device.type, dtype=self.precision, enabled=self.precision != torch.float32
        )

    def step(self, windows: Sequence[Tensor], rate_factor: float) -> StepResult:
        """Learn from windows of shape [B, T + 1], one a micro-batch.

        A step whose loss or gradient is not finite is not applied. Reading both numbers is the
        step's only synchronisation, and deciding this is what needs it.

        Args:
            windows: Inputs and targets in one, on the device.
            rate_factor: Multiplier of every group's peak rate.
        """
        total = torch.zeros((), device=self.device)
        for window in windows:
            with self.autocast():
                loss = self.model.loss(window[:, :-1], window[:, 1:]) / len(windows)
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        norm = nn.utils.clip_grad_norm_(self._parameters, self._grad_clip)
        loss_value, norm_value = torch.stack((total, norm)).tolist()
        applied = math.isfinite(loss_value) and math.isfinite(norm_value)
        if applied:
            self.is_whole = False
            for optimizer in self.optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = group["peak_lr"] * rate_factor
                optimizer.step()
            self._average()
            self.is_whole = True
        for parameter in self._parameters:
            parameter.grad = None
        return StepResult(loss_value, norm_value, applied)

    def is_finite(self) -> bool:
        """Whether every weight is a number."""
        return all(bool(parameter.isfinite().all()) for parameter in self._parameters)

    def gradient_pass(self, window: Tensor, dtype: torch.dtype) -> None:
        """A forward and backward pass that changes nothing, to measure its time."""
        with torch.autocast(self.device.type, dtype=dtype, enabled=dtype != torch.float32):
            loss = self.model.loss(window[:, :-1], window[:, 1:])
        torch.autograd.grad(loss, self._parameters)

    @torch.no_grad()
    def _average(self) -> None:
        if not self.ema:
            return
        self._ema_updates += 1
        # Early on a shorter memory, so that the random start does not linger.
        decay = min(self._ema_decay, (1 + self._ema_updates) / (10 + self._ema_updates))
        torch._foreach_lerp_(self.ema, self._parameters, 1 - decay)

    @property
    def ema_updates(self) -> int:
        """Updates that the average has seen."""
        return self._ema_updates

    @ema_updates.setter
    def ema_updates(self, value: int) -> None:
        self._ema_updates = value

    @contextlib.contextmanager
    def averaged(self) -> Iterator[Transformer]:
        """The model with its averaged weights in place; as it is where none are kept."""
        if not self.ema:
            yield self.model
            return
        own = [parameter.data for parameter in self._parameters]
        for parameter, average in zip(self._parameters, self.ema, strict=True):
            parameter.data = average
        try:
            yield self.model
        finally:
            for parameter, data in zip(self._parameters, own, strict=True):
                parameter.data = data
