"""A training step as CUDA graphs: its thousand kernels are launched at once."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Batches = Sequence[Tensor]
Figures = tuple[Tensor, Tensor]
"""Loss and norm of the gradient, on the device."""


class StepGraph:
    """The gradients of a step and its update, captured once and replayed.

    To launch a kernel from Python takes a card's processor several times as long as most kernels of
    a small model run. A replay does the same kernels on the same addresses:
    https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs

    Args:
        gradients: Makes the gradients from micro-batches [B, T + 1] and soft targets [B, T, V].
        update: Applies them, given the norm. What changes from step to step, it reads from tensors.
        parameters: Those that learn; while a step is made, they have its gradients.
        batches: Of the shapes of all steps to come.
        soft_targets: Likewise.

    Raises:
        RuntimeError: Something in the step cannot be captured, or memory is full.
    """

    def __init__(
        self,
        gradients: Callable[[Batches, Batches], Figures],
        update: Callable[[Tensor], None],
        parameters: Sequence[Tensor],
        batches: Batches,
        soft_targets: Batches,
    ) -> None:
        self._parameters = parameters
        self._inputs = [tensor.clone() for tensor in (*batches, *soft_targets)]
        count = len(batches)
        self._gradients, self._update = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
        try:
            # Other threads may use the card meanwhile: a text may be written.
            with torch.cuda.graph(self._gradients, capture_error_mode="thread_local"):
                self._figures = gradients(self._inputs[:count], self._inputs[count:])
            pool = self._gradients.pool()
            with torch.cuda.graph(self._update, pool, capture_error_mode="thread_local"):
                update(self._figures[1])
            self._found = [parameter.grad for parameter in parameters]
        finally:
            for parameter in parameters:
                parameter.grad = None

    def fits(self, batches: Batches, soft_targets: Batches) -> bool:
        """Whether these are of the shapes that were captured."""
        tensors = (*batches, *soft_targets)
        return [t.shape for t in tensors] == [t.shape for t in self._inputs]

    def gradients(self, batches: Batches, soft_targets: Batches) -> Figures:
        """What ``gradients`` computes from these; parameters then have gradients."""
        for own, tensor in zip(self._inputs, (*batches, *soft_targets), strict=True):
            own.copy_(tensor)
        self._gradients.replay()
        for parameter, gradient in zip(self._parameters, self._found, strict=True):
            parameter.grad = gradient
        return self._figures

    def update(self) -> None:
        """Apply the gradients."""
        self._update.replay()
