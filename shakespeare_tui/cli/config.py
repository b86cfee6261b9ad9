"""``config``: list, show and check configs, print their schema and the tuning guide."""

import argparse
import shutil
import textwrap
from typing import Any

from shakespeare_tui.cli.completion import completes, config_names, setting_names
from shakespeare_tui.cli.console import print_grid, print_json, print_result, write_text
from shakespeare_tui.errors import UserError


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = subparsers.add_parser(
        "config",
        help="list, show and check configs; tuning guide",
        description="Work with configs: presets that ship with the program, and YAML files.",
        epilog="What to change when training is too slow, quality is poor or the model overfits: "
        "shakespeare-tui config guide",
    )
    actions = parser.add_subparsers(title="actions", dest="action", metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="list the presets")
    listing.set_defaults(run=run_list)
    show = actions.add_parser(
        "show",
        help="print a config with every setting",
        description="Print a config with every setting, its help and its range, as YAML.",
        epilog="Example: shakespeare-tui config show tiny --set model.n_layers=3 > mine.yaml",
    )
    shown = show.add_argument("config", metavar="NAME|FILE", help="a preset or a YAML file")
    completes(shown, config_names)
    add_overrides(show)
    show.set_defaults(run=run_show)
    check = actions.add_parser("check", help="check YAML files and report all problems at once")
    files = check.add_argument("files", metavar="FILE", nargs="+", help="a YAML file or a preset")
    completes(files, config_names)
    check.set_defaults(run=run_check)
    schema = actions.add_parser(
        "schema",
        help="print the JSON Schema",
        description="Print the JSON Schema of configs, with which editors complete the YAML.",
        epilog="To use it, save it beside the config as schema.json and begin the config with: "
        "# yaml-language-server: $schema=schema.json",
    )
    schema.set_defaults(run=run_schema)
    guide = actions.add_parser("guide", help="what to change when training goes badly")
    guide.set_defaults(run=run_guide)
    for action in (listing, show, check, schema, guide):
        action.add_argument("--json", action="store_true", help="print JSON")


def add_overrides(parser: argparse.ArgumentParser) -> None:
    """``--set``, as often as wanted."""
    overrides = parser.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="override any setting; repeatable",
    )
    completes(overrides, setting_names)


def run_list(arguments: argparse.Namespace) -> int:
    """Print the presets, a line each."""
    from shakespeare_tui.config import load as config_loading

    presets = [
        {
            "name": name,
            "description": config_loading.preset_description(name),
            "default": name == config_loading.DEFAULT_PRESET,
            "path": str(config_loading.preset_path(name)),
        }
        for name in config_loading.preset_names()
    ]
    if arguments.json:
        print_json({"presets": presets})
        return 0
    print_grid((str(preset["name"]), str(preset["description"])) for preset in presets)
    return 0


def run_show(arguments: argparse.Namespace) -> int:
    """Print a resolved config."""
    from shakespeare_tui.config.load import load_config
    from shakespeare_tui.config.write import config_to_yaml

    config = load_config(arguments.config, arguments.overrides)
    if arguments.json:
        print_json(config.model_dump(mode="json"))
    else:
        write_text(config_to_yaml(config))
    return 0


def run_check(arguments: argparse.Namespace) -> int:
    """Check every file; 2 where one is wrong."""
    from shakespeare_tui.config.load import load_config

    errors: dict[str, UserError] = {}
    for file in arguments.files:
        try:
            load_config(file)
        except UserError as error:
            errors[file] = error
        if not arguments.json and file not in errors:
            print_result(f"{file}: ok")
    if arguments.json:
        print_json({"files": [_check_result(file, errors.get(file)) for file in arguments.files]})
        return 2 if errors else 0
    if errors:
        raise UserError("\n".join(str(error) for error in errors.values()))
    return 0


def run_schema(arguments: argparse.Namespace) -> int:
    """Print the JSON Schema; it is JSON with and without ``--json``."""
    from pydantic.json_schema import GenerateJsonSchema

    from shakespeare_tui.config.schema import Config

    print_json({"$schema": GenerateJsonSchema.schema_dialect, **Config.model_json_schema()})
    return 0


def run_guide(arguments: argparse.Namespace) -> int:
    """Print the tuning guide."""
    from dataclasses import asdict

    from shakespeare_tui.config.guide import TUNING_GUIDE

    if arguments.json:
        print_json({"symptoms": [asdict(symptom) for symptom in TUNING_GUIDE]})
        return 0
    for number, symptom in enumerate(TUNING_GUIDE):
        if number:
            print_result()
        print_result(_wrapped(f"{symptom.name.upper()}: {symptom.signs}", "", 2))
        for remedy in symptom.remedies:
            # A hard space keeps each --set with its value when the line is folded.
            changes = " ".join(f"--set\xa0{change}" for change in remedy.overrides)
            print_result(_wrapped(changes, "  ", 2).replace("\xa0", " "))
            print_result(_wrapped(remedy.reason, "      ", 6))
    return 0


def _check_result(file: str, error: UserError | None) -> dict[str, Any]:
    from shakespeare_tui.config.problems import ConfigError

    problems: list[dict[str, Any]] = []
    if isinstance(error, ConfigError):
        problems = [
            {"line": problem.line, "key": problem.path, "message": problem.message}
            for problem in error.problems
        ]
    elif error is not None:
        problems = [{"line": None, "key": "", "message": str(error)}]
    return {"file": file, "ok": error is None, "problems": problems}


def _wrapped(text: str, start: str, indent: int) -> str:
    """``text`` after ``start``, folded at the terminal's width, later lines indented."""
    width = max(30, min(shutil.get_terminal_size().columns, 100))
    return textwrap.fill(
        text,
        width,
        initial_indent=start,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
