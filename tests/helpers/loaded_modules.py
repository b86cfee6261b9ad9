"""What a program of its own process has loaded in the end."""

import json
import subprocess
import sys
from pathlib import Path


def all_modules_after(program: str, folder: Path) -> set[str]:
    """The modules that a Python program has loaded at its end."""
    report = "\nimport sys, json; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", program + report],
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def modules_after(program: str, folder: Path) -> set[str]:
    """The top-level modules that a Python program has loaded at its end."""
    return {name.partition(".")[0] for name in all_modules_after(program, folder)}
