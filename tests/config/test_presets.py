import json
import re
from typing import Any

import pytest
import yaml
from real_cli import CommandLine

from shakespeare_tui.config.fields import ConfigField, config_fields, find_field, read_value
from shakespeare_tui.config.guide import TUNING_GUIDE
from shakespeare_tui.config.load import (
    DEFAULT_PRESET,
    load_config,
    preset_description,
    preset_names,
    preset_path,
)
from shakespeare_tui.config.schema import Config
from shakespeare_tui.errors import UserError
from shakespeare_tui.formatting import parse_duration
from shakespeare_tui.models.parameters import count_parameters
from shakespeare_tui.models.pretrained.hugging_face import folder_config
from shakespeare_tui.training.schedules import learning_rate_factor

PRESETS = [
    *("base", "best", "dash", "gpt2", "gpu", "lap", "mile", "nanogpt-cpu", "nanogpt-gpu"),
    *("numpy", "quick", "shakespeare", "sprint", "tiny", "tinystories"),
]
CHARACTERS_OF_TINY_SHAKESPEARE = 65


def shape(config: Config) -> tuple[int, int, int, int, int]:
    model = config.model
    return (
        model.d_model,
        model.n_layers,
        model.n_heads,
        model.feedforward_width,
        model.max_seq_len,
    )


def shipped_schema() -> dict[str, Any]:
    path = preset_path("tiny").parent / "schema.json"
    schema: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return schema


SCHEMA = shipped_schema()


def section_schema(section: str) -> dict[str, Any]:
    name = SCHEMA["properties"][section]["$ref"].removeprefix("#/$defs/")
    schema: dict[str, Any] = SCHEMA["$defs"][name]
    return schema


def kinds_of(field: ConfigField) -> dict[str, dict[str, Any]]:
    """What the schema allows for a setting, by type; of one type the first."""
    schema = section_schema(field.section)["properties"][field.key]
    return {kind["type"]: kind for kind in reversed(schema.get("anyOf", [schema]))}


def test_presets_are_listed() -> None:
    assert preset_names() == PRESETS
    assert DEFAULT_PRESET in PRESETS


@pytest.mark.parametrize("name", PRESETS)
def test_preset_loads_and_says_what_it_is_for(name: str) -> None:
    corpus = "tinystories" if name == "tinystories" else "tiny_shakespeare"
    assert load_config(name).data.corpus == corpus
    description = preset_description(name)
    assert description.endswith(".")
    assert 30 < len(description) < 110


@pytest.mark.parametrize("name", PRESETS)
def test_other_yaml_readers_see_the_same_values(name: str) -> None:
    config = load_config(name).model_dump(mode="json")
    for section, keys in yaml.safe_load(preset_path(name).read_text(encoding="utf-8")).items():
        if "minutes" in keys:  # they see the text of a duration
            assert parse_duration(keys["minutes"]) == 60 * config[section]["minutes"]
            keys["minutes"] = config[section]["minutes"]
        assert keys == {key: config[section][key] for key in keys}


def test_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean the preset shakespeare"):
        preset_path("shakespear")


def test_shapes_are_those_of_the_sources() -> None:
    assert shape(load_config("tiny"))[:2] == (128, 2)
    assert shape(load_config("shakespeare")) == (384, 6, 6, 1536, 256)
    assert load_config("shakespeare").model.dropout == 0.2
    assert shape(load_config("base"))[:2] == (512, 6)
    assert shape(load_config("nanogpt-cpu")) == (128, 4, 4, 512, 64)
    assert shape(load_config("nanogpt-gpu")) == (384, 6, 6, 1536, 256)


@pytest.mark.parametrize(
    ("name", "steps", "batch", "dropout"),
    [("nanogpt-cpu", 2000, 12, 0.0), ("nanogpt-gpu", 5000, 64, 0.2)],
)
def test_known_recipes(name: str, steps: int, batch: int, dropout: float) -> None:
    config = load_config(name)
    model, training = config.model, config.training
    assert (training.max_steps, training.batch_size, model.dropout) == (steps, batch, dropout)
    assert (training.learning_rate, training.final_learning_rate) == (1e-3, 1e-4)
    assert (training.scheduler, training.warmup_steps) == ("cosine", 100)
    assert (training.optimizer, training.beta1, training.beta2) == ("adamw", 0.9, 0.99)
    assert (training.weight_decay, training.grad_clip) == (0.1, 1.0)
    assert (model.positions, model.norm, model.activation) == ("learned", "layernorm", "gelu")
    assert model.tie_weights and not model.bias and not model.qk_norm


@pytest.mark.parametrize(
    ("heads", "layers", "width", "millions"),
    [(2, 2, 64, 0.26), (4, 2, 128, 0.79), (8, 4, 256, 4.72)],
)
def test_sizes_of_tinystories(heads: int, layers: int, width: int, millions: float) -> None:
    """As its first lines say; the one in the middle is the preset itself."""
    text = preset_path("tinystories").read_text(encoding="utf-8")
    comment = " ".join(line.lstrip("# ") for line in text.splitlines() if line.startswith("#"))
    sizes = dict(n_heads=heads, n_layers=layers, d_model=width)
    own = load_config("tinystories")
    sets = [f"model.{key}={n}" for key, n in sizes.items() if getattr(own.model, key) != n]
    assert all(f"--set {line}" in comment for line in sets)
    config = load_config("tinystories", sets)
    assert shape(config) == (width, layers, heads, 4 * width, 256)
    assert config.data.tokenizer == "bpe" and config.data.vocab_size is not None
    assert count_parameters(config.model, config.data.vocab_size) / 1e6 == pytest.approx(
        millions, abs=0.005
    )
    assert f"{millions:.1f}M" in comment or f"{millions:.2f}M" in comment


