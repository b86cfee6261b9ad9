"""Measure how fast a config trains here, by some of its steps that nothing is kept of."""

from collections.abc import Callable

from shakespeare_tui.config.estimate.speed import probe_config
from shakespeare_tui.config.schema import Config
from shakespeare_tui.errors import never
from shakespeare_tui.formatting import per_second
from shakespeare_tui.models.parameters import count_parameters
from shakespeare_tui.runs.folder import new_run_info
from shakespeare_tui.training.backends import choose_backend
from shakespeare_tui.training.speed import step_seconds

_PROBE_SECONDS = 1.0


def measure_speed(
    config: Config, cancelled: Callable[[], bool], vocab_size: int
) -> tuple[float, str]:
    """Train for a second, on a processor with short steps; tokens per second, and the device.

    Raises:
        UserError: The config's device is not there.
        RunFailedError: The memory does not suffice.
        CancelledError: ``cancelled`` became true.
    """
    device = choose_backend(config).device_name()
    probed = probe_config(config, vocab_size) if device.startswith("cpu") else config
    return measure_throughput(probed, _PROBE_SECONDS, cancelled, vocab_size), device


def measure_throughput(
    config: Config,
    seconds: float = 1.0,
    cancelled: Callable[[], bool] = never,
    vocab_size: int = 65,
) -> float:
    """Training speed of a config on this machine, in tokens per second.

    Args:
        config: What would be trained; the corpus is not touched.
        seconds: How long to measure at least; a pass of a large model may take longer.
        cancelled: Polled between passes.
        vocab_size: Of the corpus, where it is known.

    Raises:
        UserError: The config's device is not there.
        RunFailedError: The memory does not suffice.
        CancelledError: ``cancelled`` became true.
    """
    info = new_run_info(
        name="",
        corpus="",
        corpus_sha256="",
        characters=0,
        vocab_size=vocab_size,
        parameters=count_parameters(config.model, vocab_size),
        embedding_scale=config.model.embedding_scale,
    )
    backend = choose_backend(config)
    # The passes that the run will take, compiled where that is still to be done.
    backend.prepare(config, lambda what, done, total: None, cancelled)
    state = backend.new_state(config, info, cancelled)
    taken = step_seconds(state, config, vocab_size, seconds=seconds, cancelled=cancelled)
    return per_second(config.tokens_per_step, taken)
