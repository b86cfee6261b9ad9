import json
import subprocess
import sys
from pathlib import Path

import pytest

from shakespeare_tui.cli.main import main
from shakespeare_tui.config.load import load_config, parse_config, preset_names


def test_list_names_every_preset_with_its_purpose(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "list"]) == 0
    out = capsys.readouterr().out
    starts = [line.split()[0] for line in out.splitlines() if not line.startswith(" ")]
    assert starts == preset_names()
    assert main(["config", "list", "--json"]) == 0
    presets = json.loads(capsys.readouterr().out)["presets"]
    assert [preset["name"] for preset in presets if preset["default"]] == ["quick"]
    assert all(Path(preset["path"]).is_file() for preset in presets)


def test_list_fits_a_narrow_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    for command in ("list", "guide"):
        main(["config", command])
        lines = capsys.readouterr().out.splitlines()
        assert max(len(line) for line in lines if "--set" not in line) <= 40


def test_shown_config_is_the_config(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    arguments = ["tiny", "--set", "model.n_layers=3", "--set", 'sampling.prompts=["O:"]']
    assert main(["config", "show", *arguments]) == 0
    out = capsys.readouterr().out
    wanted = load_config("tiny", ["model.n_layers=3", 'sampling.prompts=["O:"]'])
    assert parse_config(out, "-") == wanted
    assert "  # Transformer blocks. [1 to 256]\n  n_layers: 3\n" in out
    path = tmp_path / "mine.yaml"
    path.write_text(out, encoding="utf-8")
    assert main(["config", "show", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == wanted.model_dump(mode="json")


def test_wrong_override_exits_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "show", "tiny", "--set", "model.n_layer=3"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == (
        "error: --set model.n_layer=3: unknown key; it is called model.n_layers here\n"
    )


class TestCheck:
    @pytest.fixture
    def files(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        Path("good.yaml").write_text("model: {d_model: 64}")
        Path("bad.yaml").write_text("model:\n  d_model: 0\n  n_heads: x\n")

    def test_all_problems_of_all_files(
        self, files: None, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["config", "check", "good.yaml"]) == 0
        assert capsys.readouterr().out == "good.yaml: ok\n"
        assert main(["config", "check", "bad.yaml", "good.yaml", "quik"]) == 2
        captured = capsys.readouterr()
        assert captured.out == "good.yaml: ok\n"
        lines = captured.err.splitlines()
        assert lines[:2] == [
            "error: bad.yaml:2: model.d_model: must be at least 1, got 0",
            "bad.yaml:3: model.n_heads: must be a whole number, got 'x'",
        ]
        assert lines[2].startswith("quik: no such config; did you mean the preset quick?")

    def test_json(self, files: None, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["config", "check", "good.yaml", "bad.yaml", "quik", "--json"]) == 2
        good, bad, missing = json.loads(capsys.readouterr().out)["files"]
        assert good == {"file": "good.yaml", "ok": True, "problems": []}
        assert bad["problems"][0] == {
            "line": 2,
            "key": "model.d_model",
            "message": "must be at least 1, got 0",
        }
        assert (missing["ok"], len(missing["problems"])) == (False, 1)


def test_guide_in_words_and_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "guide"]) == 0
    out = capsys.readouterr().out
    for symptom in ("TOO SLOW:", "QUALITY POOR:", "OVERFITTING:"):
        assert symptom in out
    assert "--set model.dropout=0.2" in out
    assert main(["config", "guide", "--json"]) == 0
    symptoms = json.loads(capsys.readouterr().out)["symptoms"]
    assert symptoms[0]["remedies"][0]["overrides"] == ["training.minutes=2"]


def test_help_loads_neither_the_declaration_nor_torch() -> None:
    code = (
        "import sys, argparse\n"
        "from shakespeare_tui.cli import config, doctor\n"
        "subparsers = argparse.ArgumentParser().add_subparsers()\n"
        "config.add_parser(subparsers); doctor.add_parser(subparsers)\n"
        "print([name for name in ('pydantic', 'yaml', 'torch', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
