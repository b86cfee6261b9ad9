"""Keep the draft on disk without the screen waiting for the disk."""

import threading
from pathlib import Path

from shakespeare_tui.config.config_draft_state import DraftState
from shakespeare_tui.config.config_draft_store import DraftStore, draft_record
from shakespeare_tui.config.draft import ConfigDraft
from shakespeare_tui.errors import UserError

_MOST_MOMENTS = 100

History = tuple[list[DraftState], int]


class DraftKeeper:
    """Writes the newest draft, in a thread or at once.

    Args:
        folder: The settings folder; None keeps nothing.
    """

    def __init__(self, folder: Path | None) -> None:
        self._store = DraftStore(folder) if folder else None
        self._lock = threading.Lock()
        self._waiting: History | None = None
        self.problem = ""
        """Why the draft cannot be kept or was not found, one line; empty when all is well."""

    def restore(self) -> ConfigDraft | None:
        """The draft as it was left, or None."""
        if self._store is None:
            return None
        try:
            return self._store.open()
        except UserError as error:
            self.problem = str(error)
            return None

    @property
    def edit_path(self) -> Path | None:
        """Where the text is kept that an editor works on; None where nothing is kept."""
        path = self._store.path if self._store else None
        return path.with_suffix(".edit.yaml") if path else None

    def keep(self, draft: ConfigDraft) -> None:
        """Write the draft in a thread."""
        if self._store is not None and self._store.path is not None:
            self._waiting = draft.history(_MOST_MOMENTS)
            threading.Thread(target=self._write, name="config-draft").start()

    def close(self, draft: ConfigDraft) -> None:
        """Write the draft now and let go of the file."""
        self._waiting = draft.history(_MOST_MOMENTS)
        self._write()
        if self._store is not None:
            self._store.close()

    def _write(self) -> None:
        with self._lock:
            # Only the newest is written, whichever thread comes first.
            history, self._waiting = self._waiting, None
            if history is None or self._store is None:
                return
            try:
                self._store.save(draft_record(history))
                self.problem = ""
            except OSError as error:
                self.problem = f"edits of the config cannot be saved: {error.strerror or error}"
