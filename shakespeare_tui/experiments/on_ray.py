"""Trainers as tasks of a Ray cluster: Ray places them, restarts nothing, and shares no files.

The folders of runs and experiments lie on a disk that all machines have in common.
"""

import contextlib
import importlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from shakespeare_tui.errors import UserError


class RayProcess:
    """A trainer on some machine of the cluster."""

    def __init__(self, ray: Any, reference: Any) -> None:
        self._ray, self._reference = ray, reference

    def poll(self) -> int | None:
        """Its exit code; None while it is at work or waits for a place."""
        done, _ = self._ray.wait([self._reference], timeout=0)
        if not done:
            return None
        try:
            code: int = self._ray.get(self._reference)
        except self._ray.exceptions.TaskCancelledError:
            return 130
        except self._ray.exceptions.RayError:  # its machine is gone, or Ray ended it
            return -signal.SIGKILL
        return code

    def stop(self) -> None:
        """Interrupt the task, which hands that on to the trainer."""
        self._ray.cancel(self._reference, force=False)


class RayExecutor:
    """Starts trainers on a cluster.

    Args:
        ray: The library, connected.
        threads: Cores that each trainer takes.
        gpus: Graphics cards that each takes.
    """

    def __init__(self, ray: Any, threads: int, gpus: int) -> None:
        self._ray = ray
        self._train = ray.remote(num_cpus=threads, num_gpus=gpus, max_retries=0)(run_trainer)

    def start(
        self, arguments: Sequence[str], environment: Mapping[str, str], log: Path
    ) -> RayProcess:
        """Send one to the cluster."""
        where = str(log.absolute()), os.getcwd()
        return RayProcess(self._ray, self._train.remote(list(arguments), dict(environment), *where))


def run_trainer(arguments: list[str], environment: dict[str, str], log: str, folder: str) -> int:
    """Run the program on the machine of the task; returns its exit code."""
    os.makedirs(os.path.dirname(log), exist_ok=True)
    with open(log, "ab") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "shakespeare_tui", *arguments],
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            cwd=folder,
        )
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:  # the task was cancelled
            process.send_signal(signal.SIGINT)


@contextlib.contextmanager
def ray_cluster(threads: int) -> Iterator[tuple[RayExecutor, int]]:
    """The cluster of ``RAY_ADDRESS``, or this machine alone, and how many runs it has room for.

    Raises:
        UserError: Ray is not installed, or there is no cluster.
    """
    try:
        ray: Any = importlib.import_module("ray")
    except ImportError:
        raise UserError(
            "--on ray takes a package that is not installed: pip install 'shakespeare-tui[ray]'"
        ) from None
    try:
        ray.init(address=os.environ.get("RAY_ADDRESS") or None, log_to_driver=False)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise UserError(f"the Ray cluster cannot be reached: {error}") from None
    try:
        found = ray.cluster_resources()
        gpus = 1 if found.get("GPU", 0) else 0
        places = int(found.get("CPU", 1) // threads)
        if gpus:
            places = min(places, int(found["GPU"]))
        yield RayExecutor(ray, threads, gpus), max(1, places)
    finally:
        ray.shutdown()
