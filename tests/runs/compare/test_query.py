from pathlib import Path

import pytest
from checkpoint_trees import NOW, add_checkpoint, add_run, add_run_with_losses
from hypothesis import given
from hypothesis import strategies as st

from shakespeare_tui.config.schema import Config, ModelConfig, TrainingConfig
from shakespeare_tui.errors import UserError
from shakespeare_tui.runs.catalog import RunCatalog
from shakespeare_tui.runs.compare.blind_tests import Rating
from shakespeare_tui.runs.compare.items import FIGURES, CheckpointItem, items_of, sort_items
from shakespeare_tui.runs.compare.query import parse_query, without_begun_name
from shakespeare_tui.runs.editing import annotate_run

WIDE = Config(
    model=ModelConfig(d_model=384, n_heads=6), training=TrainingConfig(learning_rate=3e-4)
)


@pytest.fixture
def items(tmp_path: Path) -> list[CheckpointItem]:
    """wide@2000 (1.4512, best), wide@1000 (1.7), small@500 (2.5, damaged: small@600), bare."""
    wide = add_run(tmp_path, "wide", created=NOW - 100, parent="small@500", config=WIDE)
    add_checkpoint(wide, 1000, 1.7, train_loss=1.6, time=NOW - 7200, size=5_000_000, accuracy=0.543)
    add_checkpoint(wide, 2000, 1.4512, train_loss=1.0, time=NOW - 60, size=5_000_000)
    wide.write_index(best=2000, last=2000)
    annotate_run(wide, "the Big one")
    small = add_run_with_losses(
        tmp_path, "small", {500: 2.5, 600: 2.0}, created=NOW - 500, corpus="sample"
    )
    (small.checkpoint_folder(600) / "info.json").write_text("{")
    add_run(tmp_path, "bare", created=NOW - 900)
    ratings = {"wide@2000": Rating(1600, 50, 9)}
    return items_of(RunCatalog(tmp_path).entries(), ratings=ratings)


def found(items: list[CheckpointItem], query: str) -> list[str]:
    test = parse_query(query)
    return [item.key for item in items if test.matches(item, NOW)]


