from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shakespeare_tui.config.load import load_config, parse_config
from shakespeare_tui.config.problems import ConfigError
from shakespeare_tui.config.schema import Config, DataConfig, ModelConfig
from shakespeare_tui.errors import UserError


def refusal(text: str, *overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_config(text, "mine.yaml", overrides)
    return str(caught.value).split("\n")


def test_keys_of_the_capstone_load_as_they_stand() -> None:
    config = parse_config(
        """
model:
  d_model: 384
  n_heads: 6
  n_layers: 6
  d_ff: 1536
  max_seq_len: 256
  dropout: 0.2
  tie_weights: true
training:
  learning_rate: 3e-4
  batch_size: 64
  max_steps: 20_000
  warmup_steps: 1000
  scheduler: cosine
  min_lr: 1e-5
""",
        "mine.yaml",
    )
    assert (config.model.d_ff, config.model.dropout, config.model.tie_weights) == (1536, 0.2, True)
    assert (config.training.learning_rate, config.training.min_lr) == (3e-4, 1e-5)
    assert (config.training.max_steps, config.training.warmup_steps) == (20000, 1000)


@pytest.mark.parametrize("text", ["", "\n\n", "# only a comment\n", "---\n", "model:\n", "{}"])
def test_empty_file_means_defaults(text: str) -> None:
    assert parse_config(text, "mine.yaml") == Config()


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("1e-3", 1e-3),
        ("1E-3", 1e-3),
        ("5.0e-4", 5e-4),
        ("5e-04", 5e-4),
        (".5", 0.5),
        ("1_0.2_5", 10.25),
        ("1", 1.0),
        ("+2.5", 2.5),
        ("'1e-3'", 1e-3),
    ],
)
def test_written_numbers_are_numbers(written: str, meant: float) -> None:
    config = parse_config(f"training: {{learning_rate: {written}}}", "mine.yaml")
    assert config.training.learning_rate == meant
    assert type(config.training.learning_rate) is float
    assert parse_config("", "-", [f"training.learning_rate={written}"]) == config


@pytest.mark.parametrize("written", ["1_000", "1000", "1e3", "1000.0", "1_000.0"])
def test_written_whole_numbers_are_whole_numbers(written: str) -> None:
    value = parse_config(f"training: {{max_steps: {written}}}", "mine.yaml").training.max_steps
    assert value == 1000
    assert type(value) is int


def test_number_with_point_and_underscore() -> None:
    config = parse_config("model: {rope_theta: 1_000.5}", "mine.yaml")
    assert config.model.rope_theta == 1000.5


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("n_layers: 0", "model.n_layers: must be at least 1, got 0"),
        ("n_layers: abc", "model.n_layers: must be a whole number, got 'abc'"),
        ("n_layers: 1.5", "model.n_layers: must be a whole number, got 1.5"),
        ("n_layers: true", "model.n_layers: must be a whole number, got 'true'"),
        ("n_layers:", "model.n_layers: must be a whole number, got nothing"),
        ("n_layers: [1]", "model.n_layers: must be a whole number, got a list"),
        ("n_layers: 0x10", "model.n_layers: must be a whole number, got '0x10'"),
        ("n_layers: 1:30", "model.n_layers: must be a whole number, got '1:30'"),
        ("d_ff: x", "model.d_ff: must be a whole number or empty, got 'x'"),
        ("dropout: 1.0", "model.dropout: must be below 1, got 1.0"),
        ("dropout: .nan", "model.dropout: must be a number, got '.nan'"),
        ("dropout: -0.1", "model.dropout: must be at least 0, got -0.1"),
        ("norm_eps: 0", "model.norm_eps: must be above 0, got 0"),
        ("d_model: 20000", "model.d_model: must be at most 16,384, got 20000"),
        ("bias: 1", "model.bias: must be true or false, got 1"),
        (
            "activation: relu",
            "model.activation: must be gelu, relu2 or swiglu, got 'relu'; did you mean relu2?",
        ),
        ("norm: 3", "model.norm: must be layernorm or rmsnorm, got 3"),
    ],
)
def test_wrong_value_is_named_with_file_line_and_range(line: str, message: str) -> None:
    assert refusal(f"model:\n  # a remark\n  {line}\n") == [f"mine.yaml:3: {message}"]


@pytest.mark.parametrize("word", ["true", "yes", "on", "True", "YES"])
def test_words_for_true(word: str) -> None:
    assert parse_config(f"model: {{bias: {word}}}", "mine.yaml").model.bias is True


@pytest.mark.parametrize(
    "number",
    ["9" * 5000, "1e999", "-1e999", "inf", "nan"],
    ids=["5000 digits", "1e999", "-1e999", "inf", "nan"],
)
def test_absurd_numbers_are_refused(number: str) -> None:
    for key in ("model.d_model", "training.grad_clip"):
        (line,) = refusal("", f"{key}={number}")
        assert "must be" in line
        assert len(line) < 300


