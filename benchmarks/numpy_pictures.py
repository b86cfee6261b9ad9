"""Make the pictures of docs/numpy.md: attention's gradient, and both backends on one chart.

    python benchmarks/numpy_pictures.py [--runs FOLDER] [--to docs/screens]

Without --runs, the preset `numpy` is trained for 200 steps by each backend, from the same weights
on the same batches, as by the commands in the document. The pictures have colours for light and for
dark pages.
"""

import argparse
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shakespeare_tui.models.numpy_gpt import attention, attention_backward
from shakespeare_tui.runs.event_log import read_events
from shakespeare_tui.runs.events import StepCompleted
from shakespeare_tui.runs.folder import find_run

STEPS = 200
TOLERANCE = 1e-4
STYLE = """
text { font: 13px ui-sans-serif, system-ui, sans-serif; fill: #444; }
.title { font-weight: 600; fill: #222; }
.line { stroke: #999; fill: none; }
.torch { stroke: #e0a040; stroke-width: 6; fill: none; }
.numpy { stroke: #2458a8; stroke-width: 1.5; fill: none; }
.limit { stroke: #c03030; stroke-dasharray: 5 4; fill: none; }
.cell { stroke: #bbb; stroke-width: 0.5; }
.more { fill: #2458a8; } .less { fill: #c03030; }
@media (prefers-color-scheme: dark) {
  text { fill: #bbb; } .title { fill: #eee; } .line { stroke: #777; }
  .torch { stroke: #9a6a20; } .numpy { stroke: #8ab8ff; } .limit { stroke: #ff7070; }
  .cell { stroke: #555; } .more { fill: #6ea4ff; } .less { fill: #ff6a6a; }
}
"""


