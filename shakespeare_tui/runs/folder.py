"""The run folder: what is in it, how it is addressed, and who may write to it."""

import contextlib
import os
import re
import shutil
import stat
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from types import UnionType
from typing import IO, Any, TypeVar, get_args, get_origin

import filelock

from shakespeare_tui.config.load import parse_config, read_config_file
from shakespeare_tui.config.problems import nearest
from shakespeare_tui.config.schema import Config
from shakespeare_tui.config.write import config_to_yaml
from shakespeare_tui.data.tokenizers.chat_template import ChatTemplate
from shakespeare_tui.data.tokenizers.kinds import NEW_KINDS
from shakespeare_tui.data.tokenizers.tokenizer import Tokenizer, load_tokenizer
from shakespeare_tui.errors import RunFailedError, UserError
from shakespeare_tui.files import (
    parse_json,
    read_bounded,
    reason,
    write_atomically,
    write_json_atomically,
)
from shakespeare_tui.runs.event_log import read_events
from shakespeare_tui.runs.losses import Loss, TokenUnit, losses, rank_by_loss
from shakespeare_tui.runs.notes import read_notes

FORMAT_VERSION = 2
"""Of ``run.json`` and ``info.json``. 2: digests of a checkpoint's files and of the tokenizer."""
PARTED_FORMAT = 3
"""Of an ``info.json`` whose checkpoint has of its own only the weights that learn."""
WEIGHTS, STATE = "weights.safetensors", "state.safetensors"
FROZEN = "frozen"
"""A run's folder with the weights that do not learn, which its checkpoints share."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_ASIDE = ".aside-"
_STEP_FOLDER = re.compile(r"step-(\d{8,12})")
_STEPS_LIMIT = 10**12
_MOST_BYTES = 1 << 20
_MOST_NAMED = 6
_CHAT_TEMPLATE = "chat_template.json"
_BEGINNINGS = {
    "config.yaml",
    "tokenizer.json",
    "run.json",
    "events.jsonl",
    "commands.jsonl",
    FROZEN,
    _CHAT_TEMPLATE,
}
"""What a run's folder may hold before its first checkpoint."""


class NewerFormatError(UserError):
    """A file that a later version of this program wrote: it is not damaged."""


@dataclass(frozen=True, kw_only=True)
class RunInfo:
    """What was decided once when a run was made; saved as ``run.json``."""

    format: int = FORMAT_VERSION
    name: str
    created: float
    program_version: str
    corpus: str
    corpus_sha256: str
    characters: int
    vocab_size: int
    parameters: int
    tokenizer_sha256: str | None = None
    """The tokenizer's fingerprint; older runs do not tell it."""
    bytes_per_token: float | None = None
    """UTF-8 on the validation split, its first token left out, for no loss is about that; None
    where the tokens do not say that text, and in older runs."""
    parent: str | None = None
    """The checkpoint that the weights started from, for fine-tuned and forked runs."""
    pretrained: str | None = None
    """What the weights, or those that they started from, were imported from. Whoever trained them
    may have read any text, this corpus's validation part too."""
    embedding_scale: float = 1.0
    """What the weights were trained with; runs of format 1 had no other."""
    teachers: dict[str, str] | None = None
    """The checkpoints whose probabilities the run learns from, and the digest of what decides
    those (``training.distillation``); None where it learns from the text alone."""
    experiment: str | None = None
    """The experiment that the run belongs to."""
    variant: str | None = None
    """What tells it from the experiment's other runs: arm, values of the axes, seed."""

    @property
    def unit(self) -> TokenUnit:
        """What its losses are counted in."""
        return TokenUnit(self.tokenizer_sha256 or str(self.vocab_size), self.bytes_per_token)

    @property
    def has_coupled_decay(self) -> bool:
        """Whether adam and sgd train as in format 1: weight decay goes through their moments."""
        return self.format < 2


