"""Processes of their own that the lab starts: experiments in training, reports being written.

They are the very commands of the command line, and go on when the lab is left.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from shakespeare_tui.experiments.folder import ExperimentFolder
    from shakespeare_tui.experiments.runner import Executor, Process

Kind = Literal["run", "report"]


@dataclass(frozen=True)
class ChildEnded:
    """A process that has come to its end.

    Attributes:
        kind: What it did.
        name: The experiment's.
        code: Its exit code, below 0 a signal's.
        said: Its last line.
    """

    kind: Kind
    name: str
    code: int
    said: str

    @property
    def is_error(self) -> bool:
        """Whether it did not do what it was to do."""
        return self.code not in (0, 130)

    @property
    def message(self) -> str:
        """What became of it, in one line."""
        if self.code == 0 and self.kind == "report":
            return f"wrote {report_folder(self.name) / 'report.html'}"
        if self.code == 0:
            return f"{self.name} is finished; r writes its report"
        if self.kind == "run" and self.code == 130:
            return f"{self.name} is stopped and saved; s goes on with it"
        if self.kind == "run" and self.code == 1:
            return f"{self.name} is over, but runs failed: the line below the table says why"
        said = self.said.removeprefix("error: ").removeprefix("failed: ")
        return f"{self.name}: {said or f'the {self.kind} ended with {self.code}'}"


def report_folder(name: str) -> Path:
    """Where the report of an experiment is written."""
    return Path("reports") / name


class Children:
    """Starts processes and hears of their end.

    Args:
        executor: Starts them; None starts them on this machine.
    """

    def __init__(self, executor: "Executor | None" = None) -> None:
        self._executor = executor
        self._at_work: dict[tuple[Kind, str], tuple[Process, ExperimentFolder]] = {}
        self._ended: dict[tuple[Kind, str], ChildEnded] = {}
        self._jobs: dict[str, int] = {}

    def train(self, folder: "ExperimentFolder", runs_root: Path, *, jobs: int) -> bool:
        """Train what is left of an experiment; False where that is being done."""
        arguments = ["experiment", "run", folder.name, "--json", "--retry", "--jobs", str(jobs)]
        if folder.record().definition.experiment.search is not None:
            arguments.remove("--retry")
        is_started = self._start("run", folder, runs_root, arguments)
        if is_started:
            self._jobs[folder.name] = jobs
        return is_started

    def report(self, folder: "ExperimentFolder", runs_root: Path) -> bool:
        """Write the report of an experiment; False where that is being done."""
        output = ["--output", str(report_folder(folder.name))]
        return self._start("report", folder, runs_root, ["report", folder.name, *output])

    def _start(
        self, kind: Kind, folder: "ExperimentFolder", runs_root: Path, arguments: list[str]
    ) -> bool:
        if self.is_at_work(kind, folder.name):
            return False
        if self._executor is None:
            from shakespeare_tui.experiments.runner import LocalExecutor

            self._executor = LocalExecutor()
        environment = {
            "SHAKESPEARE_TUI_RUNS": str(runs_root.absolute()),
            "SHAKESPEARE_TUI_EXPERIMENTS": str(folder.path.parent.absolute()),
        }
        process = self._executor.start(arguments, environment, folder.log_path(kind))
        self._at_work[kind, folder.name] = process, folder
        return True

    def is_at_work(self, kind: Kind, name: str) -> bool:
        """Whether such a process of this lab is at work."""
        return (kind, name) in self._at_work

    def jobs_of(self, name: str) -> int | None:
        """How many runs of an experiment such a process trains at a time; None where none does."""
        return self._jobs.get(name) if self.is_at_work("run", name) else None

    def has_failed(self, name: str) -> bool:
        """Whether the last such process that trained an experiment came to no good end."""
        ended = self._ended.get(("run", name))
        return ended is not None and ended.is_error

    @property
    def in_training(self) -> list[str]:
        """The experiments that are trained by processes of this lab."""
        return [name for kind, name in self._at_work if kind == "run"]

    def poll(self) -> Iterable[ChildEnded]:
        """Those that have ended since the last call."""
        ended = []
        for (kind, name), (process, folder) in list(self._at_work.items()):
            code = process.poll()
            if code is not None:
                del self._at_work[kind, name]
                end = ChildEnded(kind, name, code, folder.log_end(kind))
                self._ended[kind, name] = end
                ended.append(end)
        return ended
