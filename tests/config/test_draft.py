import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from shakespeare_tui.config.draft import (
    ConfigDraft,
    DraftStore,
    Origin,
    config_texts,
    draft_record,
    preset_origin,
    read_record,
)
from shakespeare_tui.config.fields import config_fields, find_field
from shakespeare_tui.config.load import ConfigError, load_config, parse_config, preset_names
from shakespeare_tui.config.schema import Config
from shakespeare_tui.config.write import read_text, write_text
from shakespeare_tui.errors import UserError

MOST = 50
PATHS = [field.path for field in config_fields()]
TYPED = st.sampled_from(
    ["", "1", "7", "128", "abc", "1e-3", "true", "rope", '["a", "b"]', "[", "-1"]
)
EDITS = st.one_of(
    st.tuples(st.just("set"), st.sampled_from(PATHS[:6]), TYPED),
    st.tuples(st.just("type"), st.sampled_from(PATHS[:6]), TYPED),
    st.tuples(st.just("load"), st.sampled_from(preset_names()), st.just("")),
    st.tuples(st.sampled_from(["undo", "redo", "end", "cancel"]), st.just(""), st.just("")),
)


# Like a preset, but of values that no retuning changes.
YAML = """
model: {d_model: 128, n_layers: 4, n_heads: 4}
training: {minutes: 100s, learning_rate: 5.0e-3, optimizer: muon, min_lr: 0}
"""
MINE = Origin("preset", "mine", parse_config(YAML, "mine.yaml"), "mine")


def mine() -> ConfigDraft:
    return ConfigDraft(MINE)


class Oracle:
    """Undo as a list of moments and a place in it."""

    def __init__(self, origin: Origin) -> None:
        self.moments: list[tuple[str, dict[str, str]]] = [(origin.name, dict(origin.texts))]
        self.at = 0
        self.typing: tuple[str, str] | None = None

    @property
    def now(self) -> tuple[str, dict[str, str]]:
        name, texts = self.moments[self.at]
        return name, {**texts, **dict([self.typing])} if self.typing else texts

    def step(self, moment: tuple[str, dict[str, str]]) -> None:
        if moment != self.moments[self.at]:
            self.moments[self.at + 1 :] = [moment]
            self.at += 1

    def apply(self, what: str, where: str, text: str) -> None:
        if what == "cancel":
            self.typing = None
            return
        if what == "type" and (self.typing is None or self.typing[0] == where):
            self.typing = (where, text)
            return
        moment = self.now
        self.typing = None
        self.step(moment)
        if what == "set":
            self.step((moment[0], {**moment[1], where: text}))
        elif what == "type":
            self.typing = (where, text)
        elif what == "load":
            self.step((where, dict(preset_origin(where).texts)))
        elif what == "undo":
            self.at = max(0, self.at - 1)
        elif what == "redo":
            self.at = min(len(self.moments) - 1, self.at + 1)


def apply(draft: ConfigDraft, what: str, where: str, text: str) -> None:
    match what:
        case "set":
            draft.set_text(where, text)
        case "type":
            draft.type_text(where, text)
        case "load":
            draft.load(preset_origin(where))
        case "undo":
            draft.undo()
        case "redo":
            draft.redo()
        case "end":
            draft.end_typing()
        case "cancel":
            draft.cancel_typing()


@given(st.lists(EDITS, max_size=25))
@settings(max_examples=100, deadline=None)
def test_undo_and_redo_agree_with_a_list_of_moments(edits: list[tuple[str, str, str]]) -> None:
    draft, oracle = mine(), Oracle(MINE)
    for edit in edits:
        apply(draft, *edit)
        oracle.apply(*edit)
        assert (draft.origin.name, dict(draft.state.texts)) == oracle.now


@given(st.lists(EDITS, max_size=25))
@settings(max_examples=60, deadline=None)
def test_everything_can_be_undone_and_done_again(edits: list[tuple[str, str, str]]) -> None:
    draft = mine()
    for edit in edits:
        apply(draft, *edit)
    draft.end_typing()
    last, steps = draft.state, 0
    while draft.can_undo:
        assert draft.undo() is not None
        steps += 1
    for _ in range(steps):
        draft.redo()
    assert draft.state == last