@dataclass(frozen=True, kw_only=True)
class CheckpointInfo:
    """The figures of one checkpoint; saved beside its weights as ``info.json``."""

    format: int = FORMAT_VERSION
    step: int
    val_loss: float | None
    train_loss: float | None
    protocol: str | None
    time: float
    elapsed_seconds: float
    exact_val_loss: float | None = None
    """The exact validation loss, where it was measured besides ``val_loss``."""
    accuracy: float | None = None
    exact_accuracy: float | None = None
    """Of the next token, measured with either loss; older checkpoints do not tell it."""
    weights_sha256: str | None = None
    state_sha256: str | None = None
    """Digests of the files; older checkpoints do not tell them."""
    frozen_sha256: str | None = None
    """Of the file of weights that do not learn; None where the checkpoint has all its weights."""

    @property
    def losses(self) -> list[Loss]:
        """Its validation losses, the one that counts first; empty before it was evaluated."""
        return losses(
            self.val_loss,
            self.protocol,
            self.exact_val_loss,
            accuracy=self.accuracy,
            exact_accuracy=self.exact_accuracy,
        )

    @property
    def loss(self) -> Loss | None:
        """The validation loss that counts: the exact one where it was measured."""
        return next(iter(self.losses), None)


def pretrained_hint(source: str) -> str:
    """``pretrained_note`` where there is little room."""
    return f"weights from {source}, which may have read this text"


def pretrained_note(source: str) -> str:
    """What to say wherever a loss of such a model is shown."""
    return (
        f"the weights come from {source}, which may have read this very text before: its losses do "
        "not compare with those of models that were trained here from nothing"
    )


Record = TypeVar("Record", RunInfo, CheckpointInfo)


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on disk."""

    run: "RunFolder"
    folder: Path
    info: CheckpointInfo

    @property
    def reference(self) -> str:
        """How the checkpoint is addressed: ``RUN@STEP``."""
        return f"{self.run.name}@{self.info.step}"

    @property
    def weights_path(self) -> Path:
        """The model's weights (safetensors)."""
        return self.folder / WEIGHTS

    @property
    def frozen_path(self) -> Path | None:
        """The weights that it shares with its run's other checkpoints; None where it has all."""
        return self.run.frozen_path if self.info.frozen_sha256 else None

    @property
    def weights_bytes(self) -> int:
        """Size of all its weights, those that it shares included; 0 where they are gone."""
        paths = [path for path in (self.weights_path, self.frozen_path) if path is not None]
        return sum(path.stat().st_size for path in paths if path.is_file())

    @property
    def state_path(self) -> Path:
        """What training needs besides the weights to go on exactly (safetensors)."""
        return self.folder / STATE

    @property
    def size_bytes(self) -> int:
        """Size of all its files."""
        return sum(path.stat().st_size for path in self.folder.iterdir())


