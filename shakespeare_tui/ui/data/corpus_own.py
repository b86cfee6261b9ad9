"""The texts of one's own that were imported: remembered from one session to the next."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shakespeare_tui.ui.app import LabApp

_NAME = "data.own_corpora"


class OwnTexts:
    """Absolute paths in the order of their import, kept in the settings.

    Args:
        app: Has the settings.
    """

    def __init__(self, app: "LabApp") -> None:
        self._app = app

    @property
    def specs(self) -> list[str]:
        """The paths."""
        return [line for line in self._app.settings.get(_NAME, "").split("\n") if line]

    def add(self, spec: str) -> None:
        """Remember a path."""
        if spec not in self.specs:
            self._app.remember(_NAME, "\n".join([*self.specs, spec]))

    def remove(self, spec: str) -> None:
        """Forget a path; the file stays where it is."""
        self._app.remember(_NAME, "\n".join(other for other in self.specs if other != spec))