def test_text_settings_take_what_is_written() -> None:
    config = parse_config("data: {corpus: 1984}\nsampling: {prompts: [No, 12, ~x]}", "mine.yaml")
    assert config.data.corpus == "1984"
    assert config.sampling.prompts == ("No", "12", "~x")


def test_unquoted_prompt_with_a_colon_is_explained() -> None:
    text = "sampling:\n  prompts:\n    - HAMLET:\n    - fine\n    - 'TO: be': or\n"
    assert refusal(text) == [
        'mine.yaml:3: sampling.prompts[0]: must be text, got a mapping; write "HAMLET:"',
        'mine.yaml:5: sampling.prompts[2]: must be text, got a mapping; write "TO: be: or"',
    ]


def test_one_text_for_a_list_is_explained() -> None:
    assert refusal("sampling:\n  prompts: 'ROMEO:'\n") == [
        "mine.yaml:2: sampling.prompts: must be a list of texts, got 'ROMEO:'; write [\"ROMEO:\"]"
    ]


def test_device_is_checked_by_form() -> None:
    assert parse_config("training: {device: 'cuda:1'}", "-").training.device == "cuda:1"
    assert refusal("training: {device: gpu}") == [
        "mine.yaml:1: training.device: must look like auto, cpu, mps or cuda:0, got 'gpu'"
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model:\n  d_modle: 3", "2: model.d_modle: unknown key; did you mean d_model?"),
        (
            "model:\n  learning_rate: 3",
            "2: model.learning_rate: learning_rate belongs under training, not under model",
        ),
        ("d_model: 3", "1: d_model: d_model belongs under model"),
        (
            "every: 3",
            "1: every: every belongs under sampling, checkpoints or logging",
        ),
        ("modell:\n  d_model: 3", "1: modell: unknown section; did you mean model?"),
        (
            "training:\n  n_laiers: 3",
            "2: training.n_laiers: unknown key; did you mean n_layers, which belongs under model?",
        ),
        (
            "model.d_model: 3",
            "1: model.d_model: write d_model on its own line, indented, under 'model:'",
        ),
        (
            "model:\n  block_size: 3",
            "2: model.block_size: unknown key; it is called model.max_seq_len here",
        ),
        (
            "logging:\n  zzz: 3",
            "2: logging.zzz: unknown key; logging has every and layers_every",
        ),
    ],
)
def test_unknown_name_gets_the_nearest_known_one(text: str, message: str) -> None:
    assert refusal(text) == [f"mine.yaml:{message}"]


