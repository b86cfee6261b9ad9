"""The laboratory for small language models that lives in a terminal.

Also a library: ``import shakespeare_tui as st``; what it gives is in ``library``, loaded on demand.
"""

# ruff: noqa: F403, F405

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from shakespeare_tui.library import *

__all__ = [
    "CharTokenizer",
    "Config",
    "History",
    "Model",
    "Run",
    "RunFailedError",
    "Strategy",
    "TextDataset",
    "TinyGPT",
    "UserError",
    "__version__",
    "events",
    "load",
    "load_config",
    "open_run",
    "parse_strategy",
    "train",
    "train_events",
    "train_model",
]


def __getattr__(name: str) -> object:
    if name in __all__:
        return getattr(import_module("shakespeare_tui.library"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
