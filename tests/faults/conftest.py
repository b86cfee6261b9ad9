"""What the faults share says what differs, as tests do; in the end, how many faults there were."""

import pytest
from counted import FAULTS

pytest.register_assert_rewrite("faulty_runs", "training_runs")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for kind, count in sorted(FAULTS.items()):
        terminalreporter.write_line(f"{count:6,} {kind}")