def test_gpt2_is_the_published_model() -> None:
    config = load_config("gpt2")
    assert count_parameters(config.model, 50_257) == 124_439_808
    assert shape(config) == (768, 12, 12, 3072, 1024)
    training = config.training
    assert (training.scheduler, training.grad_clip) == ("one_cycle", 0.5)
    assert learning_rate_factor(training, 0, 0.0) * training.learning_rate == pytest.approx(2e-5)
    assert training.learning_rate == 2e-4 and training.final_learning_rate == 2e-5
    published = {"model_type": "gpt2", "n_positions": 1024, "n_embd": 768, "n_layer": 12}
    assert folder_config(published, "gpt2") == config.model


@pytest.mark.parametrize(
    ("name", "millions"),
    [("shakespeare", 10.65), ("base", 18.91), ("nanogpt-cpu", 0.80), ("nanogpt-gpu", 10.65)],
)
def test_parameters_named_in_the_descriptions(name: str, millions: float) -> None:
    model = load_config(name).model
    positions = model.max_seq_len * model.d_model if model.positions == "learned" else 0
    count = count_parameters(model, CHARACTERS_OF_TINY_SHAKESPEARE) - positions
    assert round(count / 1e6, 2) == millions


def test_shipped_schema_is_what_the_command_prints(cli: CommandLine) -> None:
    """Mend it with: shakespeare-tui config schema > configs/schema.json."""
    printed = cli("config", "schema")
    assert printed.code == 0
    assert json.loads(printed.out) == SCHEMA


@pytest.mark.parametrize("name", PRESETS)
def test_presets_point_editors_to_the_schema(name: str) -> None:
    first = preset_path(name).read_text(encoding="utf-8").partition("\n")[0]
    assert first == "# yaml-language-server: $schema=schema.json"


def test_schema_describes_every_setting() -> None:
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert SCHEMA["additionalProperties"] is False
    described = {
        f"{section}.{key}": setting["default"]
        for section in SCHEMA["properties"]
        for key, setting in section_schema(section)["properties"].items()
    }
    assert described.keys() == Config().by_path().keys()
    defaults = Config().model_dump(mode="json")
    for path, default in described.items():
        section, _, key = path.partition(".")
        assert default == defaults[section][key]
        part = section_schema(section)
        assert part["additionalProperties"] is False
        assert part["properties"][key]["description"]


def test_files_and_sections_of_comments_only_fit_the_schema() -> None:
    for schema in (SCHEMA, *map(section_schema, SCHEMA["properties"])):
        assert schema["type"] == ["object", "null"]


LIMITS = [
    (field, kind["type"], limit, kind[limit], outwards)
    for field in config_fields()
    for kind in kinds_of(field).values()
    for limit, outwards in (
        ("minimum", -1),
        ("exclusiveMinimum", -1),
        ("maximum", 1),
        ("exclusiveMaximum", 1),
    )
    if limit in kind
]


@pytest.mark.parametrize(
    ("field", "kind", "limit", "value", "outwards"),
    LIMITS,
    ids=[f"{row[0].path} {row[2]}" for row in LIMITS],
)
def test_limits_of_the_schema_are_those_of_the_validation(
    field: ConfigField, kind: str, limit: str, value: float, outwards: int
) -> None:
    step = 1 if kind == "integer" else max(1e-12, abs(value) * 1e-12)
    inside, outside = value, value + outwards * step
    if limit.startswith("exclusive"):
        inside, outside = value - outwards * step, value
    assert read_value(field, inside) == (inside, [])
    assert len(read_value(field, outside)[1]) == 1


def test_every_number_in_the_schema_is_limited_on_both_sides() -> None:
    numbers = [field for field in config_fields() if field.kind in ("integer", "number", "minutes")]
    assert len(LIMITS) == 2 * len(numbers)


def test_choices_and_empty_values_of_the_schema_are_those_of_the_validation() -> None:
    for field in config_fields():
        kinds = kinds_of(field)
        assert ("null" in kinds) == (not read_value(field, None)[1])
        choices = [choice for kind in kinds.values() for choice in kind.get("enum", ())]
        assert choices == list(field.choices) or len(field.choices) == 1
        for choice in choices:
            assert read_value(field, choice) == (choice, [])


def test_durations_and_numbers_of_minutes_fit_the_schema() -> None:
    minutes = find_field("training.minutes")
    assert minutes is not None
    kinds = kinds_of(minutes)
    assert kinds.keys() == {"number", "string", "null"}
    for text in ("1m 40s", "2h"):
        assert re.search(kinds["string"]["pattern"], text)
        assert read_value(minutes, text)[1] == []
    assert not re.search(kinds["string"]["pattern"], "soon")


def test_guide_covers_what_users_meet() -> None:
    names = [symptom.name for symptom in TUNING_GUIDE]
    assert names[:3] == ["too slow", "quality poor", "overfitting"]


@pytest.mark.parametrize(
    "overrides",
    [remedy.overrides for symptom in TUNING_GUIDE for remedy in symptom.remedies],
    ids=" ".join,
)
def test_every_remedy_is_a_config(overrides: tuple[str, ...]) -> None:
    for name in ("quick", "shakespeare"):
        assert load_config(name, overrides) != Config()