@pytest.mark.parametrize(
    ("text", "line", "part"),
    [
        ("model:\n\td_model: 3", 2, "a tab in the indentation; use spaces"),
        ("model:\n  d_model:\t3", 2, "a tab; use spaces"),
        ("model:\n  d_model 3\n  n_heads: 2", 2, "needs a ':' and a space"),
        ("model:\n  d_model:3\n  n_heads: 2", 2, "needs a ':' and a space"),
        ("model:\n  d_model: 8\n n_heads: 2", 3, "indentation"),
        ("sampling:\n  prompts: [a,\n    b\ntraining:\n", 4, "not closed"),
        ("data:\n  corpus: 'abc\n\n\n", 2, "not closed"),
        ("data:\n  corpus: @home", 2, "quotes"),
        ("data:\n  corpus: a: b", 2, "quote"),
        ("model:\n  d_model: &a 8\n  d_ff: *a", 2, "anchors"),
        ("model:\n  d_ff: *a", 2, "anchors"),
        ("model: {d_model: 8}\n---\nmodel: {d_model: 9}", 2, "second document"),
        ("model:\n  ? [a]\n  : 3", 2, "a key must be a plain word"),
        ("data:\n  corpus: a\x01", 2, "U+0001"),
        ("[" * 10_000, 1, "too many levels"),
        ("{a: " * 10_000, 1, "too many levels"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_broken_yaml_is_refused_with_its_line(text: str, line: int, part: str) -> None:
    (message,) = refusal(text)
    assert message.startswith(f"mine.yaml:{line}: ")
    assert part in message


@pytest.mark.parametrize(
    "tag", ["!!python/object/apply:os.system", "!!python/name:os", "!x", "!!str"]
)
def test_tags_are_refused_and_nothing_runs(tag: str, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    (message,) = refusal(f"model:\n  d_model: {tag} ['touch {trace}']")
    assert message == f"mine.yaml:2: the tag {tag} is not allowed; write the plain value"
    assert not trace.exists()


def test_billion_laughs_are_refused_at_once() -> None:
    rows = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    rows += [
        f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]"
        for a, b in zip("abcdefgh", "bcdefghi", strict=True)
    ]
    assert "anchors" in refusal("\n".join(rows))[0]


@pytest.mark.parametrize(
    ("text", "got"), [("just words", "'just words'"), ("- model\n- data", "a list"), ("3", "3")]
)
def test_file_that_is_no_mapping(text: str, got: str) -> None:
    assert refusal(text) == [f"mine.yaml:1: must hold sections, such as 'model:', got {got}"]


def test_section_that_is_no_mapping() -> None:
    assert refusal("data:\n\nmodel: small") == [
        "mine.yaml:3: model: must hold keys with values, such as 'd_model: 128', got 'small'"
    ]


def test_duplicates_are_named_with_the_first_line() -> None:
    text = "model:\n  d_model: 64\n  d_model: 128\ndata:\nmodel:\n  n_heads: 2\n"
    assert refusal(text) == [
        "mine.yaml:3: model.d_model: given twice; the first is on line 2",
        "mine.yaml:5: model: given twice; the first is on line 1",
    ]


def test_heads_must_divide_width_and_the_fix_is_named() -> None:
    assert refusal("model:\n  d_model: 96\n  n_heads: 7\n") == [
        "mine.yaml:3: model.n_heads: d_model 96 is not divisible by n_heads 7; "
        "with this d_model, n_heads can be 6 or 8"
    ]


def test_rule_is_reported_where_the_user_wrote() -> None:
    assert refusal("model:\n  d_model: 90\n")[0].startswith("mine.yaml:2: model.d_model: ")
    assert refusal("model: {d_model: 96}", "model.n_heads=7")[0].startswith(
        "--set model.n_heads=7: "
    )


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("model: {d_model: 9, n_heads: 3}", "rope needs an even width per head"),
        ("model: {d_model: 9, n_heads: 3, positions: sinusoidal}", "needs an even d_model, got 9"),
        ("training: {min_lr: 0.1, learning_rate: 1e-2}", "min_lr 0.1 is above learning_rate 0.01"),
        ("data: {seq_len: 300}", "seq_len 300 is above model.max_seq_len 128"),
    ],
)
def test_settings_that_do_not_fit_together(text: str, part: str) -> None:
    (message,) = refusal(text)
    assert part in message


def test_odd_head_width_is_fine_without_rope() -> None:
    assert (
        parse_config("model: {d_model: 9, n_heads: 3, positions: learned}", "-").model.d_model == 9
    )


def test_all_problems_come_at_once_in_the_order_of_the_file() -> None:
    text = """\
modell: {}
training:
  learning_rate: fast
  min_lr: 1
model:
  n_heads: 5
  dropout: 2
  dropuot: 0.1
  d_model: 128
"""
    places = [line.rpartition(": ")[0] for line in refusal(text, "data.seq_len=0", "x.y=1")]
    assert [place.split(": ")[0] for place in places] == [
        "mine.yaml:1",
        "mine.yaml:3",
        "mine.yaml:6",
        "mine.yaml:7",
        "mine.yaml:8",
        "--set x.y=1",
        "--set data.seq_len=0",
    ]


def test_overrides_win_and_the_last_one_wins() -> None:
    overrides = [
        "model.d_model=64",
        "model.d_model=256",
        'sampling.prompts=["HAMLET:", O]',
        "model.d_ff=null",
        "training.min_lr=",
        "data.corpus=plays and poems: all",
    ]
    text = "model: {d_model: wrong, d_ff: 64}\ntraining: {min_lr: 1e-4}"
    config = parse_config(text, "mine.yaml", overrides)
    assert config.model.d_model == 256
    assert config.sampling.prompts == ("HAMLET:", "O")
    assert config.model.d_ff is None
    assert config.training.min_lr is None
    assert config.data.corpus == "plays and poems: all"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.d_model=0", "must be at least 1, got 0"),
        ("model.d_model", "a value is missing; write --set model.d_model=VALUE"),
        ("d_model=3", "d_model belongs under model; write model.d_model"),
        (
            "every=3",
            "every belongs under sampling, checkpoints or logging; "
            "write sampling.every, checkpoints.every or logging.every",
        ),
        ("model=3", "model is a section; name one of its keys, such as model.d_model"),
        ("model.d_modle=3", "unknown key; did you mean d_model?"),
        ("trainign.seed=3", "unknown setting; did you mean training.seed?"),
        ("lr=3", "unknown setting; it is called training.learning_rate here"),
        ("sampling.prompts=HAMLET:", 'must be a list of texts, got a mapping; write ["HAMLET:"]'),
        ("model.d_ff=[1", "the list is not closed; a ',' or ']' is missing"),
        ("data.corpus=", "must not be empty"),
        ("model.d_ff=*a", "anchors (&) and aliases (*) are not allowed; write the value out"),
    ],
)
def test_wrong_override_is_named(override: str, message: str) -> None:
    assert refusal("", override) == [f"--set {override}: {message}"]