class RunFolder:
    """One run's folder: ``config.yaml``, ``run.json``, ``tokenizer.json``, events, checkpoints.

    Args:
        path: The folder; it need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock_file: IO[bytes] | None = None

    @property
    def name(self) -> str:
        """The run's name: its folder's, or that of the link to it."""
        return os.path.basename(os.path.abspath(self.path))

    @property
    def events_path(self) -> Path:
        """The log of events."""
        return self.path / "events.jsonl"

    @property
    def frozen_path(self) -> Path:
        """The weights that do not learn, where only a part does."""
        return self.path / FROZEN / WEIGHTS

    @property
    def _lock_path(self) -> Path:
        return self.path / ".lock"

    @property
    def commands_path(self) -> Path:
        """Where other processes leave commands for the trainer, one JSON line each."""
        return self.path / "commands.jsonl"

    def write_definition(
        self,
        info: RunInfo,
        config: Config,
        tokenizer: Tokenizer,
        chat_template: ChatTemplate | None = None,
    ) -> None:
        """Write what defines the run, ``run.json`` last: with it the run exists."""
        write_atomically(self.path / "config.yaml", config_to_yaml(config))
        tokenizer.save(self.path / "tokenizer.json")
        if chat_template is not None:
            write_json_atomically(self.path / _CHAT_TEMPLATE, chat_template.as_json())
        write_json_atomically(self.path / "run.json", asdict(info))

    def info(self) -> RunInfo:
        """What was decided when the run was made.

        Raises:
            UserError: There is no run here, or it is damaged or newer than this program.
        """
        path = self.path / "run.json"
        if not os.path.lexists(path):
            raise UserError(f"{self.path} is not a run: it has no run.json")
        return _read_record(path, RunInfo)

    def config(self) -> Config:
        """The resolved config.

        Raises:
            UserError: It is missing or damaged.
        """
        return parse_config(self.config_text(), str(self.path / "config.yaml"))

    def config_to_fork(self) -> Config:
        """The config for a new run from its weights; a tokenizer that nothing else has by its file.

        Raises:
            UserError: It is missing or damaged.
        """
        config = self.config()
        if config.data.tokenizer in NEW_KINDS:
            return config
        file = os.path.abspath(self.path / "tokenizer.json")
        data = config.data.model_copy(update={"tokenizer": file})
        return config.model_copy(update={"data": data})

    def config_text(self) -> str:
        """The resolved config as it was written.

        Raises:
            UserError: It is missing or cannot be read.
        """
        path = self.path / "config.yaml"
        if not os.path.lexists(path):
            raise UserError(f"{path} is missing; without it the run cannot be used")
        return read_config_file(path)

    def tokenizer(self) -> Tokenizer:
        """The tokenizer.

        Raises:
            UserError: It is missing, damaged, or not the one that the run was made with.
        """
        path, info = self.path / "tokenizer.json", self.info()
        tokenizer = load_tokenizer(path)
        if info.tokenizer_sha256 not in (None, tokenizer.fingerprint):
            raise UserError(
                f"{path} is not the tokenizer that run {self.name} was made with: it was changed "
                "or comes from another run; put the old file back"
            )
        return tokenizer

    def chat_template(self) -> ChatTemplate | None:
        """How the model reads chats; None where it was not made for them.

        Raises:
            UserError: It is damaged.
        """
        path = self.path / _CHAT_TEMPLATE
        try:
            return ChatTemplate.from_json(parse_json(read_bounded(path, _MOST_BYTES)))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise UserError(f"{path} is damaged: {reason(error)}") from None

    def checkpoint_folder(self, step: int) -> Path:
        """Where the checkpoint of ``step`` is or will be."""
        return self.path / f"step-{step:08d}"

    def checkpoints(self) -> list[Checkpoint]:
        """The readable checkpoints in order of their steps; damaged ones are passed over."""
        found = []
        for step in self.steps():
            with contextlib.suppress(UserError):
                found.append(self.checkpoint(step))
        return found

    def steps(self) -> list[int]:
        """Steps of which there is a checkpoint folder, damaged or not, in order."""
        if not os.path.isdir(self.path):
            return []
        steps = (step_of_folder(path.name) for path in self.path.iterdir())
        return sorted(step for step in steps if step is not None)

    def checkpoint(self, step: int) -> Checkpoint:
        """The checkpoint of ``step``.

        Raises:
            UserError: There is none, or its figures are damaged.
        """
        folder = self.checkpoint_folder(min(step, _STEPS_LIMIT))
        if not os.path.isdir(folder):
            # A crash came between setting it aside and putting its newer version in place.
            folder = self._aside_folder(folder)
        if not os.path.isdir(folder):
            steps = self.steps()
            have = ", ".join(map(str, steps[-8:])) if steps else "none"
            shown = step if step < _STEPS_LIMIT else "that high"
            raise UserError(f"run {self.name} has no checkpoint at step {shown}; it has: {have}")
        return Checkpoint(self, folder, read_checkpoint_info(folder, step))

    def index(self) -> dict[str, int]:
        """Steps by name: ``best`` and ``last``, as far as there are any."""
        path = self.path / "index.json"
        try:
            record = parse_json(read_bounded(path, _MOST_BYTES))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise UserError(
                f"{path} is damaged ({reason(error)}); name a step: {self.name}@STEP"
            ) from None
        if not isinstance(record, dict) or not all(_fits(s, (int,)) for s in record.values()):
            raise UserError(f"{path} is damaged; name a step: {self.name}@STEP")
        return record

    def best(self) -> Checkpoint | None:
        """The best checkpoint, or the last where none was evaluated; None where there is none.

        Raises:
            UserError: What names or holds it is damaged.
        """
        return self.named("best") or self.named("last")

    def named(self, name: str) -> Checkpoint | None:
        """The ``best`` or the ``last`` checkpoint; None where none has the name.

        Raises:
            UserError: What names or holds it is damaged.
        """
        step = self.index().get(name)
        return None if step is None else self.checkpoint(step)

    def write_index(self, best: int | None, last: int) -> None:
        """Name the best and the last checkpoint."""
        index = {"last": last} if best is None else {"best": best, "last": last}
        write_json_atomically(self.path / "index.json", index)

    def record_exact_loss(self, step: int, loss: float, accuracy: float) -> None:
        """Write an exact validation loss, and its accuracy, beside a checkpoint's other figures.

        Raises:
            UserError: There is no such checkpoint, or it is damaged.
            OSError: The folder cannot be written.
        """
        checkpoint = self.checkpoint(step)
        info = replace(checkpoint.info, exact_val_loss=loss, exact_accuracy=accuracy)
        write_json_atomically(checkpoint.folder / "info.json", asdict(info))

    def set_aside(self, step: int) -> Path:
        """Rename a checkpoint out of sight in one step; ``sweep`` removes it or, if needed, not."""
        folder = self.checkpoint_folder(step)
        aside = self._aside_folder(folder)
        shutil.rmtree(aside, ignore_errors=True)
        folder.rename(aside)
        return aside

    @staticmethod
    def _aside_folder(folder: Path) -> Path:
        return folder.with_name(f"{_ASIDE}{folder.name}")

    def remove_checkpoint(self, step: int) -> None:
        """Remove a checkpoint; a crash leaves no half of one."""
        shutil.rmtree(self.set_aside(step), ignore_errors=True)

    def is_blank(self) -> bool:
        """Whether nothing was learned here: a run that ended before its first checkpoint."""
        if self.steps() or any(self.path.glob(f"{_ASIDE}*")):
            return False
        return not any(getattr(event, "step", 0) for event in read_events(self.events_path))

    def clear_blank(self) -> None:
        """Remove what a run that ended before its first checkpoint left behind.

        Raises:
            UserError: Another process has begun to learn here meanwhile.
        """
        if not self.is_blank():
            raise _name_is_taken(self.name)
        self.sweep()
        self.events_path.unlink(missing_ok=True)
        shutil.rmtree(self.frozen_path.parent, ignore_errors=True)

    def sweep(self) -> None:
        """Remove what crashes left behind: unfinished folders and temporary files.

        A checkpoint that was set aside for a newer version of itself comes back if that was never
        finished.
        """
        named = None
        with contextlib.suppress(UserError):  # without an index nothing that was set aside goes
            named = {self.checkpoint_folder(step).name for step in self.index().values()}
        for path in self.path.glob(".*"):
            if path.name.startswith(_ASIDE):
                original = path.with_name(path.name.removeprefix(_ASIDE))
                if (named is None or original.name in named) and not original.exists():
                    path.rename(original)
                    continue
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            elif not path.name.startswith(".lock"):
                path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def locked(self, patience_seconds: float = 1.0) -> Iterator[None]:
        """Hold the run for one trainer; the system frees it however the process ends.

        The patience outlasts those who only look whether the run is held.

        Raises:
            UserError: Another process trains this run.
        """
        lock = filelock.FileLock(self._lock_path, thread_local=False)
        try:
            lock.acquire(timeout=patience_seconds, poll_interval=0.05)
        except filelock.Timeout:
            raise UserError(
                f"run {self.name} is being trained by another process; stop that one, or start a "
                "new run"
            ) from None
        try:
            with self._lock_path.open("rb") as self._lock_file:
                yield
        finally:
            self._lock_file = None
            lock.release()

    def check_lock(self) -> None:
        """Make sure that the lock held is still the run's: a deleted one keeps nobody out.

        Raises:
            RunFailedError: The lock file was deleted or replaced since ``locked`` took it.
        """
        with contextlib.suppress(FileNotFoundError):
            # By the open file: on some mounts a path's inode changes by itself.
            mine = self._lock_file and os.fstat(self._lock_file.fileno())
            if mine and os.path.samestat(mine, self._lock_path.stat()):
                return
        raise RunFailedError(
            f"{self._lock_path} was deleted while the run was trained, so another trainer may have "
            f"begun; nothing more is saved here: resume {self.name} once no other process trains it"
        )

    def is_locked(self) -> bool:
        """Whether a trainer holds the run now."""
        if not self._lock_path.exists():  # a mere look leaves no trace
            return False
        try:
            with self.locked(patience_seconds=0):
                return False
        except UserError:
            return True
        except OSError:  # a folder that cannot be written has no trainer
            return False


def rank_checkpoints(checkpoints: Iterable[Checkpoint]) -> list[list[Checkpoint]]:
    """The evaluated checkpoints of a run in groups that compare, lowest loss first in each.

    Args:
        checkpoints: In order of their steps; how the last one was measured decides which group
            comes first, where they were measured differently.
    """
    rest = [checkpoint for checkpoint in checkpoints if checkpoint.info.losses]
    prefer = rest[-1].info.protocol if rest else None
    groups = []
    while ranking := rank_by_loss(rest, lambda checkpoint: checkpoint.info.losses, prefer):
        groups.append(list(ranking.ranked))
        rest = list(ranking.left_out)
    return groups


def best_step(checkpoints: Iterable[Checkpoint]) -> int | None:
    """The step of the best checkpoint of a run; None where none was evaluated."""
    groups = rank_checkpoints(checkpoints)
    return groups[0][0].info.step if groups else None


def step_of_folder(name: str) -> int | None:
    """The step of a checkpoint's folder; None for any other name."""
    match = _STEP_FOLDER.fullmatch(name)
    return int(match[1]) if match else None


