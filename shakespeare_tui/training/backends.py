"""What computes a config: PyTorch on its device, or NumPy."""

from shakespeare_tui.config.schema import Config, numpy_problem
from shakespeare_tui.errors import UserError
from shakespeare_tui.machine import backend_of, has_torch
from shakespeare_tui.training.train_state import Backend

NO_TORCH = "{} needs PyTorch, which is not installed here; install torch, or do without"


def choose_backend(config: Config) -> Backend:
    """The backend of a config on its device; this loads its library.

    Raises:
        UserError: The device is not there, or the config needs PyTorch, which is not.
    """
    training = config.training
    if backend_of(training.backend) == "torch":
        if not has_torch():
            raise UserError(NO_TORCH.format("training.backend torch"))
        from shakespeare_tui.training.torch_state import TorchBackend

        return TorchBackend(training.device)
    problem = numpy_problem(
        training.device,
        training.precision,
        training.grad_checkpointing,
        training.lora_rank,
        training.train_blocks,
    )
    if problem:
        raise UserError(f"{problem}; PyTorch is not installed here")
    from shakespeare_tui.training.numpy_state import NumpyBackend

    return NumpyBackend()