@given(st.lists(EDITS, max_size=20))
@settings(max_examples=60, deadline=None)
def test_a_draft_read_back_from_disk_is_the_same_and_undoes_the_same(
    edits: list[tuple[str, str, str]],
) -> None:
    draft = mine()
    for edit in edits:
        apply(draft, *edit)
    again = read_record(json.loads(json.dumps(draft_record(draft.history(MOST)))))
    assert again.state == draft.state
    while draft.can_undo or again.can_undo:
        draft.undo()
        again.undo()
        assert again.state == draft.state


@given(st.lists(EDITS, max_size=15))
@settings(max_examples=30, deadline=None)
def test_a_config_comes_out_just_where_the_command_line_would_take_the_file(
    edits: list[tuple[str, str, str]],
) -> None:
    draft = mine()
    for edit in edits:
        apply(draft, *edit)
    try:
        loaded = parse_config(draft.to_yaml(), "draft.yaml")
    except ConfigError as error:
        assert draft.config is None
        # A broken rule may be told beside another of its settings, but in the same words.
        told = {message for messages in draft.problems.values() for message in messages}
        for problem in error.problems:
            assert problem.path in draft.problems or problem.message in told
    else:
        assert draft.config == loaded
        assert not draft.problems


@pytest.mark.parametrize("path", PATHS)
def test_text_that_is_no_value_is_written_as_it_was_typed(path: str) -> None:
    draft = mine()
    draft.set_text(path, "so: [so")
    section, _, key = path.partition(".")
    written = yaml.safe_load(draft.to_yaml())[section][key]
    # Without brackets it is the only item where a setting is a list of texts.
    assert written in ("so: [so", ["so: [so"])


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_texts_read_back_as_the_values_they_show(data: st.DataObject) -> None:
    field = data.draw(st.sampled_from(config_fields()))
    values: dict[str, st.SearchStrategy[Any]] = {
        "integer": st.integers(2, 200),
        "number": st.floats(1e-9, 0.09),
        "minutes": st.floats(1e-9, 1e5) | st.integers(1, 10**6).map(lambda seconds: seconds / 60),
        "boolean": st.booleans(),
        "choice": st.sampled_from(field.choices or ("",)),
        "text": st.sampled_from(["auto", "cpu"])
        if field.pattern
        else st.text(min_size=1).filter(lambda t: t.isprintable()),
        "texts": st.lists(st.text(min_size=1), max_size=3).map(tuple),
    }
    value = data.draw(values[field.kind])
    if field.kind == "number" and 1 in (field.above, field.minimum):
        value += 2
    if field.kind == "integer" and field.maximum is not None:
        value = min(value, int(field.maximum))
    assert read_text(field, write_text(field, value)) == (value, [])


def field_text(path: str, text: str) -> tuple[Any, list[str]]:
    field = find_field(path)
    assert field is not None
    return read_text(field, text)


def test_numbers_are_taken_as_people_write_them_and_shown_short() -> None:
    assert field_text("training.learning_rate", " 1e-3 ") == (0.001, [])
    assert field_text("training.max_steps", "10_000") == (10_000, [])
    assert field_text("training.max_steps", "131,072") == (131_072, [])
    assert field_text("training.minutes", "90s") == (1.5, [])
    assert field_text("training.minutes", "2") == (2, [])
    texts = config_texts(parse_config(YAML, "-", ["model.norm_eps=1.0e-05"]))
    assert texts["training.learning_rate"] == "0.005"
    assert texts["model.norm_eps"] == "1e-5"
    assert texts["training.minutes"] == "1m 40s"
    assert texts["training.max_steps"] == "2,000"
    assert texts["training.seed"] == "1337"
    assert texts["model.d_ff"] == ""


