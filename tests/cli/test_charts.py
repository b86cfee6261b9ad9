"""The charts that commands print: where, of what, how wide, and in which characters."""

import contextlib
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from checkpoint_trees import add_run
from real_cli import TINY, CommandLine
from trained_run import trained

from shakespeare_tui.cli.charts import MOST_CURVES, Curve, print_chart
from shakespeare_tui.cli.main import main
from shakespeare_tui.runs.folder import RunFolder

__all__ = ["trained"]

COLOURS = re.compile(r"\x1b\[38;5;(\d+)m")


class Terminal(io.StringIO):
    """A terminal as far as a program asks."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "70")
    return Terminal()


def curve(name: str, *values: float) -> Curve:
    return Curve(name, np.arange(1.0, len(values) + 1), np.array(values))


class TestTrain:
    def test_a_pipe_gets_the_curve_where_it_is_asked_for(self, cli: CommandLine) -> None:
        plain = cli("train", "--no-ui", *TINY, "--max-steps=20")
        assert "nats per token" not in plain.out
        drawn = cli("train", "--no-ui", *TINY, "--max-steps=20", "--chart")
        chart, _, summary = drawn.out.partition("nats per token")
        assert "training, smoothed" in chart
        assert "validation" in chart
        assert "step" in summary.splitlines()[0]
        assert "next  " in summary
        assert "\x1b" not in drawn.out

    def test_a_terminal_gets_it_in_colours(self, terminal: Terminal) -> None:
        with contextlib.redirect_stdout(terminal):
            assert main(["train", "--no-ui", *TINY, "--max-steps=20"]) == 0
        assert "nats per token" in terminal.getvalue()
        assert len(set(COLOURS.findall(terminal.getvalue()))) == 2

    def test_json_goes_without(self, cli: CommandLine) -> None:
        refused = cli("train", "--no-ui", *TINY, "--json", "--chart")
        assert refused.code == 2
        assert "not allowed with" in refused.err


class TestRuns:
    def test_the_losses_of_the_listed_runs(self, trained: RunFolder, cli: CommandLine) -> None:
        add_run(trained.path.parent, "never-trained")
        assert "nats per token" not in cli("runs").out
        table, _, chart = cli("runs", "alpha", "--chart").out.partition("training loss")
        assert "alpha" in table
        assert "alpha" in chart
        assert "30" in chart.splitlines()[-2]
        assert "nats per token" in chart
        # A run without a step has nothing to draw.
        assert "nats per token" not in cli("runs", "never-trained", "--chart").out

    @pytest.mark.parametrize("quantity", ["perplexity", "accuracy"])
    def test_what_else_an_evaluation_measures(
        self, quantity: str, trained: RunFolder, cli: CommandLine
    ) -> None:
        outcome = cli("runs", "alpha", f"--chart-of={quantity}")
        assert outcome.code == 0, outcome.err
        label = {"perplexity": "perplexity", "accuracy": "% of tokens foretold"}[quantity]
        assert label in outcome.out.splitlines()[-1]
        events = [json.loads(line) for line in trained.events_path.read_text().splitlines()]
        shares = [e["accuracy"] for e in events if e["type"] == "EvalCompleted"]
        ticks = [float(t) for t in re.findall(r"^ *([\d.]+)┤", outcome.out, re.MULTILINE)]
        if quantity == "accuracy":
            assert 100 * min(shares) - 1 < min(ticks) and max(ticks) < 100 * max(shares) + 1
        else:
            assert max(ticks) > 10  # of characters, at a start

    def test_no_more_than_can_be_told_apart(self, runs_root: Path, cli: CommandLine) -> None:
        for number in range(MOST_CURVES + 1):
            add_run(runs_root, f"run-{number}")
        assert f"the first {MOST_CURVES} of {MOST_CURVES + 1}" in cli("runs", "--chart").err


def test_inspect_draws_words_and_characters_by_rank(cli: CommandLine, tmp_path: Path) -> None:
    assert "by rank" not in cli("data", "inspect", "sample").out
    _, _, chart = cli("data", "inspect", "sample", "--chart").out.partition("by rank")
    assert "words  ++ characters" in chart
    assert "rank" in chart.splitlines()[-1]
    assert "1,000" in chart
    (tmp_path / "digits.txt").write_text("31415926535 8979323846\n" * 30)
    _, _, chart = cli("data", "inspect", str(tmp_path / "digits.txt"), "--chart").out.partition(
        "by rank"
    )
    assert "words" not in chart
    assert "characters" in chart


class TestChart:
    @pytest.mark.parametrize("columns", [40, 70, 130])
    def test_as_wide_as_the_terminal(
        self, columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("COLUMNS", str(columns))
        print_chart([curve("a", 3, 2, 1)], "step", "loss")
        lines = capsys.readouterr().out.splitlines()
        assert max(map(len, lines)) == columns

    def test_axes_with_round_values(self, capsys: pytest.CaptureFixture[str]) -> None:
        print_chart([Curve("a", np.arange(1.0, 1001), np.linspace(4, 2, 1000))], "step", "loss")
        *plot, steps, labels = capsys.readouterr().out.splitlines()
        assert steps.split() == ["200", "400", "600", "800", "1,000"]
        assert labels.split() == ["loss", "step"]
        assert [line.partition("┤")[0].strip() for line in plot if "┤" in line] == [
            "4.0",
            "3.5",
            "3.0",
            "2.5",
            "2.0",
        ]

    def test_points_lie_where_they_belong(self, capsys: pytest.CaptureFixture[str]) -> None:
        falls, rises = curve("falls", 10, 1), curve("rises", 1, 10)
        print_chart([falls, rises], "step", "loss")
        plot = [
            line.partition("│")[2] or line.partition("┤")[2]
            for line in capsys.readouterr().out.splitlines()
        ]
        rows = [line for line in plot if line]
        assert "+" not in rows[0][:10]
        assert "+" in rows[0][-10:]
        assert "+" in rows[-1][:10]
        assert "+" not in rows[-1][-10:]

    def test_without_colours_each_curve_has_its_mark(
        self, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        curves = [curve(f"run {number}", number, number) for number in range(MOST_CURVES)]
        with contextlib.redirect_stdout(terminal):
            print_chart(curves, "step", "loss")
        assert len(set(COLOURS.findall(terminal.getvalue()))) == MOST_CURVES
        monkeypatch.setenv("NO_COLOR", "1")
        with contextlib.redirect_stdout(Terminal()) as plain:
            print_chart(curves, "step", "loss")
        assert "\x1b" not in plain.getvalue()
        legend = plain.getvalue().splitlines()[0]
        assert len(set(re.findall(r"(\S)\S run", legend))) == MOST_CURVES

    def test_what_is_not_finite_is_left_out(self, capsys: pytest.CaptureFixture[str]) -> None:
        print_chart([curve("a", np.nan, 2, np.inf, 1), curve("b", np.nan)], "step", "loss")
        out = capsys.readouterr().out
        assert " a" in out
        assert " b" not in out
        print_chart([curve("b", np.nan)], "step", "loss")
        assert capsys.readouterr().out == ""

    def test_a_single_point(self, capsys: pytest.CaptureFixture[str]) -> None:
        print_chart([curve("a", 2.5)], "step", "loss")
        out = capsys.readouterr().out
        assert "2.5┤" in out

    def test_a_name_does_not_steer_the_terminal(self, capsys: pytest.CaptureFixture[str]) -> None:
        print_chart([curve("a\x1b[2Jb", 1, 2)], "step", "loss")
        assert "\x1b" not in capsys.readouterr().out

    def test_ascii_where_the_encoding_has_no_better(self, tmp_path: Path) -> None:
        program = """
import numpy as np
from shakespeare_tui.cli.charts import Curve, print_chart
print_chart([Curve(name, np.arange(1.0, 9), np.arange(1.0, 9)) for name in "ab"], "step", "loss")
"""
        done = subprocess.run(
            [sys.executable, "-X", "utf8=0", "-c", program],
            capture_output=True,
            env={"PYTHONIOENCODING": "ascii"},
            cwd=tmp_path,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.isascii()
        assert done.stdout.startswith(b"** a  ++ b\n")
