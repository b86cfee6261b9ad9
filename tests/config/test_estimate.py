import dataclasses
import math
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoint_trees import weights

from shakespeare_tui.config.estimate.advice import Machine, advise
from shakespeare_tui.config.estimate.figures import (
    CorpusFigures,
    Preflight,
    activation_bytes,
    estimate_memory,
    evaluation_bytes,
    expects_half,
    measure_corpus,
    preflight,
)
from shakespeare_tui.config.estimate.nearest_run import PastRun, PastRuns, nearest_run
from shakespeare_tui.config.estimate.speed import Speeds, probe_config
from shakespeare_tui.config.fields import find_field
from shakespeare_tui.config.guide import TUNING_GUIDE
from shakespeare_tui.config.load import load_config, parse_config, preset_names
from shakespeare_tui.config.schema import Config
from shakespeare_tui.data.tokenizers.tokenizer import CharTokenizer
from shakespeare_tui.models.numpy_gpt import GPT
from shakespeare_tui.models.parameters import evaluation_windows
from shakespeare_tui.models.transformer import Transformer
from shakespeare_tui.runs.folder import RunFolder, new_run_info
from shakespeare_tui.runs.losses import Loss
from shakespeare_tui.training.numpy_state import NumpyTrainState
from shakespeare_tui.training.torch_state import TorchTrainState

VOCAB_SIZE = 65
SHAKESPEARE = CorpusFigures(tokens=1_115_394, vocab_size=VOCAB_SIZE)
# A time budget and little else: nothing that invites advice, whatever becomes of the presets.
CALM = ["training.minutes=100s", "training.warmup_steps=20", "training.batch_size=16"]
LAPTOP = Machine("2 cores", 8_000_000_000)


def small(*overrides: str, **model: Any) -> Config:
    sizes = {"d_model": 64, "n_heads": 4, "n_layers": 2, "max_seq_len": 64, **model}
    lines = [f"model.{key}={str(value).lower()}" for key, value in sizes.items()]
    return parse_config("", "-", [*lines, "training.batch_size=8", *overrides])


def train_state(config: Config, precision: str = "float32") -> TorchTrainState:
    generator = torch.Generator().manual_seed(0)
    model = Transformer(config.model, VOCAB_SIZE, generator).train()
    return TorchTrainState(model, config.training, torch.device("cpu"), precision)


def window(config: Config) -> torch.Tensor:
    return torch.zeros(config.training.batch_size, config.seq_len + 1, dtype=torch.int64)


def kept_for_backward(config: Config, precision: str) -> int:
    """Bytes of what autograd keeps after a forward pass, parameters and tables left out."""
    subject = train_state(config, precision)
    own = [*subject.model.parameters(), *subject.model.buffers()]
    known = {tensor.untyped_storage().data_ptr() for tensor in own}
    # The storages are held so that no address is used twice.
    kept: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = storage
        return tensor

    tokens = window(config)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor), subject.autocast():
        loss = subject.model.loss(tokens[:, :-1], tokens[:, 1:])
    size = sum(storage.nbytes() for storage in kept.values())
    loss.backward()  # type: ignore[no-untyped-call]
    return size


