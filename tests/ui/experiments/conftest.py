"""An experiment that is half trained, and processes that only note what they were started for."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from listed_experiments import experiment

from shakespeare_tui.experiments.folder import ExperimentFolder


class ScriptedProcess:
    """Ends when it is told to."""

    def __init__(self) -> None:
        self.code: int | None = None

    def poll(self) -> int | None:
        return self.code

    def stop(self) -> None:
        self.code = 130


class ScriptedExecutor:
    """Remembers what it started."""

    def __init__(self) -> None:
        self.started: list[Sequence[str]] = []
        self.environments: list[Mapping[str, str]] = []
        self.processes: list[ScriptedProcess] = []

    def start(
        self, arguments: Sequence[str], environment: Mapping[str, str], log: Path
    ) -> ScriptedProcess:
        self.started.append(arguments)
        self.environments.append(environment)
        self.processes.append(ScriptedProcess())
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text("")
        return self.processes[-1]


@pytest.fixture
def executor() -> ScriptedExecutor:
    return ScriptedExecutor()


@pytest.fixture(scope="session")
def half_trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of experiments and runs, as ``listed_experiments`` makes it."""
    home = tmp_path_factory.mktemp("half-trained")
    experiment(home)
    return home


@pytest.fixture
def widths(half_trained: Path, tmp_path: Path) -> ExperimentFolder:
    """A copy of it: four of six runs are over."""
    for name in ("experiments", "runs"):
        shutil.copytree(half_trained / name, tmp_path / name)
    return ExperimentFolder(tmp_path / "experiments" / "widths")