def test_prompts_are_a_list_or_one_plain_text() -> None:
    assert field_text("sampling.prompts", '["ROMEO:", "A\\n"]') == (("ROMEO:", "A\n"), [])
    assert field_text("sampling.prompts", "To be, or not") == (("To be, or not",), [])
    assert field_text("sampling.prompts", "") == ((), [])
    _, problems = field_text("sampling.prompts", "[ROMEO: ]")
    assert "put it in quotes" in problems[0]
    assert field_text("sampling.prompts", '["a"')[1]


def test_a_wrong_value_keeps_its_text_and_says_what_is_needed() -> None:
    draft = mine()
    draft.set_text("model.n_layers", "many")
    assert draft.text("model.n_layers") == "many"
    assert draft.config is None
    assert draft.problems == {"model.n_layers": ("must be a whole number, got 'many'",)}
    draft.set_text("model.n_layers", "")
    assert draft.problems["model.n_layers"] == ("must not be empty; the default is 4",)


def test_a_broken_rule_is_told_beside_the_setting_that_was_changed() -> None:
    draft = mine()
    draft.set_text("model.d_model", "130")
    assert list(draft.problems) == ["model.d_model"]
    assert "n_heads can be 2 or 5" in draft.problems["model.d_model"][0]
    draft.set_text("model.n_heads", "5")
    assert draft.config is not None


def test_several_problems_are_all_told_at_once() -> None:
    draft = mine()
    draft.set_texts({"model.dropout": "1.5", "training.device": "tpu", "data.seq_len": "9999"})
    assert list(draft.problems) == ["model.dropout", "training.device", "data.seq_len"]


def test_a_value_written_otherwise_is_no_change() -> None:
    draft = mine()
    draft.set_text("training.learning_rate", "5e-3")
    assert not draft.changed_paths
    draft.set_text("training.learning_rate", "6e-3")
    assert draft.changed_paths == ("training.learning_rate",)
    draft.reset("training.learning_rate")
    assert not draft.changed_paths


def test_differences_name_both_sides_and_hold_invalid_texts_too() -> None:
    draft = mine()
    draft.set_texts({"model.n_layers": "6", "model.dropout": "much"})
    found = {d.field.path: (d.ours, d.theirs) for d in draft.differences(MINE.config)}
    assert found == {"model.n_layers": ("6", "4"), "model.dropout": ("much", "0")}


def test_undo_tells_which_settings_changed() -> None:
    draft = mine()
    draft.set_text("model.n_layers", "6")
    draft.load(preset_origin("tiny"))
    assert "training.max_steps" in (draft.undo() or ())
    assert draft.origin.name == "mine"
    assert draft.undo() == ("model.n_layers",)
    assert draft.undo() is None
    assert draft.redo() == ("model.n_layers",)


def test_typing_is_one_step_and_escape_brings_back_what_could_be_redone() -> None:
    draft = mine()
    draft.set_text("model.n_layers", "6")
    draft.undo()
    for text in ("", "8", "80"):
        draft.type_text("model.n_layers", text)
    draft.cancel_typing()
    assert draft.text("model.n_layers") == "4"
    assert draft.redo() == ("model.n_layers",)
    draft.undo()
    for text in ("", "8", "80"):
        draft.type_text("model.n_layers", text)
    assert draft.end_typing()
    draft.undo()
    assert draft.text("model.n_layers") == "4"


def test_an_unknown_setting_is_the_callers_mistake() -> None:
    with pytest.raises(KeyError, match=r"model\.width"):
        mine().set_text("model.width", "3")


def test_yaml_with_mistakes_leaves_the_draft_alone() -> None:
    draft = mine()
    draft.set_text("model.n_layers", "6")
    before = draft.state
    with pytest.raises(ConfigError, match="n_layerz"):
        draft.load_yaml("model:\n  n_layerz: 3\n", "edit.yaml")
    assert draft.state == before
    assert draft.load_yaml("model:\n  n_layers: 3\n", "edit.yaml")
    assert draft.text("model.n_layers") == "3"
    assert draft.origin.name == "mine"


