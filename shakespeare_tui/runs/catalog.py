"""Everything in the folder of runs, damaged and foreign things too: the one list of them.

Ten thousand checkpoints are listed in well under a second: each costs one folder listing and two
short reads, and none of them the second time.
"""

import functools
import json
import os
import re
import stat
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

from shakespeare_tui.config.draft import config_texts
from shakespeare_tui.config.load import ConfigError, parse_config
from shakespeare_tui.config.schema import Config
from shakespeare_tui.errors import UserError
from shakespeare_tui.files import file_sha256, read_head, reason
from shakespeare_tui.runs.event_log import last_events
from shakespeare_tui.runs.folder import (
    FROZEN,
    WEIGHTS,
    CheckpointInfo,
    RunFolder,
    RunInfo,
    read_checkpoint_info,
    step_of_folder,
)
from shakespeare_tui.runs.losses import Loss
from shakespeare_tui.runs.notes import FormerName, RunNotes, read_notes
from shakespeare_tui.runs.state import RunState, state_after, state_in_training

_LENGTH_BYTES = 8
_FIRST_BYTES = 32768
_LARGEST_HEADER = 100_000_000
_LAST_END = re.compile(rb'.*"data_offsets":\s*\[\s*\d+,\s*(\d+)', re.DOTALL)


def weights_problem(path: str, size: int) -> str | None:
    """What is wrong with a safetensors file; None where it looks whole.

    The format is 8 bytes with the header's length, a JSON header with each tensor's place, and the
    tensors; nothing of the tensors is read.

    Args:
        path: The file.
        size: Its size in bytes.

    Raises:
        OSError: It cannot be read.
    """
    head = read_head(path, _FIRST_BYTES)
    length = int.from_bytes(head[:_LENGTH_BYTES], "little")
    if not 0 < length <= min(size, _LARGEST_HEADER):
        return "it is not a safetensors file"
    start = _LENGTH_BYTES + length
    if len(head) < min(size, start):
        head = read_head(path, start)
    header = head[_LENGTH_BYTES:start]
    # As a rule the last tensor of the header ends the file: no need to take it all apart.
    last = _LAST_END.match(header)
    if last is not None and header.rstrip().endswith(b"}") and start + int(last[1]) == size:
        return None
    try:
        end = start + _largest_end(json.loads(header))
    except (ValueError, AttributeError, LookupError, TypeError, RecursionError):
        return "its header is damaged"
    return None if size == end else f"it has {size:,} bytes, not {end:,}: it was cut off"


def _largest_end(header: dict[str, Any]) -> int:
    tensors = [tensor for name, tensor in header.items() if name != "__metadata__"]
    return max((int(tensor["data_offsets"][1]) for tensor in tensors), default=0)


_FOREIGN = (".pt", ".pth", ".ckpt", ".bin", ".safetensors", ".gguf", ".onnx")
"""What files of models are called elsewhere: one that lies here is named as foreign."""
_WEIGHTS_STATE = 3
_SAVING_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckpointEntry:
    """A checkpoint; one with a ``problem`` has no figures.

    Attributes:
        name: Its folder's name, or the foreign file's.
        step: The optimiser step; -1 for what is foreign.
        info: Its figures; None where they cannot be used.
        size_bytes: Size of all its files.
        problem: Why it cannot be used.
    """

    run: str
    name: str
    step: int
    info: CheckpointInfo | None
    size_bytes: int
    is_best: bool = False
    is_last: bool = False
    problem: str | None = None

    @property
    def reference(self) -> str:
        """``RUN@STEP``; the path below the folder of runs for what is foreign."""
        return f"{self.run}@{self.step}" if self.step >= 0 else f"{self.run}/{self.name}"


@dataclass(frozen=True, kw_only=True, slots=True)
class RunEntry:
    """A run and its checkpoints, latest first.

    One with a ``problem`` is damaged. Where nothing in it can be used, it has no ``checkpoints``;
    what is no run of this program has no ``info`` either.

    Attributes:
        name: As its folder is called, or the link to it.
        written: When it was last written, Unix seconds.
        step: How far it has come, by its log and its checkpoints.
        config: Its settings; None where they were not read.
        texts: The same as text by path.
        notes: Its annotation and former names.
    """

    name: str
    path: Path
    state: RunState
    info: RunInfo | None
    written: float
    step: int | None = None
    config: Config | None = None
    texts: Mapping[str, str] | None = None
    notes: RunNotes = RunNotes()
    checkpoints: tuple[CheckpointEntry, ...] = ()
    problem: str | None = None

    @property
    def created(self) -> float:
        """When it was made, Unix seconds."""
        return self.info.created if self.info else self.written

    @property
    def former_names(self) -> tuple[FormerName, ...]:
        """The names it bore before."""
        return self.notes.former_names

    @property
    def loss(self) -> Loss | None:
        """Its validation loss, wherever it is shown: that of its best checkpoint."""
        best = self.best
        return best.info.loss if best and best.info else None

    @property
    def best(self) -> CheckpointEntry | None:
        """Its best checkpoint, or the latest where none is named the best."""
        usable = [entry for entry in self.checkpoints if entry.info is not None]
        return next(chain((c for c in usable if c.is_best), usable), None)