def peak_bytes(config: Config) -> int:
    """The most that one step allocates beyond what is there before it."""
    subject = train_state(config)
    subject.step([window(config).numpy()], 1.0)
    activity = torch.profiler.ProfilerActivity.CPU
    with torch.profiler.profile(activities=[activity], profile_memory=True) as profile:
        subject.step([window(config).numpy()], 1.0)
    current = most = 0
    events = profile.profiler.kineto_results.events()
    for event in sorted(events, key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            current += event.nbytes()
            most = max(most, current)
    return most


SHAPES: list[dict[str, Any]] = [
    {},
    {"positions": "learned", "bias": True, "tie_weights": False},
    {"positions": "sinusoidal", "dropout": 0.1},
    {"norm": "rmsnorm", "qk_norm": True, "activation": "relu2"},
    {"norm": "rmsnorm", "activation": "swiglu", "dropout": 0.2},
    {"n_layers": 4, "d_ff": 96},
    {"ngram_embedding": 3},
    {"short_convolution": 4, "norm": "rmsnorm"},
    {"short_convolution": 3, "activation": "swiglu"},
    {"norm": "rmsnorm", "qk_norm": True, "n_kv_heads": 2, "head_dim": 32},
    {"attention_bias": "qkv", "activation": "swiglu", "n_kv_heads": 1, "head_dim": 8},
]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_activations_cover_what_autograd_keeps(shape: dict[str, Any], precision: str) -> None:
    config = small(**shape)
    kept = kept_for_backward(config, precision)
    estimate = activation_bytes(config, VOCAB_SIZE, is_half=precision == "bfloat16")
    width, inner = config.model.d_model, config.model.feedforward_width
    tokens = config.training.batch_size * config.seq_len
    # Beside what is kept, the peak holds gradients of a few rows as wide as the widest tensor.
    assert 0.97 * kept <= estimate <= kept + 4 * tokens * (2 * inner + 2 * width)


@pytest.mark.parametrize(
    "shape", [{}, {"dropout": 0.1}, {"activation": "swiglu", "qk_norm": True}], ids=str
)
def test_activations_are_the_peak_of_a_real_step_within_five_percent(shape: dict[str, Any]) -> None:
    config = small(**shape)
    assert activation_bytes(config, VOCAB_SIZE) == pytest.approx(peak_bytes(config), rel=0.05)


def step_bytes(config: Config, vocab_size: int) -> int:
    """The estimate without evaluations."""
    estimate = estimate_memory(config, vocab_size)
    return estimate.weights + estimate.optimizer + estimate.step


def evaluation_peak(config: Config) -> int:
    """The most that one evaluation's pass allocates."""
    subject = train_state(config)
    windows = evaluation_windows(config.model, config.seq_len)
    tokens = torch.zeros(windows, config.seq_len + 1, dtype=torch.int64)
    activity = torch.profiler.ProfilerActivity.CPU
    with (
        subject.averaged() as model,
        torch.profiler.profile(activities=[activity], profile_memory=True) as profile,
    ):
        model.sum_losses([tokens.numpy()])
    current = most = 0
    events = profile.profiler.kineto_results.events()
    for event in sorted(events, key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            current += event.nbytes()
            most = max(most, current)
    return most


@pytest.mark.parametrize(
    "shape", [{"d_ff": 256}, {"d_ff": 256, "activation": "swiglu", "norm": "rmsnorm"}], ids=str
)
def test_the_pass_of_an_evaluation_is_counted(shape: dict[str, Any]) -> None:
    config = small(**shape)
    peak = evaluation_peak(config)
    assert 0.9 * peak <= evaluation_bytes(config, VOCAB_SIZE) <= 1.6 * peak
    estimate = estimate_memory(config, VOCAB_SIZE)
    assert estimate.total >= estimate.weights + estimate.optimizer + estimate.between


@pytest.mark.parametrize(
    "override",
    [
        "training.optimizer=adamw",
        "training.optimizer=sgd",
        "training.momentum=0",
        "training.optimizer=muon",
        "training.ema_decay=0.99",
    ],
)
def test_the_optimiser_holds_as_much_as_was_estimated(override: str) -> None:
    extra = ["training.optimizer=sgd"] if "momentum" in override else []
    config = small(*extra, override, activation="swiglu", bias=True)
    subject = train_state(config)
    subject.step([window(config).numpy()], 1.0)
    held = sum(
        value.nbytes
        for optimizer in subject.optimizers
        for state in optimizer.state.values()
        for value in state.values()
        # Step counters are single numbers.
        if isinstance(value, torch.Tensor) and value.dim() > 0
    )
    held += sum(average.nbytes for average in subject.ema)
    estimate = estimate_memory(config, VOCAB_SIZE)
    assert estimate.optimizer == held
    assert estimate.weights == sum(p.nbytes for p in subject.model.parameters())


def test_the_full_size_preset_in_figures() -> None:
    figures = preflight(load_config("shakespeare"), SHAKESPEARE, tokens_per_second=2260)
    assert figures.parameter_count == 10_646_784
    assert figures.tokens == 5000 * 64 * 256
    assert figures.epochs == pytest.approx(81.9e6 / 1_003_854, rel=0.001)
    assert figures.tokens_per_parameter == pytest.approx(7.69, rel=0.01)
    # The validation text is read once at the end, at three times the speed of training.
    exact = 111_539.4 / (3 * 2260)
    assert figures.seconds == pytest.approx(81.92e6 / 2260 * 1.05 + exact)
    assert figures.memory.weights == 4 * 10_646_784


def test_a_time_budget_turns_speed_into_tokens() -> None:
    config = parse_config("", "-", ["training.minutes=2"])
    figures = preflight(config, SHAKESPEARE, tokens_per_second=10_500)
    assert figures.seconds == 120
    assert figures.tokens == pytest.approx((1_260_000 - 111_539.4 / 3) / 1.05)
    # A validation text that takes longer than a fifth of the time is not read in full.
    long = dataclasses.replace(SHAKESPEARE, tokens=100_000_000)
    assert preflight(config, long, tokens_per_second=10_500).tokens == pytest.approx(1_200_000)
    unknown = preflight(config, SHAKESPEARE)
    assert unknown.tokens is None
    assert unknown.tokens_per_parameter is None
    assert unknown.seconds == 120


def test_a_text_too_short_for_the_window_is_a_problem() -> None:
    tiny = CorpusFigures(tokens=100, vocab_size=10)
    assert "too short" in preflight(load_config("quick"), tiny).problem
    assert not preflight(load_config("quick"), SHAKESPEARE).problem


def test_corpora_are_measured_from_their_files(tmp_path: Path) -> None:
    path = tmp_path / "own.txt"
    path.write_text("äbc\n" * 1000, encoding="utf-8")
    figures = measure_corpus(str(path))
    assert (figures.characters, figures.tokens, figures.vocab_size) == (4000, 4000, 4)


def test_a_large_corpus_is_estimated_from_its_beginning(tmp_path: Path) -> None:
    path = tmp_path / "large.txt"
    path.write_text("äbc\n" * 1_000_000, encoding="utf-8")
    figures = measure_corpus(str(path), most_bytes=1_000_000)
    assert figures.characters == pytest.approx(4_000_000, rel=0.001)
    assert figures.note and not figures.is_one_character
    assert "large" in figures.note


def test_a_missing_corpus_is_a_problem_in_words(tmp_path: Path) -> None:
    figures = measure_corpus(str(tmp_path / "absent.txt"))
    assert figures.is_missing
    assert "absent.txt" in preflight(load_config("quick"), figures).problem


def test_speed_is_remembered_for_all_that_is_as_fast() -> None:
    speeds = Speeds()
    assert speeds.find(small(), VOCAB_SIZE) is None
    speeds.add(small(), VOCAB_SIZE, 1000.0)
    for same in ("training.learning_rate=0.1", "training.max_steps=9", "model.d_ff=256"):
        found = speeds.find(small(same), VOCAB_SIZE)
        assert found is not None
        assert found.is_measured
        assert found.tokens_per_second == 1000.0


def test_speed_of_one_backend_says_nothing_of_the_other() -> None:
    speeds = Speeds()
    speeds.add(small("training.backend=torch"), VOCAB_SIZE, 1000.0)
    assert speeds.find(small("training.backend=numpy"), VOCAB_SIZE) is None
    speeds.add(small("training.backend=numpy"), VOCAB_SIZE, 400.0)
    for backend, expected in (("torch", 1000.0), ("numpy", 400.0)):
        found = speeds.find(small(f"training.backend={backend}"), VOCAB_SIZE)
        assert found is not None and found.tokens_per_second == expected


def test_speed_of_another_shape_is_an_estimate_by_operations() -> None:
    speeds = Speeds()
    speeds.add(small(), VOCAB_SIZE, 1000.0)
    deeper = speeds.find(small(n_layers=4), VOCAB_SIZE)
    assert deeper is not None
    assert not deeper.is_measured
    assert 500 < deeper.tokens_per_second < 600


def test_what_learns_and_the_vocabulary_are_part_of_the_speed() -> None:
    speeds = Speeds()
    speeds.add(small(), VOCAB_SIZE, 1000.0)
    large = speeds.find(small(), 50_000)
    assert large is not None and large.tokens_per_second < 100
    frozen = speeds.find(small("training.train_blocks=1"), VOCAB_SIZE)
    adapted = speeds.find(small("training.lora_rank=2"), VOCAB_SIZE)
    assert frozen is not None and adapted is not None
    # A third of the work is the weights' own gradients, another the way back.
    assert 1000 < adapted.tokens_per_second < frozen.tokens_per_second < 1501
    assert not frozen.is_measured and not adapted.is_measured


def make_run(root: Path, name: str, config: Config, val_loss: float | None) -> None:
    folder = RunFolder(root / name)
    info = new_run_info(
        name=name, corpus="c", corpus_sha256="", characters=1, vocab_size=2, parameters=1
    )
    folder.write_definition(info, config, CharTokenizer.from_vocabulary(["a", "b"]))
    step = folder.checkpoint_folder(5)
    step.mkdir()
    (step / "info.json").write_text(
        '{"format": 1, "step": 5, "train_loss": null, "protocol": "exact", "time": 0, '
        f'"elapsed_seconds": 1, "val_loss": {"null" if val_loss is None else val_loss}}}'
    )
    (step / "weights.safetensors").write_bytes(weights())
    folder.write_index(5, 5)


def test_past_runs_come_from_their_folders_and_damaged_ones_say_why(tmp_path: Path) -> None:
    make_run(tmp_path, "one", load_config("tiny"), 1.9)
    make_run(tmp_path, "broken", load_config("tiny"), 1.0)
    (tmp_path / "broken" / "config.yaml").write_text("model: [")
    runs = PastRuns(tmp_path)
    found = {run.name: run for run in runs.read()}
    assert (found["one"].loss, found["one"].problem) == (Loss(1.9, "exact"), None)
    assert "config.yaml:1" in (found["broken"].problem or "")
    nearest = nearest_run(load_config("tiny"), found.values())
    assert nearest is not None
    assert nearest.run.name == "one"
    make_run(tmp_path, "two", load_config("quick"), 1.6)
    assert {run.name for run in runs.read()} == {"one", "two", "broken"}


def test_the_nearest_run_is_the_one_a_person_would_name() -> None:
    runs = [
        PastRun("tiny-1", load_config("tiny"), Loss(1.9, "exact")),
        PastRun("quick-1", load_config("quick"), Loss(1.59, "exact")),
        PastRun("base-1", load_config("base"), None),
    ]
    near = nearest_run(load_config("quick", ["model.n_layers=6", "training.seed=3"]), runs)
    assert near is not None
    assert (near.run.name, near.differing) == ("quick-1", 1)
    # The only nearer one was never evaluated.
    other = nearest_run(load_config("base"), runs)
    assert other is not None
    assert other.run.name != "base-1"
    assert nearest_run(load_config("quick"), []) is None


def figures_of(config: Config, tokens_per_second: float = 20_000.0) -> Preflight:
    return preflight(config, SHAKESPEARE, tokens_per_second=tokens_per_second)


def symptoms(config: Config, tokens_per_second: float = 20_000.0) -> list[str]:
    return [a.symptom for a in advise(config, figures_of(config, tokens_per_second), LAPTOP)]


def test_a_long_run_on_a_laptop_is_told_with_the_way_out() -> None:
    config = load_config("shakespeare", ["training.batch_size=16", "training.max_steps=20000"])
    [advice] = advise(config, figures_of(config, 4780), LAPTOP)
    assert advice.text == (
        "10.65M parameters on 2 cores: about 5 hours; press F to load the quick preset"
    )
    assert advice.overrides == (("training.minutes", "10"),)


@pytest.mark.parametrize(
    "options",
    [
        ["model.dropout=0.1"],
        ["model.activation=swiglu", "model.qk_norm=true", "model.norm=rmsnorm"],
        ["model.max_seq_len=256", "training.batch_size=4"],
        ["model.positions=learned", "model.activation=relu2", "training.optimizer=muon"],
        ["model.n_kv_heads=1", "model.positions=sinusoidal", "training.ema_decay=0.9"],
    ],
    ids=",".join,
)
def test_memory_of_a_numpy_step_is_what_it_takes(options: list[str]) -> None:
    config = load_config("nanogpt-cpu", ["training.backend=numpy", *options])
    generator = np.random.default_rng(0)
    window = generator.integers(0, VOCAB_SIZE, (config.training.batch_size, config.seq_len + 1))
    tracemalloc.start()
    try:
        state = NumpyTrainState(
            GPT(config.model, VOCAB_SIZE, generator), config.training, generator
        )
        state.step([window], 1.0)
        tracemalloc.reset_peak()
        state.step([window], 1.0)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert step_bytes(config, VOCAB_SIZE) == pytest.approx(peak, rel=0.05)


def test_memory_that_does_not_suffice_is_told_with_settings_that_do() -> None:
    config = load_config("base")
    first = advise(config, figures_of(config), Machine("2 cores", 3_000_000_000))[0]
    assert first.symptom == "out of memory"
    assert first.is_grave
    changed = load_config("base", [f"{path}={text}" for path, text in first.overrides])
    assert figures_of(changed).memory.total < 3e9
    assert figures_of(changed).tokens == figures_of(config).tokens


@pytest.mark.parametrize(
    ("overrides", "symptom"),
    [
        (["training.learning_rate=0.05"], "exploding"),
        (["training.optimizer=muon", "training.muon_learning_rate=0.5"], "exploding"),
        (["training.minutes=null", "training.warmup_steps=1900"], "not learning"),
        (["training.minutes=null", "training.max_steps=30000"], "overfitting"),
        (
            ["training.minutes=15", "training.optimizer=muon", "training.weight_decay=0"],
            "overfitting",
        ),
        (
            [
                *("training.minutes=15", "training.optimizer=muon", "model.dropout=0.1"),
                "training.weight_decay=0.001",
            ],
            "overfitting",
        ),
        (["model.dropout=0.1"], "quality poor"),
        (["data.seq_len=32", "model.max_seq_len=64"], "quality poor"),
        (["training.minutes=0.01"], "quality poor"),
        (["training.precision=bfloat16"], "too slow"),
        (["sampling.temperature=0.2"], "repeats itself"),
    ],
)
def test_a_value_that_invites_advice_gets_it_and_following_it_ends_it(
    overrides: list[str], symptom: str
) -> None:
    config = parse_config("", "-", [*CALM, *overrides])
    advice = next(a for a in advise(config, figures_of(config), LAPTOP) if a.symptom == symptom)
    if advice.overrides:
        followed = parse_config(
            "", "-", [*CALM, *overrides, *(f"{path}={text}" for path, text in advice.overrides)]
        )
        assert advice.text not in [a.text for a in advise(followed, figures_of(followed), LAPTOP)]


@pytest.mark.parametrize("name", preset_names())
def test_presets_invite_no_advice_but_about_time_and_memory(name: str) -> None:
    # gpt2 is to be fine-tuned: the tokens that it has read are not those of this run. Of the
    # stories of tinystories there are a thousand times as many as of these plays.
    others = {"gpt2": {"quality poor"}, "tinystories": {"overfitting"}}.get(name, set())
    assert set(symptoms(load_config(name))) <= {"too slow", "out of memory"} | others


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
@pytest.mark.parametrize(
    ("train_tokens", "steps", "epochs"),
    [
        (40_000, None, 0.23),  # of a time budget
        (250_000, None, 0.58),
        (1_003_854, None, 1.15),
        (10**7, None, 1.15),
        (100_000, 500, 1.15),  # seen 10 times
        (100_000, 2000, 0.305),  # 41 times, nearest to 2^5.5
        (1_003_854, 30_000, 0.216),  # 61 times, nearest to 2^6
    ],
)
def test_weights_remember_about_one_pass_and_less_of_a_text_that_is_seen_often(
    train_tokens: int, steps: int | None, epochs: float, optimizer: str
) -> None:
    options = ["training.learning_rate=0.01", "training.muon_learning_rate=0.02"]
    options += [f"training.optimizer={optimizer}", "training.weight_decay=null"]
    options += ["training.minutes=null", f"training.max_steps={steps}"] if steps else []
    config = parse_config("", "-", [*CALM, *options]).with_decay(train_tokens)
    rate = {"muon": 0.02, "adamw": 0.01}[optimizer]
    # What decay leaves of a weight after each step, by itself, until 1/e of it is left.
    weight, taken = 1.0, 0
    while weight > math.exp(-1):
        weight, taken = weight * (1 - rate * config.training.decay), taken + 1
    remembered = taken * config.tokens_per_step / train_tokens
    # Whole steps, and decay in two digits.
    assert remembered == pytest.approx(epochs, rel=0.05, abs=config.tokens_per_step / train_tokens)


def test_the_least_text_does_not_wipe_out_the_weights_and_a_given_decay_stays() -> None:
    config = parse_config("", "-", ["training.optimizer=muon", "training.weight_decay=null"])
    assert 0.03 * config.with_decay(10).training.decay <= 0.21
    given = parse_config("", "-", ["training.weight_decay=0.05"])
    assert given.with_decay(13_000) == given
    # AdamW's matrices decay beside Muon's, at a rate of their own.
    fast = parse_config(
        "",
        "-",
        ["training.optimizer=muon", "training.weight_decay=null", "training.learning_rate=0.2"],
    )
    assert 0.2 * fast.with_decay(10).training.decay <= 0.21
    tiny_rate = ["training.learning_rate=1e-9", "training.weight_decay=null"]
    assert parse_config("", "-", tiny_rate).with_decay(10).training.decay == 100


def test_all_advice_is_in_the_guide_and_names_real_settings() -> None:
    known = {symptom.name for symptom in TUNING_GUIDE}
    worst = load_config(
        "base",
        [
            "training.learning_rate=1",
            "training.optimizer=muon",
            "training.muon_learning_rate=1",
            "training.precision=bfloat16",
            "training.warmup_steps=9000",
            "sampling.temperature=0.1",
        ],
    )
    found = advise(worst, figures_of(worst), LAPTOP)
    assert len(found) >= 6
    assert {advice.symptom for advice in found} <= known
    for advice in found:
        for path, _ in advice.overrides:
            assert find_field(path), path


def test_figures_that_are_not_known_bring_no_advice() -> None:
    config = load_config("quick")
    figures = preflight(config, CorpusFigures())
    assert advise(config, figures, Machine("2 cores")) == []
    assert not math.isnan(figures.memory.total)


def test_a_probe_takes_short_steps_of_the_same_model() -> None:
    config = load_config("shakespeare")
    probe = probe_config(config, VOCAB_SIZE)
    assert probe.model == config.model
    assert 1 <= probe.training.batch_size < config.training.batch_size
    assert probe_config(small(), VOCAB_SIZE) == small()
    # Of a large one, a micro-batch of the real size.
    assert probe_config(load_config("gpt2"), 50_257).training.batch_size == 2


@pytest.mark.parametrize(
    ("overrides", "is_cpu", "has_bf16", "expected"),
    [
        (["training.precision=auto"], True, True, True),
        (["training.precision=auto"], True, False, False),
        (["training.precision=auto"], False, False, True),
        (["training.precision=float32"], True, True, False),
        (["training.precision=bfloat16"], True, False, True),
        (["training.precision=auto", "training.backend=numpy"], True, True, False),
    ],
)
def test_auto_is_reckoned_as_what_the_machine_will_take(
    overrides: list[str], is_cpu: bool, has_bf16: bool, expected: bool
) -> None:
    config = load_config("base", overrides)
    assert expects_half(config, is_cpu=is_cpu, has_bf16=has_bf16) is expected
