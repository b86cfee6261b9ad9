from pathlib import Path

import pytest
from checkpoint_trees import add_run

from shakespeare_tui.config.draft import config_texts
from shakespeare_tui.config.load import load_config, preset_names
from shakespeare_tui.config.schema import ModelConfig
from shakespeare_tui.runs.catalog import RunCatalog
from shakespeare_tui.runs.compare.settings import describe_differences, preset_of, preset_texts
from shakespeare_tui.runs.notes import FormerName


@pytest.mark.parametrize("name", preset_names())
def test_a_preset_is_its_own_nearest(name: str) -> None:
    assert preset_of("run-1", (), preset_texts(name)) == name
    assert describe_differences(preset_texts(name), preset_texts(name)) == ""


def test_changes_are_named_shortly(tmp_path: Path) -> None:
    quick = load_config("quick")
    model = quick.model.model_dump() | {"dropout": 0.2, "d_ff": 300}
    changed = quick.model_copy(update={"model": ModelConfig.model_validate(model)})
    add_run(tmp_path, "mine", config=changed)
    texts = RunCatalog(tmp_path).entries()[0].texts
    assert texts == config_texts(changed)
    assert texts is not None
    assert preset_of("mine", (FormerName("quick-1", 0.0),), texts) == "quick"
    assert describe_differences(texts, preset_texts("quick")) == "d_ff=300 dropout=0.2"
    assert "d_ff=empty" in describe_differences(preset_texts("quick"), texts)


def test_a_weight_decay_that_the_corpus_chose_is_no_difference_from_an_empty_one() -> None:
    chosen = preset_texts("mile") | {"training.weight_decay": "0.67"}
    assert describe_differences(chosen, preset_texts("mile")) == ""
    other = chosen | {"training.weight_decay": "0.1"}
    assert "weight_decay=0.1" in describe_differences(other, chosen)