def main() -> int:
    """Train if needed, draw, say where the pictures are."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, help="a folder with the runs by-numpy and by-torch")
    parser.add_argument("--to", type=Path, default=Path("docs/screens"))
    arguments = parser.parse_args()
    arguments.to.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        root = arguments.runs or Path(folder)
        if arguments.runs is None:
            train_both(root)
        losses = [losses_of(root, name) for name in ("by-numpy", "by-torch")]
    apart = float(np.abs(losses[0] - losses[1]).max())
    print(f"largest difference over {len(losses[0])} steps: {apart:.1e}")
    for name, picture in (
        ("attention-gradient", attention_gradient()),
        ("two-backends", two_backends(*losses)),
    ):
        path = arguments.to / f"{name}.svg"
        path.write_text(picture, encoding="utf-8")
        print(path)
    return 0 if apart <= TOLERANCE else 1


def train_both(root: Path) -> None:
    """One step for the weights that both begin with, then each backend from there."""
    train = [sys.executable, "-m", "shakespeare_tui", "train", "--no-ui", "--config=numpy"]
    quiet = ("--set=sampling.every=0", "--set=training.precision=float32")
    environment = os.environ | {"SHAKESPEARE_TUI_RUNS": str(root)}
    for options in (
        ("--name=start", "--max-steps=1"),
        *(
            ("--from=start@last", f"--name=by-{name}", f"--backend={name}", f"--max-steps={STEPS}")
            for name in ("numpy", "torch")
        ),
    ):
        subprocess.run([*train, *options, *quiet], check=True, env=environment)


def losses_of(root: Path, name: str) -> NDArray[np.float64]:
    """The loss of every step of a run."""
    events = read_events(find_run(name, root).events_path)
    return np.array([e.loss for e in events if isinstance(e, StepCompleted)], np.float64)


# --- both backends -------------------------------------------------------------------------------

_WIDTH, _LEFT, _RIGHT = 720, 62, 20
_TOP, _TALL, _BETWEEN, _SHORT = 34, 220, 62, 110


def two_backends(by_numpy: NDArray[np.float64], by_torch: NDArray[np.float64]) -> str:
    """Both losses in one chart, NumPy's thin upon PyTorch's thick, and their distance below."""
    steps = len(by_numpy)
    x = _LEFT + np.arange(steps) * (_WIDTH - _LEFT - _RIGHT) / max(1, steps - 1)
    both = np.concatenate((by_numpy, by_torch))
    low, high = math.floor(both.min()), math.ceil(both.max())
    parts = [
        _text(_LEFT, 20, "loss of each step, nats per character", "title"),
        *_frame(_TOP, _TALL, [(v, f"{v}") for v in range(low, high + 1)], low, high),
    ]
    for name, losses in (("torch", by_torch), ("numpy", by_numpy)):
        parts.append(_path(x, _TOP + _TALL * (high - losses) / (high - low), name))
    for row, (name, label) in enumerate((("torch", "PyTorch"), ("numpy", "NumPy"))):
        y = _TOP + 24 + 22 * row
        parts.append(_path([_WIDTH - 170, _WIDTH - 130], [y, y], name))
        parts.append(_text(_WIDTH - 120, y + 4, label))
    top = _TOP + _TALL + _BETWEEN
    decades = range(-8, -3)
    parts.append(_text(_LEFT, top - 14, "how far apart they are", "title"))
    parts += _frame(top, _SHORT, [(d, f"1e{d}") for d in decades], decades[0], decades[-1])
    apart = np.log10(np.maximum(np.abs(by_numpy - by_torch), 10.0 ** decades[0]))
    parts.append(_path(x, top + _SHORT * (decades[-1] - apart) / len(decades[1:]), "numpy"))
    limit = top + _SHORT * (decades[-1] - math.log10(TOLERANCE)) / len(decades[1:])
    parts.append(_path([_LEFT, _WIDTH - _RIGHT], [limit, limit], "limit"))
    for step in range(0, steps + 1, 50):
        place = x[min(max(step - 1, 0), steps - 1)]
        parts.append(_text(place, top + _SHORT + 20, f"{max(step, 1)}", anchor="middle"))
    return _svg(_WIDTH, top + _SHORT + 34, parts)


def _frame(
    top: float, height: float, ticks: Sequence[tuple[float, str]], low: float, high: float
) -> Iterable[str]:
    yield _path([_LEFT, _LEFT, _WIDTH - _RIGHT], [top, top + height, top + height], "line")
    for value, label in ticks:
        y = top + height * (high - value) / (high - low)
        yield _path([_LEFT - 5, _LEFT], [y, y], "line")
        yield _text(_LEFT - 9, y + 4, label, anchor="end")


# --- attention's gradient ------------------------------------------------------------------------

_TOKENS, _DEPTH, _CELL, _GAP = 8, 4, 24, 34


def attention_gradient() -> str:
    """P, what the loss asks of it, and the gradient of the scores, of one head, of random numbers.

    The gradients are those of the model's own function: the last picture's products with the keys
    are what ``attention_backward`` gives for the queries.
    """
    generator = np.random.default_rng(5)
    query, key, value, d_y = generator.normal(size=(4, 1, _TOKENS, 1, _DEPTH))
    _, saved = attention(query, key, value)
    # Values that are the places themselves make what attention returns its probabilities.
    places = np.eye(_TOKENS)[None, :, None, :]
    wide = np.concatenate((query, np.zeros((1, _TOKENS, 1, _TOKENS - _DEPTH))), axis=-1)
    wide = wide * math.sqrt(_TOKENS / _DEPTH)
    wide_key = np.concatenate((key, np.zeros((1, _TOKENS, 1, _TOKENS - _DEPTH))), axis=-1)
    p = attention(wide, wide_key, places)[0][0, :, 0]
    d_p = np.tril(d_y[0, :, 0] @ value[0, :, 0].T)
    mean = (d_p * p).sum(-1, keepdims=True)
    d_scores = p * (d_p - mean)
    d_query, _, _ = attention_backward(d_y, saved)
    by_model = d_query[0, :, 0]
    np.testing.assert_allclose(d_scores @ key[0, :, 0] / math.sqrt(_DEPTH), by_model, atol=1e-12)
    panels = (
        ("P: who looks at whom", "each row adds up to 1", p),
        ("d_P: what the loss asks for", "d_Y Vᵀ, each place by itself", d_p),
        ("d_S = P · (d_P − Σ d_P · P)", "each row adds up to 0", d_scores),
    )
    size = _TOKENS * _CELL
    parts: list[str] = []
    for number, (title, note, matrix) in enumerate(panels):
        left = 20 + number * (size + _GAP)
        parts.append(_text(left, 20, title, "title"))
        parts.append(_text(left, 40 + size + 34, note))
        largest = np.abs(matrix).max()
        parts += [
            _cell(left + column * _CELL, 36 + row * _CELL, float(matrix[row, column] / largest))
            for row in range(_TOKENS)
            for column in range(row + 1)
        ]
    legend = 36 + size + 62
    for number, (share, label) in enumerate(((0.8, "more"), (-0.8, "less"))):
        x = 20 + 110 * number
        parts.append(_cell(x, legend, share))
        parts.append(_text(x + _CELL + 8, legend + 17, label))
    parts.append(_text(250, legend + 17, "rows: the token that looks; columns: the one looked at"))
    return _svg(20 + 3 * size + 2 * _GAP + 20, legend + _CELL + 16, parts)


def _cell(x: float, y: float, share: float) -> str:
    kind = "more" if share >= 0 else "less"
    return (
        f'<rect class="cell {kind}" x="{x:.0f}" y="{y:.0f}" width="{_CELL}" height="{_CELL}" '
        f'fill-opacity="{abs(share):.2f}"/>'
    )


# --- SVG -----------------------------------------------------------------------------------------


def _path(x: Iterable[float], y: Iterable[float], kind: str) -> str:
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
    return f'<polyline class="{kind}" points="{points}"/>'


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{text}</text>'


def _svg(width: float, height: float, parts: Iterable[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}">'
    return "\n".join((head, f"<style>{STYLE}</style>", *parts, "</svg>\n"))


if __name__ == "__main__":
    sys.exit(main())
