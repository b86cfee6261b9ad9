"""What the lab remembers between sessions: theme, glyphs, and each screen's own choices."""

import dataclasses
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shakespeare_tui.errors import UserError
from shakespeare_tui.paths import settings_folder

DEFAULT_THEME = "lab-dark"
_SCALARS = (str, int, float, bool, type(None))


@dataclass
class Settings:
    """Remembered choices; change ``theme`` and ``ascii`` through the app, the rest by ``set``.

    Attributes:
        path: The YAML file; None remembers nothing beyond the process (tests).
        theme: Name of the theme.
        ascii: Draw with ASCII characters only.
        places: What screens remember, scalars by dotted names such as ``train.smoothing``.
        problem: Why the file could not be read, one line for the user; empty when all is well.
    """

    path: Path | None = None
    theme: str = DEFAULT_THEME
    ascii: bool = False
    places: dict[str, Any] = field(default_factory=dict)
    problem: str = ""
    is_changed: bool = field(default=False, compare=False)

    @classmethod
    def load(cls, path: Path | None = None) -> "Settings":
        """Read the file, by default ``settings.yaml`` in the user's folder.

        A damaged one is set aside, which ``problem`` tells, and the defaults are used.
        """
        path = path or settings_folder() / "settings.yaml"
        settings = cls(path=path)
        if not os.path.lexists(path):
            return settings
        # Reading YAML waits until there is some.
        from shakespeare_tui.settings_files import read_yaml_file, set_aside

        try:
            record = read_yaml_file(path)
            if not isinstance(record, dict | None):
                raise UserError("it holds no settings")
            settings._take(record or {})
        except FileNotFoundError:
            pass  # a link to what is not there
        except UserError as error:
            settings.problem = f"{path} is damaged ({error}), {set_aside(path)}; defaults are used"
        return settings

    def _take(self, record: dict[str, Any]) -> None:
        for name, kind in (("theme", str), ("ascii", bool)):
            if name in record and isinstance(record[name], kind):
                setattr(self, name, record[name])
        places = record.get("places")
        if isinstance(places, dict):
            self.places = {
                str(name): value for name, value in places.items() if isinstance(value, _SCALARS)
            }

    def get(self, name: str, default: Any) -> Any:
        """What a screen remembered under a dotted name, if it has the type of ``default``."""
        value = self.places.get(name, default)
        if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        return value if default is None or type(value) is type(default) else default

    def set(self, name: str, value: Any) -> None:
        """Remember a scalar under a dotted name; it reaches the disk a little later."""
        if self.places.get(name) != value or name not in self.places:
            self.places[name] = value
            self.is_changed = True

    def save(self) -> None:
        """Write the file in one step, if anything changed.

        Raises:
            OSError: The folder cannot be written.
        """
        if self.path is None or not self.is_changed:
            return
        import yaml

        from shakespeare_tui.files import write_atomically

        record = {"theme": self.theme, "ascii": self.ascii, "places": self.places}
        write_atomically(self.path, yaml.safe_dump(record, sort_keys=True, allow_unicode=True))
        self.is_changed = False


def memory_settings(**values: Any) -> Settings:
    """Settings that are never written."""
    return dataclasses.replace(Settings(), **values)
