"""Remembers which arithmetic was measured to be the faster, so that equal runs stay equal.

A measurement beside other work may come out one way today and the other tomorrow, and the two
round differently. Deleting the file makes every shape be measured anew.
"""

import contextlib
import hashlib
import json
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from shakespeare_tui.errors import UserError
from shakespeare_tui.files import write_json_atomically
from shakespeare_tui.paths import cache_folder
from shakespeare_tui.settings_files import read_json_file
from shakespeare_tui.training.device import describe_device

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def remembered_precision(
    device: torch.device, shape: object, choose: Callable[[], torch.dtype]
) -> torch.dtype:
    """What ``choose`` said of this shape on this machine the first time.

    Args:
        device: Where it was measured.
        shape: What the speed depends on; anything that JSON takes.
        choose: Measures; float32 or bfloat16.
    """
    path = cache_folder() / "precisions.json"
    known, key = _read(path), _key(device, shape)
    name = str(known.get(key))
    if name in PRECISIONS:
        return PRECISIONS[name]
    chosen = choose()
    known[key] = str(chosen).removeprefix("torch.")
    # A cache that cannot be written is no reason not to train.
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json_atomically(path, known)
    return chosen


def _read(path: Path) -> dict[str, Any]:
    try:
        known = read_json_file(path)
    except (OSError, UserError):
        return {}
    return known if isinstance(known, dict) else {}


def _key(device: torch.device, shape: object) -> str:
    machine = [platform.node(), torch.backends.cpu.get_cpu_capability(), torch.__version__]
    told = json.dumps([*machine, describe_device(device), shape], sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()