@pytest.mark.parametrize(
    ("query", "keys"),
    [
        ("", "wide@2000 wide@1000 small@600 small@500 bare@"),
        ("  ", "wide@2000 wide@1000 small@600 small@500 bare@"),
        ("val<1.6", "wide@2000"),
        ("val<1.6 d_model=384 corpus:tiny", "wide@2000"),
        ("val<1.6 d_model=384 corpus:sample", ""),
        ("val=1.45", "wide@2000"),
        ("val=1.4512", "wide@2000"),
        ("val=1.44", ""),
        ("val!=1.45", "wide@1000 small@500"),
        ("val>=1.7", "wide@1000 small@500"),
        ("val<=1.7", "wide@2000 wide@1000"),
        ("-val>1.6", "wide@2000 small@600 bare@"),
        ("perplexity<5", "wide@2000"),
        ("accuracy>54%", "wide@1000"),
        ("acc>=0.543", "wide@1000"),
        ("accuracy=54%", "wide@1000"),
        ("Acc.>60%", ""),
        ("gap>0.2", "wide@2000"),
        ("step>=1k", "wide@2000 wide@1000"),
        ("step=2000", "wide@2000"),
        ("step=2001", ""),
        ("size>1MB", "wide@2000 wide@1000"),
        ("size<5kb", "small@600 small@500"),
        ("age<1h run:wide", "wide@2000"),
        ("age>1.5h run:wide", "wide@1000"),
        ("elo>1500", "wide@2000"),
        ("params>100k corpus=sample", "small@600 small@500"),
        ("d_model=384", "wide@2000 wide@1000"),
        ("model.d_model>=200", "wide@2000 wide@1000"),
        ("d_model!=384", "small@600 small@500 bare@"),
        ("learning_rate=3e-4", "wide@2000 wide@1000"),
        ("learning_rate:0.0003", "wide@2000 wide@1000"),
        ("activation=GELU n_heads<5", "small@600 small@500 bare@"),
        ("activation:el d_ff<5", ""),
        ("big", "wide@2000 wide@1000"),
        ("tiny wide", "wide@2000 wide@1000"),
        ('note:"big one"', "wide@2000 wide@1000"),
        ('"the big"', "wide@2000 wide@1000"),
        ("-run:wide -is:damaged", "small@500 bare@"),
        ("!wide step>0", "small@600 small@500"),
        ("is:best", "wide@2000 small@600"),
        ("is:damaged", "small@600"),
        ("is=last", "wide@2000 small@600"),
        ("is!=best", "wide@1000 small@500 bare@"),
        ("parent:small", "wide@2000 wide@1000"),
        ("state:interrupted protocol=subset-64", "wide@2000 wide@1000 small@500"),
        ("run!=wide run!=small", "bare@"),
        ("-", ""),
        ("Val<1.6", "wide@2000"),
        ("VAL<1.6 D_Model=384", "wide@2000"),
        ("Perpl.<5", "wide@2000"),
        ("Checkpoint:@600", "small@600"),
        ("lr=3e-4", "wide@2000 wide@1000"),
        ("layers>1 heads=6 width=384", "wide@2000 wide@1000"),
        ("val<1.6 or corpus:sample", "wide@2000 small@600 small@500"),
        ("step=1000 OR is:damaged or bare", "wide@1000 small@600 bare@"),
        ("run:wide and val<1.6", "wide@2000"),
        ('"or"', ""),
        ("-wide or -is:last", "wide@1000 small@600 small@500 bare@"),
    ],
)
def test_what_a_query_lets_through(items: list[CheckpointItem], query: str, keys: str) -> None:
    assert found(items, query) == keys.split()


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("vall<1.6", "nothing is called vall; did you mean val?"),
        ("d_modle=384", "did you mean d_model?"),
        ("zzzzz=1", "there are run, step, val"),
        ("val<", "val< needs a value"),
        ("val<abc", "val< needs a number, not abc"),
        ("val<1.6MB", "MB is no unit of val; it has no unit"),
        ("size>3x", "x is no unit of size; units are b, k"),
        ("val<1e999", "needs a number"),
        ("val=.", "needs a number"),
        ("run<3", "run is a text: write run:3 or run=3"),
        ("corpus:", "corpus: needs a value, such as corpus:tiny"),
        ("d_model<wide", "model.d_model< needs a number, not wide"),
        ("is:good", "takes best, last or damaged, not good"),
        ("is:", "such as is:best"),
        ("or", "or needs a condition after it"),
        ("or and step>1", "and needs a condition before it"),
        ("Vall<1.6", "nothing is called Vall; did you mean val?"),
        ("lrr<1", "did you mean lr?"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(query: str, told: str) -> None:
    with pytest.raises(UserError) as error:
        parse_query(f"val<2 {query}")
    assert told in str(error.value)
    assert "\n" not in str(error.value)


def test_or_cannot_begin_a_query() -> None:
    with pytest.raises(UserError, match="or needs a condition before it"):
        parse_query("or val<2")


@given(st.text(max_size=30))
def test_anything_typed_is_a_query_or_an_error_of_one_line(text: str) -> None:
    try:
        parse_query(text)
    except UserError as error:
        assert str(error)


def test_it_says_whether_settings_are_needed() -> None:
    assert parse_query("d_model=384 val<2").reads_configs
    assert not parse_query("val<2 wide").reads_configs


@pytest.mark.parametrize(
    ("name", "is_descending", "keys"),
    [
        ("val", False, "wide@2000 wide@1000 small@500 small@600 bare@"),
        ("val", True, "small@500 wide@1000 wide@2000 small@600 bare@"),
        ("run", False, "bare@ small@600 small@500 wide@2000 wide@1000"),
        ("elo", True, "wide@2000 wide@1000 small@600 small@500 bare@"),
        ("step", True, "wide@2000 wide@1000 small@600 small@500 bare@"),
    ],
)
def test_sorting_puts_what_has_no_figure_last(
    items: list[CheckpointItem], name: str, is_descending: bool, keys: str
) -> None:
    ordered = sort_items(items, name, is_descending=is_descending, now=NOW)
    assert [item.key for item in ordered] == keys.split()


def test_every_figure_can_be_sorted_by(items: list[CheckpointItem]) -> None:
    for name in FIGURES:
        assert len(sort_items(items, name, is_descending=False, now=NOW)) == len(items)


@pytest.mark.parametrize(
    ("text", "before"),
    [
        ("val", ""),
        ("wide -d_mo", "wide "),
        ("val<2", None),
        ("v ", None),
        ("quick", None),
        ("", None),
        ("perp", ""),
    ],
)
def test_the_beginning_of_a_name_is_told_from_a_word(text: str, before: str | None) -> None:
    assert without_begun_name(text) == before
