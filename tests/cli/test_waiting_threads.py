"""Threads of a process: how long they wait for one another, and what they are left to end."""

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


ENDING = """
import atexit, sys, threading, time
from shakespeare_tui.cli.main import program

class Library:
    def __del__(self):
        print("torn down")

library = Library()
atexit.register(print, "at exit")
threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
threading.Thread(target=lambda: (time.sleep(0.3), print("whole"))).start()
sys.argv = ["shakespeare-tui", "eval", "nothing-there"]
program()
"""


def test_nothing_is_torn_down_below_a_thread_that_compiles() -> None:
    program = subprocess.run([sys.executable, "-c", ENDING], capture_output=True, text=True)
    assert program.returncode == 2
    assert program.stdout == "whole\nat exit\n"
    assert program.stderr.startswith("error:")