def read_checkpoint_info(folder: Path | str, step: int) -> CheckpointInfo:
    """The figures in a checkpoint's folder.

    Raises:
        UserError: They are missing, damaged or of another step.
    """
    path = os.path.join(folder, "info.json")
    info = _read_record(path, CheckpointInfo)
    if info.step != step:
        raise UserError(
            f"{path} is of another checkpoint (step {info.step}); use another checkpoint of the run"
        )
    return info


def _read_record(path: Path | str, kind: type[Record]) -> Record:
    try:
        record = parse_json(read_bounded(path, _MOST_BYTES))
    except FileNotFoundError:
        raise UserError(
            f"{path} is missing; the folder is damaged or not of this program"
        ) from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is damaged: {reason(error)}") from None
    version = record.get("format") if isinstance(record, dict) else None
    if not isinstance(version, int):
        raise UserError(f"{path} is damaged or not of this program: it names no format")
    newest = PARTED_FORMAT if kind is CheckpointInfo else FORMAT_VERSION
    if version > newest:
        raise NewerFormatError(
            f"{path} was written by a newer version (format {version}, this program reads up to "
            f"{newest}); update shakespeare-tui"
        )
    known = _KINDS[kind.__name__]
    try:
        read = kind(**{name: value for name, value in record.items() if name in known})
    except TypeError as error:
        raise UserError(f"{path} is damaged: {error}") from None
    values = read.__dict__
    for name, kinds in known.items():
        if not _fits(values[name], kinds):
            raise UserError(f"{path} is damaged: {name} has a value that cannot be")
    return read


