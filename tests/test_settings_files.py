import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from shakespeare_tui.errors import UserError
from shakespeare_tui.settings_files import read_json_file, read_yaml_file, set_aside

BOMB = "a: &a [x, x, x, x]\nb: &b [*a, *a, *a, *a]\nc: [*b, *b, *b, *b]\n"


def test_what_yaml_writes_is_read_back(tmp_path: Path) -> None:
    record = {
        "theme": "lab-dark",
        "ascii": False,
        "places": {"n": 7, "x": 0.25, "tiny": 1e-9, "none": None, "text": "true", "digits": "12"},
        "date": "2020-01-02",
        "line": '["ROMEO:\\n", "ü"]',
    }
    path = tmp_path / "settings.yaml"
    path.write_text(yaml.safe_dump(record, allow_unicode=True), encoding="utf-8")
    assert read_yaml_file(path) == record


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("a: 2020-99-99", {"a": "2020-99-99"}),
        ("a: 2020-01-02", {"a": "2020-01-02"}),
        (f"a: {'9' * 400}", {"a": "9" * 400}),
        ("a: .nan\nb: .inf\nc: 1e999", {"a": ".nan", "b": ".inf", "c": "1e999"}),
        ("a: [yes, x, 3]", {"a": [True, "x", 3]}),
    ],
)
def test_odd_values_are_texts(text: str, value: Any, tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(text)
    assert read_yaml_file(path) == value


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (BOMB, "anchors"),
        ("[" * 100_000, "too many levels"),
        ("a: !!python/object/apply:os.system [id]", "tag"),
        ("a: [", "value is missing"),
        ("x" * 5_000_000, "larger than 256 KB"),
        (b"\xff\xfe", "utf-8"),
        (b"\0", "not allowed in YAML"),
    ],
    ids=range(7),
)
def test_a_bad_file_is_refused_at_once(content: str | bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=f"(?i){said}") as caught:
        read_yaml_file(path)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("content", "said"),
    [("[" * 100_000, "deep"), ("{", "Expecting"), ("1" * 5000, "digit"), ("x" * 300_000, "256 KB")],
    ids=range(4),
)
def test_a_bad_json_file_is_refused_at_once(content: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "known.json"
    path.write_text(content)
    with pytest.raises(UserError, match=said):
        read_json_file(path)


@pytest.mark.parametrize("read", [read_yaml_file, read_json_file])
def test_what_is_no_file_is_not_waited_for(read: Any, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for name in ("fifo", ".", "/dev/zero"):
        with pytest.raises(UserError, match="not a regular file"):
            read(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "none")


def test_what_is_set_aside_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text("[")
    assert "settings.yaml.damaged" in set_aside(path)
    assert not path.exists()
    assert (tmp_path / "settings.yaml.damaged").read_text() == "["
    assert "cannot be renamed" in set_aside(path)
