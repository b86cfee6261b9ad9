"""``completion``: print what makes a shell complete commands, options, runs and presets.

The shell then asks the program itself at each tab, through argcomplete: what is offered is what
the parser of that moment knows.
"""

import argparse
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from shakespeare_tui.cli.console import write_text

SHELLS = ("bash", "zsh", "fish")
_Action = TypeVar("_Action", bound=argparse.Action)


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = subparsers.add_parser(
        "completion",
        help="print the completion of a shell",
        description="Print what makes a shell complete commands, options, runs, presets and "
        "settings.",
        epilog='To use it, write into ~/.bashrc: eval "$(shakespeare-tui completion bash)"; into '
        '~/.zshrc, after compinit: eval "$(shakespeare-tui completion zsh)"; into '
        "~/.config/fish/config.fish: shakespeare-tui completion fish | source",
    )
    parser.add_argument("shell", choices=SHELLS, metavar="SHELL", help="bash, zsh or fish")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the shell's code."""
    from argcomplete.shell_integration import shellcode

    write_text(shellcode(["shakespeare-tui"], shell=arguments.shell).strip() + "\n")
    return 0


def answer(parser: argparse.ArgumentParser) -> None:
    """Tell the shell that asked what could stand here, and leave."""
    import argcomplete

    argcomplete.autocomplete(parser, always_complete_options="long")


def completes(action: _Action, words: Callable[[str], Iterable[str]]) -> _Action:
    """Let ``words(beginning)`` say what an argument may be; those that fit are offered."""

    def complete(prefix: str, **context: object) -> list[str]:
        # Names that would have to be quoted, or that steer a terminal, are left to the user.
        return [word for word in words(prefix) if word.isascii() and word.isprintable()]

    action.completer = complete  # type: ignore[attr-defined]
    return action


def experiment_names(prefix: str) -> Iterable[str]:
    """Experiments that were begun, and those that ship with the program."""
    from shakespeare_tui.experiments.folder import list_experiments
    from shakespeare_tui.experiments.schema import shipped_experiments
    from shakespeare_tui.paths import experiments_folder

    begun = [folder.name for folder in list_experiments(experiments_folder())]
    return dict.fromkeys([*begun, *shipped_experiments()])


def run_names(prefix: str) -> Iterable[str]:
    """All runs."""
    from shakespeare_tui.paths import runs_folder
    from shakespeare_tui.runs.folder import list_runs

    return [run.name for run in list_runs(runs_folder())]


def checkpoint_names(prefix: str) -> Iterable[str]:
    """All runs; after ``RUN@`` what can follow."""
    from shakespeare_tui.paths import runs_folder
    from shakespeare_tui.runs.folder import RunFolder

    name, at, _ = prefix.rpartition("@")
    if not at:
        return run_names(prefix)
    run = RunFolder(runs_folder() / name)
    return [f"{name}@{where}" for where in ("best", "last", *map(str, run.steps()))]


def config_names(prefix: str) -> Iterable[str]:
    """Presets, and YAML files."""
    from shakespeare_tui.config.load import preset_names

    return [*preset_names(), *yaml_files(prefix)]


def yaml_files(prefix: str) -> Iterable[str]:
    """YAML files, and folders on the way to them."""
    return files(prefix, (".yaml", ".yml"))


def corpus_names(prefix: str) -> Iterable[str]:
    """Corpora of the catalogue, and text files."""
    from shakespeare_tui.data.catalogue import CATALOGUE

    return [*CATALOGUE, *files(prefix, (".txt",))]


def setting_names(prefix: str) -> Iterable[str]:
    """Settings with their ``=``; after that, the values that a choice may have."""
    from shakespeare_tui.config.fields import config_fields

    path, has_value, _ = prefix.partition("=")
    if not has_value:
        return [f"{field.path}=" for field in config_fields()]
    return [f"{path}={c}" for field in config_fields() if field.path == path for c in field.choices]


def files(prefix: str, suffixes: tuple[str, ...]) -> Iterable[str]:
    """Files and folders that begin like this."""
    folder = Path(prefix).parent if not prefix.endswith("/") else Path(prefix)
    start = "" if folder == Path() and not prefix.startswith("./") else f"{folder}/"
    try:
        found = sorted(folder.iterdir())
    except OSError:
        return []
    return [
        start + path.name + ("/" if path.is_dir() else "")
        for path in found
        if not path.name.startswith(".") and (path.suffix in suffixes or path.is_dir())
    ]