def _kinds_of(record: Any) -> dict[str, tuple[type, ...]]:
    """The types that each field's value may have in JSON."""
    known = {}
    for field in fields(record):
        kinds = get_args(field.type) if isinstance(field.type, UnionType) else (field.type,)
        kinds = tuple(get_origin(kind) or kind for kind in kinds)
        known[field.name] = (*kinds, int) if float in kinds else kinds
    return known


_KINDS = {record.__name__: _kinds_of(record) for record in (RunInfo, CheckpointInfo)}


def _fits(value: object, kinds: tuple[type, ...]) -> bool:
    """Whether a value from JSON is of one of the types; numbers must be finite and sane."""
    if isinstance(value, bool):
        return False
    if isinstance(value, int | float) and not abs(value) < 2**63:
        return False
    if isinstance(value, dict) and not all(isinstance(each, str) for each in value.values()):
        return False
    return isinstance(value, kinds)


def list_runs(root: Path) -> list[RunFolder]:
    """All run folders below ``root``, newest first."""
    try:
        names = os.listdir(root)
    except OSError:
        return []
    found = []
    for name in names:
        # What is being deleted is out of sight under a name with a dot.
        if not name.startswith("."):
            with contextlib.suppress(OSError):
                status = os.stat(root / name / "run.json")
                if stat.S_ISREG(status.st_mode):
                    found.append((status.st_mtime, name))
    return [RunFolder(root / name) for _, name in sorted(found, reverse=True)]


def create_run_folder(root: Path, name: str | None, stem: str) -> RunFolder:
    """Make an empty folder for a new run.

    Args:
        root: The folder of all runs.
        name: The wanted name; None numbers ``stem`` with the first free number.
        stem: What unnamed runs are called: usually the config's name.

    Raises:
        UserError: The name is taken or no good.
        OSError: The folder cannot be made.
    """
    root.mkdir(parents=True, exist_ok=True)
    if name is not None:
        check_new_name(name, root)
        path = root / name
        path.mkdir(exist_ok=True)
        return RunFolder(path)
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-.") or "run"
    for number in range(1, 1_000_000):
        path = root / f"{stem[:80]}-{number}"
        try:
            path.mkdir()
        except FileExistsError:
            continue
        return RunFolder(path)
    raise UserError(f"there is no free number for a run {stem!r}; give it a --name")


