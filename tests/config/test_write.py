from typing import Any

import pytest
import yaml
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from shakespeare_tui.config.fields import ConfigField, config_fields, find_field
from shakespeare_tui.config.load import parse_config
from shakespeare_tui.config.schema import Config, broken_rules
from shakespeare_tui.config.write import config_to_yaml, write_scalar
from shakespeare_tui.formatting import parse_duration

DEVICES = ["auto", "cpu", "mps", "cuda", "cuda:0", "cuda:12"]


def valid_values(field: ConfigField) -> st.SearchStrategy[Any]:
    values: st.SearchStrategy[Any]
    if field.path == "training.device":
        values = st.sampled_from(DEVICES)
    elif field.kind == "choice":
        values = st.sampled_from(field.choices)
    elif field.kind == "boolean":
        values = st.booleans()
    elif field.kind == "text":
        values = st.text(min_size=1)
    elif field.kind == "texts":
        values = st.lists(st.text(min_size=1), max_size=4).map(tuple)
    elif field.kind == "integer":
        low = field.minimum if field.minimum is not None else (field.above or 0) + 1
        high = field.maximum if field.maximum is not None else (field.below or 0) - 1
        values = st.integers(int(low), int(high))
    else:
        values = st.floats(
            field.minimum if field.minimum is not None else field.above,
            field.maximum if field.maximum is not None else field.below,
            exclude_min=field.minimum is None,
            exclude_max=field.maximum is None,
        )
    return values | st.none() if field.optional else values


@st.composite
def configs(draw: st.DrawFn) -> Config:
    values = {field.path: draw(valid_values(field)) for field in config_fields()}
    values["model.n_heads"] = draw(st.integers(1, 32))
    values["model.d_model"] = values["model.n_heads"] * 2 * draw(st.integers(1, 128))
    heads = [k for k in range(1, 33) if values["model.n_heads"] % k == 0]
    values["model.n_kv_heads"] = draw(st.none() | st.sampled_from(heads))
    values["model.head_dim"] = draw(st.none() | st.integers(1, 64).map(lambda half: 2 * half))
    values["model.ngram_embedding"] = draw(st.sampled_from((0, 2, 3)))
    if values["training.lora_rank"]:
        values["training.train_blocks"], values["training.ema_decay"] = None, 0.0
        values["training.optimizer"] = "adamw"
    if values["training.backend"] == "numpy":
        values["training.device"], values["training.precision"] = "auto", "float32"
        values["training.lora_rank"], values["training.train_blocks"] = 0, None
        values["training.grad_checkpointing"] = False
    low, high = sorted(draw(st.tuples(st.integers(2, 131072), st.integers(2, 131072))))
    values["model.max_seq_len"] = high
    if values["data.seq_len"] is not None:
        values["data.seq_len"] = low
    if values["training.min_lr"] is not None:
        values["training.min_lr"] = values["training.learning_rate"] * draw(st.floats(0, 1))
    nested: dict[str, dict[str, Any]] = {}
    for path, value in values.items():
        section, _, key = path.partition(".")
        nested.setdefault(section, {})[key] = value
    return Config.model_validate(nested)


@given(configs(), st.booleans())
@settings(max_examples=30, deadline=None)
def test_written_config_reads_back_equal(config: Config, comments: bool) -> None:
    assert parse_config(config_to_yaml(config, comments), "mine.yaml") == config


@given(configs())
@settings(max_examples=30, deadline=None)
def test_other_yaml_readers_see_the_same_values(config: Config) -> None:
    seen = yaml.safe_load(config_to_yaml(config))
    if isinstance(seen["training"]["minutes"], str):  # a duration, which to them is a text
        seconds = parse_duration(seen["training"]["minutes"])
        assert seconds is not None
        seen["training"]["minutes"] = seconds / 60
    assert seen == config.model_dump(mode="json")


@pytest.mark.parametrize("written", ["100s", "1m 40s", "1.6666666666666667"])
def test_a_time_budget_is_written_as_a_duration(written: str) -> None:
    config = parse_config(f"training: {{minutes: {written}}}", "mine.yaml")
    assert config.training.minutes == 100 / 60
    assert "  minutes: 1m 40s\n" in config_to_yaml(config)
    assert parse_config(config_to_yaml(config), "mine.yaml") == config


def test_counts_are_read_with_thousands_separators() -> None:
    config = parse_config("training: {max_steps: 131_072}", "-", ["data.stride=131,072"])
    assert config.training.max_steps == config.data.stride == 131_072


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_any_valid_override_is_taken_as_it_is(data: st.DataObject) -> None:
    field = data.draw(st.sampled_from(config_fields()))
    value = data.draw(valid_values(field))
    values = {**Config().by_path(), field.path: value}
    assume(not broken_rules(values, field.section) and not broken_rules(values, None))
    if isinstance(value, tuple):
        text = f"[{', '.join(write_scalar(item) for item in value)}]"
    else:
        text = write_scalar(value)
    config = parse_config("", "-", [f"{field.path}={text}"])
    assert config.by_path() == values


def test_every_setting_is_explained() -> None:
    lines = config_to_yaml(Config()).splitlines()
    assert max(map(len, lines)) <= 88
    for field in config_fields():
        assert field.help.endswith("."), field.path
        assert field.help.split()[0] in " ".join(lines)
    at = lines.index("  n_heads: 4")
    assert lines[at - 1] == "  # Attention heads; must divide d_model. [1 to 256]"
    at = lines.index("  positions: rope")
    assert lines[at - 1].endswith("[sinusoidal, learned or rope]")


def test_without_comments_there_are_only_values() -> None:
    assert "#" not in config_to_yaml(Config(), comments=False)


@pytest.mark.parametrize(
    "text", ["no", "null", "1e3", "~", "a: b", "#x", "ROMEO:\n", "é\u2028\x07"]
)
def test_texts_stay_texts_for_other_yaml_readers(text: str) -> None:
    written = write_scalar(text)
    assert "\n" not in written
    assert yaml.safe_load(written) == text


def test_long_lists_of_prompts_get_a_line_each() -> None:
    prompts = tuple(f"Speaker number {n}:" for n in range(9))
    config = Config.model_validate({"sampling": {"prompts": prompts}})
    written = config_to_yaml(config, comments=False)
    assert '    - "Speaker number 8:"\n' in written
    assert parse_config(written, "-") == config


def test_every_setting_has_a_default_in_its_range() -> None:
    for field in config_fields():
        config = parse_config("", "-", [f"{field.path}={_as_override(field)}"])
        assert config == Config(), field.path


def _as_override(field: ConfigField) -> str:
    if isinstance(field.default, tuple):
        return f"[{', '.join(write_scalar(item) for item in field.default)}]"
    return write_scalar(field.default)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("model.d_model", "1 to 16,384"),
        ("model.dropout", "at least 0, below 1"),
        ("model.norm_eps", "above 0, at most 0.1"),
        ("training.on_nan", "stop or rollback"),
        ("training.max_steps", "1 to 100,000,000"),
        ("model.bias", "true or false"),
        ("data.corpus", ""),
    ],
)
def test_range_in_words(path: str, text: str) -> None:
    field = find_field(path)
    assert field is not None
    assert field.range_text == text
