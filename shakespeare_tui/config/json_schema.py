"""The JSON Schema (draft 2020-12) of a config, so that editors complete and check the YAML."""

from typing import Any

from shakespeare_tui.config.fields import ConfigField, config_fields, section_help, section_types
from shakespeare_tui.formatting import DURATION_PATTERN

_TYPES = {"integer": "integer", "number": "number", "boolean": "boolean", "texts": "array"}
_LIMITS = {
    "minimum": "minimum",
    "above": "exclusiveMinimum",
    "maximum": "maximum",
    "below": "exclusiveMaximum",
}


def config_schema() -> dict[str, Any]:
    """The schema of a config file: types, ranges, defaults and help of every setting."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "shakespeare-tui config",
        "description": "Everything that defines a run.",
        # A file or a section with nothing but comments is null to YAML, and means the defaults.
        "type": ["object", "null"],
        "properties": {section: _section_schema(section) for section in section_types()},
        "additionalProperties": False,
    }


def _section_schema(section: str) -> dict[str, Any]:
    fields = [field for field in config_fields() if field.section == section]
    return {
        "description": section_help(section),
        "type": ["object", "null"],
        "properties": {field.key: _field_schema(field) for field in fields},
        "additionalProperties": False,
    }


def _field_schema(field: ConfigField) -> dict[str, Any]:
    kinds = ["number", "string"] if field.kind == "minutes" else [_TYPES.get(field.kind, "string")]
    if field.optional:
        kinds.append("null")
    schema: dict[str, Any] = {
        "description": field.help,
        "type": kinds if len(kinds) > 1 else kinds[0],
        "default": list(field.default) if isinstance(field.default, tuple) else field.default,
    }
    for ours, theirs in _LIMITS.items():
        if (limit := getattr(field, ours)) is not None:
            schema[theirs] = limit
    if field.choices:
        schema["enum"] = list(field.choices)
    if field.kind == "texts":
        schema["items"] = {"type": "string", "minLength": 1}
        schema["maxItems"] = field.most_items
    elif field.kind == "minutes":
        schema["pattern"] = DURATION_PATTERN
        schema["examples"] = ["1m 40s", 2]
    elif field.kind == "text":
        schema["minLength"] = 1
    if field.pattern:
        schema["pattern"] = field.pattern
        schema["examples"] = list(field.examples)
    return schema