def test_a_fork_keeps_the_shape_of_the_weights_it_starts_from() -> None:
    config = load_config("tiny")
    draft = ConfigDraft(Origin("run", "tiny-1", config, "tiny", start_from="tiny-1@100"))
    draft.set_texts({"model.dropout": "0.1", "training.learning_rate": "1e-3"})
    assert draft.config is not None
    draft.set_text("model.n_layers", "3")
    assert "the weights of tiny-1@100 need 2" in draft.problems["model.n_layers"][0]
    draft.forget_weights()
    assert draft.config is not None
    assert draft.origin.start_from is None


def test_a_store_keeps_drafts_between_sessions(tmp_path: Path) -> None:
    store = DraftStore(tmp_path / "settings")
    assert store.open() is None
    draft = mine()
    draft.type_text("model.n_layers", "12x")
    store.save(draft_record(draft.history(MOST)))
    store.close()
    restored = DraftStore(tmp_path / "settings").open()
    assert restored is not None
    assert restored.text("model.n_layers") == "12x"
    restored.undo()
    assert restored.text("model.n_layers") == "4"


def test_two_labs_do_not_overwrite_each_other(tmp_path: Path) -> None:
    first, second = DraftStore(tmp_path), DraftStore(tmp_path)
    first.open()
    second.open()
    ours, theirs = mine(), mine()
    ours.set_text("model.n_layers", "6")
    theirs.set_text("model.n_layers", "8")
    first.save(draft_record(ours.history(MOST)))
    second.save(draft_record(theirs.history(MOST)))
    first.close()
    second.close()
    again = DraftStore(tmp_path).open()
    assert again is not None
    assert again.text("model.n_layers") == "6"


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        "{}",
        '{"format": 99}',
        '{"format": 1, "origins": [], "moments": [], "present": 0}',
        "[" * 100_000,
        '{"format": NaN}',
        '{"format": 1, "origins": [], "moments": [{}], "present": ' + "9" * 400 + "}",
        " " * 5_000_000,
    ],
    ids=range(9),
)
def test_a_damaged_draft_is_kept_aside_and_said(tmp_path: Path, content: str) -> None:
    path = tmp_path / "config-draft.json"
    path.write_text(content)
    store = DraftStore(tmp_path)
    with pytest.raises(UserError, match="damaged"):
        store.open()
    assert (tmp_path / "config-draft.json.damaged").read_text() == content
    store.save(draft_record(mine().history(MOST)))
    assert path.exists()


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = DraftStore(tmp_path / "file" / "settings")
    with pytest.raises(UserError, match="SHAKESPEARE_TUI_CONFIG"):
        store.open()
    store.save(draft_record(mine().history(MOST)))


def test_a_draft_of_another_version_keeps_what_it_can() -> None:
    draft = mine()
    draft.set_text("model.n_layers", "6")
    record = draft_record(draft.history(MOST))
    for moment in record["moments"]:
        moment["texts"]["model.from_the_future"] = "1"
        moment["texts"].pop("training.max_steps", None)
    again = read_record(record)
    assert again.text("model.n_layers") == "6"
    assert again.text("training.max_steps") == f"{Config().training.max_steps:,}"


def test_a_kept_draft_goes_on_and_what_was_changed_meanwhile_is_its_last_step() -> None:
    kept = mine()
    kept.set_text("model.n_layers", "6")
    draft = mine()
    draft.set_text("data.corpus", "sample")
    draft.restore(kept)
    assert (draft.text("model.n_layers"), draft.text("data.corpus")) == ("6", "sample")
    assert draft.undo() == ("data.corpus",)
    assert draft.undo() == ("model.n_layers",)
    assert draft.undo() is None


def test_a_run_is_started_with_what_was_valid_last() -> None:
    draft = mine()
    draft.set_text("model.n_layers", "6")
    valid = draft.config
    assert draft.runnable.config == valid
    draft.set_text("training.batch_size", "many")
    assert draft.config is None
    assert draft.runnable.config == valid
