"""The user's own editor, on a real terminal that the lab hands over and takes back."""

import sys
from pathlib import Path

import pytest

if sys.platform == "win32":
    pytest.skip("there are no pseudo-terminals", allow_module_level=True)

from shakespeare_tui.bench.pseudo_terminal import PseudoTerminal
from shakespeare_tui.errors import UserError
from shakespeare_tui.ui.config.files import editor_command

# Writes 7 layers the first time, nonsense the second, and says so on the terminal it was given.
EDITOR = """
import pathlib, re, sys
path = pathlib.Path(sys.argv[1])
text = path.read_text()
value = "many" if "n_layers: 7" in text else "7"
path.write_text(re.sub("n_layers: .*", "n_layers: " + value, text))
print("EDITOR HERE" if sys.stdin.isatty() else "no terminal")
"""


def test_the_editor_gets_the_terminal_and_the_form_its_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "editor.py"
    script.write_text(EDITOR)
    monkeypatch.setenv("VISUAL", f"{sys.executable} {script}")
    program = [sys.executable, "-m", "shakespeare_tui"]
    kept = tmp_path / "config" / "config-draft.edit.yaml"
    with PseudoTerminal(program, columns=100, rows=30, folder=tmp_path) as terminal:
        terminal.wait_for("Config")
        terminal.press("2", "Pre-flight")
        terminal.press("e", "(?s)EDITOR HERE.*took your edit")
        assert not kept.exists()
        terminal.press("e", "(?s)Your edit has errors.*got 'many'")
        terminal.press("\x1b", "your text is kept")
        assert "n_layers: many" in kept.read_text()
        terminal.send("q")
        assert terminal.wait() == 0
    assert '"model.n_layers": "7"' in (tmp_path / "config" / "config-draft.json").read_text()


def test_the_editor_is_the_users_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDITOR", "emacs -nw")
    monkeypatch.delenv("VISUAL", raising=False)
    assert editor_command() == ["emacs", "-nw"]
    monkeypatch.setenv("VISUAL", "'/opt/my editor' --wait")
    assert editor_command() == ["/opt/my editor", "--wait"]
    monkeypatch.setenv("VISUAL", "'unclosed")
    with pytest.raises(UserError, match="VISUAL"):
        editor_command()


def test_without_any_editor_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("VISUAL", "EDITOR", "PATH"):
        monkeypatch.setenv(name, "")
    with pytest.raises(UserError, match=r"set \$EDITOR"):
        editor_command()
