"""Keep the draft on disk after every edit, so that neither a crash nor a quit loses one."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import filelock

from shakespeare_tui.config.config_draft_state import DraftState, Origin, OriginKind, config_texts
from shakespeare_tui.config.draft import ConfigDraft
from shakespeare_tui.config.load import parse_config
from shakespeare_tui.config.schema import Config
from shakespeare_tui.config.write import config_to_yaml
from shakespeare_tui.errors import UserError
from shakespeare_tui.files import write_json_atomically
from shakespeare_tui.settings_files import read_json_file, set_aside

FORMAT_VERSION = 1
_MOST_SLOTS = 9
_MOST_BYTES = 1 << 22

Record = dict[str, Any]


class DraftStore:
    """The draft's file, one for each lab that runs at the same time.

    The first lab has ``config-draft.json``; while it runs, a second one has
    ``config-draft-2.json``, so that neither overwrites the other's edits.

    Args:
        folder: The settings folder; it is made where it is missing.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path: Path | None = None
        self._lock: filelock.BaseFileLock | None = None

    @property
    def path(self) -> Path | None:
        """The file; None until it was opened."""
        return self._path

    def open(self) -> ConfigDraft | None:
        """Take a file that no other lab has, and read the draft in it.

        Returns:
            The draft as it was left, or None where there is none.

        Raises:
            UserError: The folder cannot be written, or the file is damaged; the damaged one is
                kept under another name and the next call succeeds without it.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            for slot in range(1, _MOST_SLOTS + 1):
                name = "config-draft" if slot == 1 else f"config-draft-{slot}"
                lock = filelock.FileLock(self._folder / f"{name}.lock", thread_local=False)
                try:
                    lock.acquire(timeout=0)
                except filelock.Timeout:
                    continue
                self._path, self._lock = self._folder / f"{name}.json", lock
                return self._read(self._path)
        except OSError as error:
            raise UserError(
                f"edits of the config will not outlive this session: {self._folder} cannot be "
                f"written ({error.strerror or error}); set SHAKESPEARE_TUI_CONFIG to a folder of "
                "yours"
            ) from None
        raise UserError(
            f"{_MOST_SLOTS} labs are open; this one's edits of the config will not outlive it, "
            "save them as a file"
        )

    def close(self) -> None:
        """Leave the file to the next lab."""
        if self._lock is not None:
            self._lock.release()
        self._lock = self._path = None

    def save(self, record: Record) -> None:
        """Write what ``draft_record`` made; may be called from any thread.

        Raises:
            OSError: The disk is full or the folder cannot be written; the old file is untouched.
        """
        if self._path is not None:
            write_json_atomically(self._path, record)

    def _read(self, path: Path) -> ConfigDraft | None:
        try:
            return read_record(read_json_file(path, _MOST_BYTES))
        except FileNotFoundError:
            return None
        except (ValueError, UserError) as error:
            raise UserError(
                f"the saved draft of the config is damaged ({_first_line(error)}); "
                f"{set_aside(path)}, and a new one begins"
            ) from None


def draft_record(history: tuple[list[DraftState], int]) -> Record:
    """What ``ConfigDraft.history`` gave, as JSON's types; safe in any thread."""
    states, present = history
    origins: list[Origin] = []
    moments = []
    for state in states:
        if state.origin not in origins:
            origins.append(state.origin)
        moments.append(
            {"origin": origins.index(state.origin), "texts": _unlike(state.texts, _DEFAULT_TEXTS)}
        )
    return {
        "format": FORMAT_VERSION,
        "origins": [
            {
                "kind": origin.kind,
                "name": origin.name,
                "stem": origin.stem,
                "start_from": origin.start_from,
                "config": config_to_yaml(origin.config, comments=False),
            }
            for origin in origins
        ],
        "moments": moments,
        "present": present,
    }


def read_record(record: Any) -> ConfigDraft:
    """The draft that ``draft_record`` was made of.

    Settings that this version does not know are left out, and those that the record does not know
    have their defaults.

    Raises:
        ValueError: It is no such record.
        UserError: A config in it no longer fits.
    """
    try:
        if record["format"] != FORMAT_VERSION:
            raise ValueError(f"format {record['format']!r}, this program reads {FORMAT_VERSION}")
        origins = [_read_origin(item) for item in record["origins"]]
        states = [
            DraftState(origins[moment["origin"]], _with_defaults(moment["texts"]))
            for moment in record["moments"]
        ]
        return ConfigDraft.from_history(states, record["present"])
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise ValueError(f"not a draft: {error}") from None


_DEFAULT_TEXTS = config_texts(Config())


def _read_origin(item: Mapping[str, Any]) -> Origin:
    if item["kind"] not in get_args(OriginKind):
        raise ValueError(f"an origin of kind {item['kind']!r}")
    start_from = item["start_from"]
    return Origin(
        kind=item["kind"],
        name=str(item["name"]),
        config=parse_config(item["config"], str(item["name"])),
        stem=str(item["stem"]),
        start_from=None if start_from is None else str(start_from),
    )


def _with_defaults(texts: Mapping[str, Any]) -> dict[str, str]:
    return {path: str(texts.get(path, default)) for path, default in _DEFAULT_TEXTS.items()}


def _unlike(texts: Mapping[str, str], others: Mapping[str, str]) -> dict[str, str]:
    return {path: text for path, text in texts.items() if text != others[path]}


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