def test_messages_never_carry_control_characters() -> None:
    for line in refusal("'\\e[31m': 1\nmodel: {norm: \"\\e[2J\"}", "\x1b[31m=1", "model.norm=\x1b"):
        assert line.isprintable()


def test_default_of_min_lr_is_a_tenth() -> None:
    config = parse_config("training: {learning_rate: 2e-3}", "-")
    assert config.training.final_learning_rate == pytest.approx(2e-4)
    assert parse_config("training: {min_lr: 0}", "-").training.final_learning_rate == 0


class TestFiles:
    def test_file_is_named_as_given(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        Path("mine.yaml").write_text("model:\n  d_model: 0\n")
        with pytest.raises(ConfigError, match=r"^mine\.yaml:2: model\.d_model: must be at least 1"):
            load_config("mine.yaml")

    def test_byte_order_mark_and_windows_line_ends(self, tmp_path: Path) -> None:
        path = tmp_path / "mine.yaml"
        path.write_bytes("\ufeffmodel:\r\n  d_model: 64\r\n  n_layers: 0\r\n".encode())
        with pytest.raises(ConfigError, match=":3: model.n_layers"):
            load_config(path)

    def test_missing_file_names_the_nearest_preset(self) -> None:
        with pytest.raises(
            UserError, match=r"tinny: no such config; did you mean the preset tiny\?"
        ):
            load_config("tinny")
        with pytest.raises(UserError, match="did you mean the preset nanogpt-cpu"):
            load_config("configs/nanogpt-cpu.yml")

    def test_folder(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="is a folder, not a config; give a YAML file"):
            load_config(tmp_path)
        (tmp_path / "config.yaml").touch()
        with pytest.raises(UserError, match=r"did you mean .*config\.yaml\?"):
            load_config(tmp_path)

    def test_not_utf8(self, tmp_path: Path) -> None:
        path = tmp_path / "mine.yaml"
        path.write_bytes(b"model:\n  d_model: 64 # gr\xf6\xdfe\n")
        with pytest.raises(UserError, match=r":2: byte 0xf6 is not UTF-8; save the file as UTF-8"):
            load_config(path)

    @pytest.mark.parametrize("name", ["x" * 5000, "a\0b"], ids=["too long", "null byte"])
    def test_unreadable(self, name: str) -> None:
        with pytest.raises(UserError, match="cannot be read"):
            load_config(name)

    def test_corpus_given_as_config(self, tmp_path: Path) -> None:
        path = tmp_path / "corpus.txt"
        path.write_text("To be, or not to be\n" * 10_000)
        with pytest.raises(UserError, match="not a config; is it a corpus"):
            load_config(path)

    def test_preset_wins_over_a_file_unless_a_path_is_given(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        Path("tiny").write_text("model: {n_layers: 9}")
        assert load_config("tiny").model.n_layers == 2
        assert load_config("./tiny").model.n_layers == 9
        assert load_config(Path("tiny")).model.n_layers == 9


YAML_PIECES = st.lists(
    st.sampled_from(
        ["model", "d_model", "prompts", ":", ": ", "\n", "  ", "\t", "- ", "[", "]", "{", "}", "'"]
        + ['"', "&a", "*a", "!!x", "!", "|", ">", "---", "...", "%", "#", ",", "?", "1", "~", "\\"]
        + ["<<", "é", "\x85", "\u2028", "\ufeff", "training", "sampling", "min_lr", "@", "`", "0x"]
    ),
    max_size=30,
).map("".join)


@given(YAML_PIECES | st.text())
def test_any_text_gives_a_config_or_lines_for_the_user(text: str) -> None:
    try:
        assert isinstance(parse_config(text, "mine.yaml"), Config)
    except UserError as error:
        assert all(line.startswith("mine.yaml:") for line in str(error).split("\n"))


@given(
    st.sampled_from(["", "model", "model.d_ff=", "sampling.prompts=", "data.corpus="]), YAML_PIECES
)
def test_any_override_gives_a_config_or_lines_for_the_user(start: str, rest: str) -> None:
    try:
        assert isinstance(parse_config("", "-", [start + rest]), Config)
    except UserError as error:
        assert all(line.startswith("--set ") for line in str(error).split("\n"))


def test_rules_hold_in_python_too() -> None:
    with pytest.raises(ValueError, match="d_model 128 is not divisible by n_heads 3"):
        ModelConfig(n_heads=3)
    with pytest.raises(ValueError, match=r"seq_len 300 is above model\.max_seq_len 128"):
        Config(data=DataConfig(seq_len=300))
    assert Config().seq_len == 128
    assert Config(data=DataConfig(seq_len=64)).seq_len == 64
