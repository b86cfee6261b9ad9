"""How long torch's threads wait for one another: what the program sets, and what it leaves."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import os, sys
from shakespeare_tui.cli.main import main
try:
    main(["--version"])
except SystemExit:
    pass
assert "torch" not in sys.modules
print(os.environ.get("GOMP_SPINCOUNT"))
"""


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [({}, "5000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "passive"}, "None")],
)
def test_waiting_threads_sleep_soon_unless_the_user_chose(
    chosen: dict[str, str], expected: str
) -> None:
    others = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    program = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**others, **chosen},
        capture_output=True,
        text=True,
        check=True,
    )
    assert program.stdout.split()[-1] == expected
