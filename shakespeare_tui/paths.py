"""The folders of the user: cache and settings, each replaceable by an environment variable."""

import os
from pathlib import Path

import platformdirs

_NAME = "shakespeare-tui"


def cache_folder() -> Path:
    """Fetched corpora and encoded tokens; ``SHAKESPEARE_TUI_CACHE`` moves it."""
    override = os.environ.get("SHAKESPEARE_TUI_CACHE")
    return Path(override) if override else Path(platformdirs.user_cache_dir(_NAME, appauthor=False))


def settings_folder() -> Path:
    """Remembered settings and key maps; ``SHAKESPEARE_TUI_CONFIG`` moves it."""
    override = os.environ.get("SHAKESPEARE_TUI_CONFIG")
    return (
        Path(override) if override else Path(platformdirs.user_config_dir(_NAME, appauthor=False))
    )


def runs_folder() -> Path:
    """Where runs live: ``checkpoints`` in the working folder, or ``SHAKESPEARE_TUI_RUNS``."""
    return Path(os.environ.get("SHAKESPEARE_TUI_RUNS", "checkpoints"))


def experiments_folder() -> Path:
    """Where experiments live: beside the runs, or in ``SHAKESPEARE_TUI_EXPERIMENTS``."""
    override = os.environ.get("SHAKESPEARE_TUI_EXPERIMENTS")
    return Path(override) if override else runs_folder().parent / "experiments"


_PACKAGE = Path(__file__).resolve().parent


def shipped_folder(name: str) -> Path:
    """The folder ``configs`` or ``data`` as shipped: inside the wheel, else the checkout's."""
    installed = _PACKAGE / "_shipped" / name
    return installed if installed.is_dir() else _PACKAGE.parent / name
