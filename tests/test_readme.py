"""The README and the documents promise commands, presets and files: all of them are there."""

import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from shakespeare_tui.cli.main import build_parser
from shakespeare_tui.config.load import preset_names

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
SHELL_LINES = [
    line
    for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
]
DOCUMENTS = "".join(
    path.read_text(encoding="utf-8")
    for path in (
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *sorted((ROOT / "docs").glob("*.md")),
    )
)
COMMANDS = [
    command.replace("\\|", "|")
    for command in dict.fromkeys(
        re.findall(r"^shakespeare-tui.*", DOCUMENTS, re.M)
        + re.findall(r"`(shakespeare-tui[^`\n]*)`", DOCUMENTS)
        # What torchrun starts.
        + re.findall(r"-m (shakespeare_tui train[^`\n'$]*)", DOCUMENTS)
    )
    if not command.endswith("--help")
]
MEASUREMENTS = sorted(set(re.findall(r"python (benchmarks/\w+\.py)([^`\n]*)", DOCUMENTS)))


def test_there_are_exactly_two_commands_to_begin_with() -> None:
    begin = [line for line in SHELL_LINES if line.startswith("python3 -m venv")]
    assert len(begin) == 2
    assert begin[0].endswith(".venv/bin/shakespeare-tui train")
    assert begin[1].endswith(".venv/bin/python -m pytest")


def test_ci_installs_and_tests_as_the_readme_says() -> None:
    test_command = next(line for line in SHELL_LINES if line.endswith("-m pytest"))
    assert test_command in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_are_understood(command: str) -> None:
    # What a line of the shell does with the output is its own affair.
    words = shlex.split(re.split(r" [|>] ", command)[0], comments=True)[1:]
    arguments = build_parser().parse_args([word.replace("NAME|FILE", "quick") for word in words])
    assert arguments.command in (words[0] if words else None, None)


@pytest.mark.parametrize(("script", "options"), MEASUREMENTS)
def test_measurements_can_be_made_again(script: str, options: str) -> None:
    source = (ROOT / script).read_text(encoding="utf-8")
    for option in re.findall(r"--[a-z-]+", options):
        assert f'"{option}"' in source


def test_the_dockerfile_passes_its_linter() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    if not hadolint.exists():
        pytest.skip("hadolint is not installed")
    done = subprocess.run([hadolint, ROOT / "Dockerfile"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_presets_and_files_are_there() -> None:
    paragraph = README.partition("\nPresets: ")[2].partition("\n\n")[0]
    assert set(re.findall(r"`([a-z0-9-]+)`", paragraph)) == set(preset_names())
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_the_keys_it_changes_are_there(tmp_path: Path) -> None:
    import shakespeare_tui.ui.app  # noqa: F401
    from shakespeare_tui.ui.keys import check_keymap, known_bindings, load_keymap

    (block,) = re.findall(r"```yaml\n(.*?)```", README.partition("## Keys")[2], re.DOTALL)
    path = tmp_path / "keys.yaml"
    path.write_text(block)
    keymap = load_keymap(path)
    assert len(keymap.keys) == block.count("\n")
    assert keymap.problems == ()
    assert check_keymap(keymap.keys, known_bindings()) == []


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks").glob("*.py")), ids=lambda p: p.stem)
def test_every_benchmark_finds_what_it_imports(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(path.parent))
    runpy.run_path(str(path), run_name="loaded")
