"""The config's declaration as data: what a form, a comment or a message needs of each setting."""

import types
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from shakespeare_tui.config.problems import join_words, nearest, show_value, suggestion
from shakespeare_tui.config.schema import Config, Minutes, OneOf, Section

Kind = Literal["integer", "number", "minutes", "boolean", "text", "choice", "texts"]

_KINDS: dict[Any, Kind] = {int: "integer", float: "number", bool: "boolean", str: "text"}
_NEEDED: dict[Kind, str] = {
    "integer": "a whole number",
    "number": "a number",
    "minutes": "a duration such as 100s, 1m 40s or 2h, or a number of minutes",
    "boolean": "true or false",
    "text": "text",
    "texts": "a list of texts",
}
# The validator's names of constraints, and ours.
_CONSTRAINTS = {
    "ge": "minimum",
    "gt": "above",
    "le": "maximum",
    "lt": "below",
    "pattern": "pattern",
    "max_length": "most_items",
}


@dataclass(frozen=True)
class ConfigField:
    """One setting; limits are None where there are none, ``examples`` fit ``pattern``.

    ``others_help`` says which other values there are beside ``choices``; empty where none.
    """

    section: str
    key: str
    kind: Kind
    optional: bool
    default: Any
    help: str
    minimum: float | None = None
    above: float | None = None
    maximum: float | None = None
    below: float | None = None
    choices: tuple[str, ...] = ()
    others_help: str = ""
    pattern: str | None = None
    examples: tuple[str, ...] = ()
    most_items: int | None = None

    @property
    def path(self) -> str:
        """``section.key``."""
        return f"{self.section}.{self.key}"

    @property
    def range_text(self) -> str:
        """The values that are allowed, in words: ``1 to 256``, ``gelu, relu2 or swiglu``."""
        if self.choices:
            return join_words([*self.choices, *filter(None, [self.others_help])])
        if self.kind == "boolean":
            return "true or false"
        if self.kind in ("text", "texts"):
            return ""
        if self.kind == "minutes":
            return f"a duration up to {_plain(self.maximum)} minutes"
        if self.minimum is not None and self.maximum is not None:
            return f"{_plain(self.minimum)} to {_plain(self.maximum)}"
        low = f"above {_plain(self.above)}" if self.above is not None else ""
        if self.minimum is not None:
            low = f"at least {_plain(self.minimum)}"
        high = f"below {_plain(self.below)}" if self.below is not None else ""
        if self.maximum is not None:
            high = f"at most {_plain(self.maximum)}"
        return ", ".join(part for part in (low, high) if part)


@dataclass(frozen=True)
class FieldProblem:
    """Why a value is refused; ``item`` is the place in a list, None for the value as a whole."""

    message: str
    item: int | None = None


@cache
def section_types() -> dict[str, type[Section]]:
    """The class of every section by its name, in the order of the declaration."""
    hints = get_type_hints(Config)
    return {name: hints[name] for name in Config.model_fields}


def section_help(section: str) -> str:
    """The sentence that says what a section is about."""
    return (section_types()[section].__doc__ or "").strip()


@cache
def config_fields() -> tuple[ConfigField, ...]:
    """Every setting, in the order of the declaration."""
    return tuple(
        _describe(section, key, info)
        for section, section_type in section_types().items()
        for key, info in section_type.model_fields.items()
    )


@cache
def _fields_by_path() -> dict[str, ConfigField]:
    return {field.path: field for field in config_fields()}


def find_field(path: str) -> ConfigField | None:
    """The setting at ``section.key``, or None."""
    return _fields_by_path().get(path)