@dataclass(frozen=True, slots=True)
class _Read:
    """A checkpoint as it was read, and the state of its files then."""

    state: tuple[int, ...]
    info: CheckpointInfo | None
    size_bytes: int
    problem: str | None


class RunCatalog:
    """Lists the folder of runs; what has not changed since is not read again.

    Safe for use by several threads, one at a time.

    Args:
        root: The folder of all runs; it need not exist yet.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._read: dict[str, _Read] = {}
        self._lock = threading.Lock()

    def entries(self, *, reads_configs: bool = True) -> list[RunEntry]:
        """All runs, newest first; damage shows in the entries, never as an error.

        Args:
            reads_configs: Read the runs' settings too: some milliseconds for each that differ.
        """
        with self._lock:
            before, self._read = self._read, {}
            runs = list(self._runs(before, reads_configs))
        return sorted(runs, key=lambda run: (run.created, run.name), reverse=True)

    def _runs(self, before: dict[str, _Read], reads_configs: bool) -> Iterator[RunEntry]:
        try:
            found = list(os.scandir(self._root))
        except OSError:
            return
        for item in found:
            if item.name.startswith("."):
                continue
            path = Path(item.path)
            try:
                if item.is_dir():
                    yield self._run(path, before, reads_configs)
                elif item.is_symlink() and not path.exists():
                    yield _damaged(path, "a link to what is not there")
                elif item.name.lower().endswith(_FOREIGN):
                    yield _damaged(path, "a file of another program; runs are folders")
            except OSError as error:
                if os.path.lexists(path):  # else it went away while it was looked at
                    yield _damaged(path, f"cannot be read: {error.strerror or error}")

    def _run(self, path: Path, before: dict[str, _Read], reads_configs: bool) -> RunEntry:
        run = RunFolder(path)
        info = config = texts = None
        try:
            info = run.info()
            if reads_configs:
                config, texts = _config_of(run)
        except UserError as error:
            return _damaged(path, _shortened(str(error), path), info)
        problem = None
        named: dict[str, int] = {}
        try:
            named = run.index()
        except UserError as error:
            problem = _shortened(str(error), path)
        checkpoints = list(self._checkpoints(path, named, before))
        checkpoints.sort(key=lambda entry: (entry.step, entry.name), reverse=True)
        steps = [entry.step for entry in checkpoints if entry.info is not None]
        state: RunState = "damaged"
        try:
            is_trained = run.is_locked()
            recent = list(islice(last_events(run.events_path), None if is_trained else 1))
            steps += [step for e in recent if isinstance(step := getattr(e, "step", None), int)][:1]
            last = recent[0] if recent else None
            state = state_in_training(recent) if is_trained else state_after(last)
            if last is None and info.pretrained is not None and checkpoints:
                state = "finished"  # elsewhere: it was imported
        except OSError as error:
            problem = f"{run.events_path.name}: {error.strerror or error}"
        return RunEntry(
            name=path.name,
            path=path,
            state=state if problem is None else "damaged",
            info=info,
            written=path.stat().st_mtime,
            step=max(steps, default=None),
            config=config,
            texts=texts,
            notes=read_notes(path),
            checkpoints=tuple(checkpoints),
            problem=problem,
        )

    def _checkpoints(
        self, path: Path, named: dict[str, int], before: dict[str, _Read]
    ) -> Iterator[CheckpointEntry]:
        with os.scandir(path) as found:
            items = [item for item in found if not item.name.startswith(".")]
        for item in items:
            step = step_of_folder(item.name)
            if step is None:
                if item.name.startswith("step-") or item.name.lower().endswith(_FOREIGN):
                    yield CheckpointEntry(
                        run=path.name,
                        name=item.name,
                        step=-1,
                        info=None,
                        size_bytes=0,
                        problem="not a checkpoint of this program: those are folders step-00000000",
                    )
                continue
            read = self._read[item.path] = _read_checkpoint(item.path, step, before.get(item.path))
            yield CheckpointEntry(
                run=path.name,
                name=item.name,
                step=step,
                info=read.info,
                size_bytes=read.size_bytes,
                is_best=named.get("best") == step,
                is_last=named.get("last") == step,
                problem=read.problem,
            )


def _damaged(path: Path, problem: str, info: RunInfo | None = None) -> RunEntry:
    return RunEntry(
        name=path.name,
        path=path,
        state="damaged",
        info=info,
        written=os.lstat(path).st_mtime,
        problem=problem,
    )


def _shortened(problem: str, folder: Path | str) -> str:
    """A reason with the names of files as in the folder: the row that shows it names the run."""
    return problem.replace(f"{folder}{os.sep}", "").replace(str(folder), os.path.basename(folder))


def _config_of(run: RunFolder) -> tuple[Config, Mapping[str, str]]:
    try:
        return _parsed(run.config_text())
    except ConfigError as error:
        first, *more = str(error).splitlines()
        raise UserError(first + (f" (and {len(more)} more)" if more else "")) from None


@functools.lru_cache(4096)
def _parsed(yaml: str) -> tuple[Config, Mapping[str, str]]:
    # Most runs of a folder share their settings: each text is taken apart once.
    config = parse_config(yaml, "config.yaml")
    return config, config_texts(config)


def _read_checkpoint(folder: str, step: int, before: _Read | None) -> _Read:
    try:
        state = _state(folder)
        if before is not None and before.state == state:
            return before
        sizes = _sizes(folder)
        size = sum(sizes.values())
        info = read_checkpoint_info(folder, step)
        if WEIGHTS not in sizes:
            return _Read(state, None, size, f"{WEIGHTS} is missing")
        weights = f"{folder}/{WEIGHTS}"
        problem = weights_problem(weights, sizes[WEIGHTS])
        if problem is None and info.weights_sha256 and _is_suspect(folder, state, before):
            is_as_saved = file_sha256(Path(weights)) == info.weights_sha256
            problem = None if is_as_saved else "its content is not what was saved (SHA-256)"
        if problem is not None:
            return _Read(state, None, size, f"{WEIGHTS} is damaged: {problem}")
        if info.frozen_sha256 and (problem := _frozen_problem(folder)):
            return _Read(state, None, size, problem)
    except UserError as error:
        return _Read((), None, 0, _shortened(str(error), folder))
    except OSError as error:
        return _Read(
            (), None, 0, _shortened(f"{error.filename or folder}: {reason(error)}", folder)
        )
    return _Read(state, info, size, None)


def _frozen_problem(folder: str) -> str | None:
    """What is wrong with the weights that a run's checkpoints share."""
    path = Path(folder).parent / FROZEN / WEIGHTS
    if not path.is_file():
        return f"{FROZEN}/{WEIGHTS} is missing, which the checkpoints of the run share"
    problem = weights_problem(str(path), path.stat().st_size)
    return None if problem is None else f"{FROZEN}/{WEIGHTS} is damaged: {problem}"


