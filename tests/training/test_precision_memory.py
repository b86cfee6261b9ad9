"""The arithmetic that was chosen once is chosen again, whatever a later measurement says."""

from pathlib import Path

import pytest
import torch

from shakespeare_tui.paths import cache_folder
from shakespeare_tui.training.device import remembered_precision

CPU = torch.device("cpu")


def test_the_first_measurement_of_a_shape_holds() -> None:
    assert remembered_precision(CPU, [1, 2], lambda: "bfloat16") == "bfloat16"
    assert remembered_precision(CPU, [1, 2], lambda: "float32") == "bfloat16"
    assert remembered_precision(CPU, [1, 3], lambda: "float32") == "float32"


@pytest.mark.parametrize("content", ["", "[]", '{"a": 3}', "\ud7ff"])
def test_a_damaged_file_is_measured_over(content: str) -> None:
    path = cache_folder() / "precisions.json"
    path.parent.mkdir(parents=True)
    path.write_text(content)
    assert remembered_precision(CPU, "shape", lambda: "bfloat16") == "bfloat16"
    assert remembered_precision(CPU, "shape", lambda: "float32") == "bfloat16"


def test_a_cache_that_cannot_be_written_leaves_the_measurement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SHAKESPEARE_TUI_CACHE", str(tmp_path / "file"))
    assert remembered_precision(CPU, "shape", lambda: "bfloat16") == "bfloat16"