def check_run_name(name: str) -> None:
    """Refuse names that would be awkward or unsafe as a folder or in a reference.

    Raises:
        UserError: The name is no good.
    """
    if not _NAME.fullmatch(name):
        raise UserError(
            f"{name!r} cannot be a run's name: use letters, digits, '-', '_' and '.', at most 100, "
            "beginning with a letter or digit"
        )


def check_new_name(name: str, root: Path) -> None:
    """Refuse the name of a new run early, before anything is made.

    The folder of a run that ended before its first checkpoint is free again.

    Raises:
        UserError: The name is taken or no good.
    """
    check_run_name(name)
    path = root / name
    if os.path.lexists(path) and not _is_free(path):
        raise _name_is_taken(name)


def _is_free(path: Path) -> bool:
    """Whether a folder holds nothing but the beginnings of a run that learned nothing."""
    try:
        names = {item.name for item in path.iterdir() if not item.name.startswith(".")}
        run = RunFolder(path)
        is_ours = not path.is_symlink() and names <= _BEGINNINGS
        return is_ours and run.is_blank() and not run.is_locked()
    except OSError:
        return False


def _name_is_taken(name: str) -> UserError:
    return UserError(
        f"there is already a run {name!r}; resume it with --resume {name}, or choose another --name"
    )


def find_run(reference: str, root: Path) -> RunFolder:
    """The run of a name or a path; a renamed run is found by its former names, too.

    Raises:
        UserError: There is no such run; near names are offered.
    """
    by_name, by_path = root / reference, Path(reference)
    for path in (by_name, by_path):
        # Unlike pathlib's, this is false for a name that is too long for the system.
        if os.path.isfile(path / "run.json"):
            return RunFolder(path)
    runs = list_runs(root)
    for run in runs:
        if any(former.name == reference for former in read_notes(run.path).former_names):
            return run
    for path in (by_name, by_path) if os.path.dirname(reference) else (by_name,):
        if os.path.isdir(path) and not os.path.samefile(path, root):
            if _is_free(path):
                raise UserError(
                    f"run {path.name} ended before it began and holds nothing to resume; its name "
                    f"is free: train it again with --name {path.name}"
                )
            RunFolder(path).info()
    names = [run.name for run in runs]
    if near := nearest(reference, names):
        hint = f"did you mean {near}?"
    elif names:
        more = len(names) - _MOST_NAMED
        hint = f"runs here: {', '.join(names[:_MOST_NAMED])}"
        hint += f" and {more:,} more (shakespeare-tui runs)" if more > 0 else ""
    else:
        hint = f"{root} holds no runs yet"
    raise UserError(f"there is no run {_shown(reference)}; {hint}")


def _shown(reference: str) -> str:
    return repr(reference if len(reference) <= 100 else f"{reference[:97]}...")


def find_checkpoint(reference: str, root: Path) -> Checkpoint:
    """The checkpoint of ``RUN``, ``RUN@best``, ``RUN@last``, ``RUN@STEP`` or a path.

    ``RUN`` alone is its best checkpoint by validation loss, or the last where none was evaluated.

    Raises:
        UserError: There is no such run or checkpoint.
    """
    path = Path(reference)
    match = _STEP_FOLDER.fullmatch(path.name)
    if match and os.path.isdir(path):
        return RunFolder(path.parent).checkpoint(int(match[1]))
    has_where = "@" in reference and not os.path.isfile(path / "run.json")
    name, _, where = reference.rpartition("@") if has_where else (reference, "", "")
    run = find_run(name, root)
    if where.isdecimal() and len(where) <= 12:
        return run.checkpoint(int(where))
    if where not in ("", "best", "last"):
        shown = _shown(reference)
        near = nearest(where, ("best", "last"))
        hint = f"; did you mean {name}@{near}?" if near else ""
        raise UserError(f"{shown}: after @ comes best, last or a step, not {_shown(where)}{hint}")
    checkpoint = run.named(where) if where else run.best()
    if checkpoint is None:
        if not run.steps():
            raise UserError(
                f"run {run.name} has no checkpoint yet, so there are no weights; wait for its "
                f"first, or train it with: shakespeare-tui train --no-ui --resume {run.name}"
            )
        raise UserError(f"run {run.name} has no {where or 'usable'} checkpoint yet")
    return checkpoint


def new_run_info(**values: Any) -> RunInfo:
    """A ``RunInfo`` with the time and the program's version filled in."""
    from shakespeare_tui import __version__

    return RunInfo(created=time.time(), program_version=__version__, **values)