def _state(folder: str) -> tuple[int, ...]:
    """What changes when a checkpoint's folder, its figures or, last, its weights do."""
    outer = os.stat(folder)
    if not stat.S_ISDIR(outer.st_mode):
        raise UserError("a file, not a folder; checkpoints are folders")
    state = [outer.st_ino, outer.st_mtime_ns]
    for name in (f"../{FROZEN}/{WEIGHTS}", "info.json", WEIGHTS):
        try:
            inner = os.stat(f"{folder}/{name}")
        except FileNotFoundError:
            state += [0, 0, 0]
        else:
            # The time of the change, which no program can set back.
            state += [inner.st_ino, inner.st_ctime_ns, inner.st_size]
    return tuple(state)


def _is_suspect(folder: str, state: tuple[int, ...], before: _Read | None) -> bool:
    """Whether the weights were written to since they were listed, or since they were saved.

    Reading all weights to compare their digests would take too long.
    """
    if before is not None and before.info is not None:
        return before.state[-_WEIGHTS_STATE:] != state[-_WEIGHTS_STATE:]
    written, saved = (os.stat(f"{folder}/{name}").st_mtime for name in (WEIGHTS, "info.json"))
    return written > saved + _SAVING_SECONDS


def _sizes(folder: str) -> dict[str, int]:
    with os.scandir(folder) as files:
        return {file.name: file.stat().st_size for file in files}