def nested(values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """``section.key`` settings as sections of keys; every section is there."""
    sections: dict[str, dict[str, Any]] = {name: {} for name in section_types()}
    for path, value in values.items():
        section, _, key = path.partition(".")
        sections[section][key] = value
    return sections


def read_value(field: ConfigField, raw: Any) -> tuple[Any, list[FieldProblem]]:
    """Convert and check one value, by itself, without the rules that tie settings together.

    Args:
        field: The setting.
        raw: A Python value, or a number or ``true`` as text, the way a person writes it.

    Returns:
        The value and no problems, or None and at least one problem.
    """
    try:
        return _adapter(field.path).validate_python(raw), []
    except ValidationError as error:
        return None, [_explain(field, raw, details) for details in error.errors(include_url=False)]


@cache
def _adapter(path: str) -> TypeAdapter[Any]:
    section, _, key = path.partition(".")
    info = section_types()[section].model_fields[key]
    annotation: Any = info.annotation
    return TypeAdapter(Annotated[annotation, *info.metadata] if info.metadata else annotation)


def _describe(section: str, key: str, info: FieldInfo) -> ConfigField:
    annotation = info.annotation
    optional = get_origin(annotation) in (Union, types.UnionType)
    if optional:
        annotation = next(part for part in get_args(annotation) if part is not type(None))
    is_minutes = annotation == Minutes
    constraints = list(info.metadata)
    if get_origin(annotation) is Annotated:
        annotation, *inner = get_args(annotation)
        for part in inner:
            constraints += part.metadata if isinstance(part, FieldInfo) else [part]
    choices: tuple[str, ...] = ()
    others_help = ""
    kind: Kind
    if get_origin(annotation) is Literal:
        choices, kind = get_args(annotation), "choice"
    elif get_origin(annotation) is tuple:
        kind = "texts"
    elif is_minutes:
        kind = "minutes"
    else:
        kind = _KINDS[annotation]
    limits: dict[str, Any] = {}
    for constraint in constraints:
        if isinstance(constraint, OneOf):
            choices, kind = tuple(constraint.names), "choice"
            others_help = constraint.others_help
        for theirs, ours in _CONSTRAINTS.items():
            if getattr(constraint, theirs, None) is not None:
                limits[ours] = getattr(constraint, theirs)
    return ConfigField(
        section=section,
        key=key,
        kind=kind,
        optional=optional,
        default=info.default,
        help=info.description or "",
        choices=choices,
        others_help=others_help,
        examples=tuple(info.examples or ()),
        **limits,
    )


def _plain(number: float | None) -> str:
    if number == 2**63:
        return "2^63"
    if isinstance(number, int):
        return f"{number:,}"
    return f"{number:g}"


def _explain(field: ConfigField, raw: Any, details: ErrorDetails) -> FieldProblem:
    """One problem of one value, in words for people instead of the validator's."""
    item = next((part for part in details["loc"] if isinstance(part, int)), None)
    limits = details.get("ctx", {})
    got = show_value(raw if item is None else details["input"])
    match details["type"]:
        case "greater_than_equal":
            need = f"must be at least {_plain(limits['ge'])}, got {got}"
        case "greater_than":
            need = f"must be above {_plain(limits['gt'])}, got {got}"
        case "less_than_equal":
            need = f"must be at most {_plain(limits['le'])}, got {got}"
        case "less_than":
            need = f"must be below {_plain(limits['lt'])}, got {got}"
        case "finite_number":
            need = f"must be a finite number, got {got}"
        case "literal_error":
            need = f"must be {field.range_text}, got {got}"
            need += suggestion(str(raw), field.choices)
        case "string_pattern_mismatch":
            need = f"must look like {join_words(field.examples)}, got {got}"
        case "string_too_short":
            need = "must not be empty"
        case "too_long":
            need = f"must be a list of at most {limits['max_length']} texts"
        case _ if item is not None:
            need = f"must be text, got {got}"
        case _:
            orelse = " or empty" if field.optional else ""
            need = f"must be {_NEEDED.get(field.kind, 'text')}{orelse}, got {got}"
    return FieldProblem(need, item)


# What other programs call the same thing, where the spelling alone would not lead there.
_CALLED_ELSEWHERE = {
    "n_embd": "model.d_model",
    "hidden_size": "model.d_model",
    "num_heads": "model.n_heads",
    "num_key_value_heads": "model.n_kv_heads",
    "num_layers": "model.n_layers",
    "block_size": "model.max_seq_len",
    "context_length": "model.max_seq_len",
    "ffn_dim": "model.d_ff",
    "intermediate_size": "model.d_ff",
    "lr": "training.learning_rate",
    "max_iters": "training.max_steps",
    "steps": "training.max_steps",
    "warmup_iters": "training.warmup_steps",
    "eval_interval": "training.eval_every",
    "gradient_accumulation_steps": "training.grad_accumulation",
    "dataset": "data.corpus",
    "n_head": "model.n_heads",
    "n_layer": "model.n_layers",
    "max_new_tokens": "sampling.max_tokens",
}


def unknown_key(section: str, key: str) -> str:
    """Say that ``section`` has no ``key``, and what to write instead."""
    if homes := _sections_with(key):
        return f"{key} belongs under {join_words(homes)}, not under {section}"
    keys = list(section_types()[section].model_fields)
    if target := _CALLED_ELSEWHERE.get(key):
        return f"unknown key; it is called {target} here"
    if found := nearest(key, keys):
        return f"unknown key; did you mean {found}?"
    if found := nearest(key, [field.key for field in config_fields()]):
        homes = _sections_with(found)
        return f"unknown key; did you mean {found}, which belongs under {join_words(homes)}?"
    return f"unknown key; {section} has {join_words(keys, 'and')}"


def unknown_section(name: str) -> str:
    """Say that there is no section ``name``, and what to write instead."""
    if field := find_field(name):
        return f"write {field.key} on its own line, indented, under '{field.section}:'"
    if homes := _sections_with(name):
        return f"{name} belongs under {join_words(homes)}"
    if target := _CALLED_ELSEWHERE.get(name):
        return f"unknown section; the setting is called {target} here"
    if found := nearest(name, section_types()):
        return f"unknown section; did you mean {found}?"
    if found := nearest(name, [field.key for field in config_fields()]):
        homes = _sections_with(found)
        return f"unknown section; did you mean {found}, which belongs under {join_words(homes)}?"
    return f"unknown section; there are {join_words(list(section_types()), 'and')}"


def unknown_path(path: str) -> str:
    """Say that an override names no setting, and what to write instead."""
    section, _, key = path.partition(".")
    if section in section_types():
        if not key:
            example = next(field.path for field in config_fields() if field.section == section)
            return f"{section} is a section; name one of its keys, such as {example}"
        return unknown_key(section, key)
    if homes := _sections_with(path):
        return f"{path} belongs under {join_words(homes)}; write {join_words(_paths_of(path))}"
    if target := _CALLED_ELSEWHERE.get(key or section):
        return f"unknown setting; it is called {target} here"
    if found := nearest(path, [field.path for field in config_fields()]):
        return f"unknown setting; did you mean {found}?"
    if found := nearest(key or section, [field.key for field in config_fields()]):
        return f"unknown setting; did you mean {join_words(_paths_of(found))}?"
    return (
        f"unknown setting; write SECTION.KEY=VALUE with one of {join_words(list(section_types()))}"
    )


def _paths_of(key: str) -> list[str]:
    return [field.path for field in config_fields() if field.key == key]


def _sections_with(key: str) -> list[str]:
    return [field.section for field in config_fields() if field.key == key]
