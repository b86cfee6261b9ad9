"""The compiled functions against their definitions in NumPy, and how they are compiled and kept."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
from compiling_once import compiling_once, with_numba
from numpy.typing import NDArray
from training_runs import make_config, post_at, resume, train, what_was_learned

from shakespeare_tui.config.schema import ModelConfig, TrainingConfig
from shakespeare_tui.errors import CancelledError
from shakespeare_tui.models import numpy_gpt
from shakespeare_tui.models.compiling import compile_kernels, use_twins
from shakespeare_tui.models.numpy_gpt import GPT
from shakespeare_tui.runs.commands import Stop
from shakespeare_tui.training import numpy_optimizers
from shakespeare_tui.training.numpy_state import NumpyBackend, NumpyTrainState, use_compiled

VOCAB = 11


@pytest.fixture(scope="module", autouse=True)
def compiled() -> Iterator[None]:
    with with_numba():
        with compiling_once():
            assert use_compiled()
        yield
    use_twins({})


def in_type(tree: Any, kind: Any) -> Any:
    """The same with every array of floats in another type, as copies."""
    if isinstance(tree, tuple):
        return tuple(in_type(item, kind) for item in tree)
    if isinstance(tree, np.ndarray):
        return tree.astype(kind) if tree.dtype.kind == "f" else tree.copy()
    return tree


def arrays_in(tree: Any) -> list[NDArray[Any]]:
    if isinstance(tree, tuple):
        return [array for item in tree for array in arrays_in(item)]
    return [] if tree is None else [np.asarray(tree)]


def normal(*shape: int) -> NDArray[np.float64]:
    return np.random.default_rng(sum(shape)).normal(0.0, 2.0, shape)


TOKENS = np.random.default_rng(0).integers(0, 7, (2, 5))
TURNS = normal(5, 1, 3)
TABLE = (
    np.concatenate((np.cos(TURNS), np.cos(TURNS)), 2),
    np.concatenate((-np.sin(TURNS), np.sin(TURNS)), 2),
)
# What each takes; 37 and 19 fill no vector register. Values of ±60 are where powers are extreme.
FORWARDS: dict[str, tuple[Any, ...]] = {
    "layer_norm": (normal(2, 5, 37), normal(37), normal(37), 1e-5),
    "rms_norm": (normal(2, 5, 3, 38)[..., 1:], normal(37), 1e-5),
    "causal_softmax": (30 * normal(2, 3, 19, 19), 0.3),
    "gelu": (np.concatenate((normal(2, 37), 30 * normal(2, 37))),),
    "relu_squared": (normal(3, 37),),
    "swiglu": (np.concatenate((normal(2, 37), 60 * normal(2, 37))), normal(4, 37)),
    "cross_entropy": (10 * normal(2, 5, 7), TOKENS),
    "drop": (normal(9, 37), np.arange(9 * 37, dtype=np.uint16).reshape(9, 37), 100, 1.25),
}
OTHERS: dict[str, tuple[Any, ...]] = {
    "embedding_backward": (normal(2, 5, 37), (TOKENS, (7, 37))),
    "rotate": (normal(2, 5, 4, 6)[:, :, 1:], *TABLE),
    "dropout_backward": (normal(9, 37), (normal(9, 37) > 0, 1.25)),
}


def check(name: str, arguments: tuple[Any, ...]) -> Any:
    """The twin in float32 against the definition in float64, of which what is saved is returned."""
    function = getattr(numpy_gpt, name)
    expected = function(*in_type(arguments, np.float64))
    found = function(*in_type(arguments, np.float32))
    for ours, theirs in zip(arrays_in(found), arrays_in(expected), strict=True):
        assert ours.shape == theirs.shape
        assert ours.dtype in (np.float32, theirs.dtype) or not ours.shape
        scale = max(1.0, float(np.abs(theirs.astype(float)).max()))
        np.testing.assert_allclose(ours, theirs, rtol=5e-6, atol=5e-7 * scale)
    return expected


@pytest.mark.parametrize("name", FORWARDS)
def test_a_function_and_its_gradient_are_those_of_the_definitions(name: str) -> None:
    y, saved = check(name, FORWARDS[name])
    if hasattr(numpy_gpt, f"{name}_backward") and name != "cross_entropy":
        check(f"{name}_backward", (normal(*y.shape), saved))


@pytest.mark.parametrize("name", OTHERS)
def test_what_has_another_form_is_that_of_its_definition(name: str) -> None:
    check(name, OTHERS[name])


def test_adam_is_that_of_its_definition() -> None:
    arrays = (normal(9, 37), normal(9, 38)[:, 1:].copy(), normal(9, 37), normal(9, 37) ** 2)
    factors = (0.9, 0.99, 0.01, 0.3, 1e-8)
    both = []
    for kind in (np.float64, np.float32):
        given = in_type(arrays, kind)
        numpy_optimizers.adam_update(*given, *factors)
        both.append(given)
    for theirs, ours in zip(*both, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_a_target_outside_of_the_vocabulary_is_an_error() -> None:
    with pytest.raises(IndexError):
        numpy_gpt.cross_entropy(np.zeros((1, 1, 3), np.float32), np.array([[3]]))


SHAPES: dict[str, dict[str, Any]] = {
    "gpt2": {"positions": "learned", "bias": True},
    "llama": {
        "norm": "rmsnorm",
        "activation": "swiglu",
        "qk_norm": True,
        "n_kv_heads": 2,
        "tie_weights": False,
    },
    "quick": {"norm": "rmsnorm", "activation": "relu2", "qk_norm": True},
}


def make_state(shape: str, parts: int, *, dropout: float = 0.2, **more: Any) -> NumpyTrainState:
    config = ModelConfig(
        d_model=16, n_heads=4, n_layers=2, max_seq_len=8, dropout=dropout, **SHAPES[shape]
    )
    training = TrainingConfig(ema_decay=0.9, **more)
    model = GPT(config, VOCAB, np.random.default_rng(1))
    return NumpyTrainState(model, training, np.random.default_rng(0), parts=parts)


def trained(state: NumpyTrainState, rows: int = 4, steps: int = 12) -> list[float]:
    generator = np.random.default_rng(2)
    text = np.cumsum(generator.integers(1, 3, 4000)) % VOCAB
    losses = []
    for _ in range(steps):
        starts = generator.integers(0, len(text) - 9, (2, rows))
        windows = [text[places[:, None] + np.arange(9)] for places in starts]
        losses.append(state.step(windows, 1.0).loss)
    return losses


@pytest.mark.parametrize("shape", SHAPES)
def test_steps_are_those_of_the_definitions(shape: str) -> None:
    ours = trained(make_state(shape, parts=1))
    use_twins({})
    try:
        theirs = trained(make_state(shape, parts=1))
    finally:
        use_compiled()
    assert ours == pytest.approx(theirs, abs=2e-5)


@pytest.mark.parametrize("optimizer", ["adamw", "muon", "sgd"])
def test_a_step_on_several_threads_repeats_bit_for_bit(optimizer: str) -> None:
    runs = [make_state("llama", parts=3, optimizer=optimizer) for _ in range(3)]
    losses = [trained(state) for state in runs]
    assert losses[0] == losses[1] == losses[2]
    for name, weight in runs[0].model.weights.items():
        np.testing.assert_array_equal(runs[1].model.weights[name], weight)


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_a_batch_that_threads_cannot_share_evenly_is_learned_whole(rows: int) -> None:
    # Without dropout, which every part draws by itself.
    one, three = (make_state("quick", parts=parts, dropout=0.0) for parts in (1, 3))
    assert trained(three, rows) == pytest.approx(trained(one, rows), abs=2e-5)


@pytest.mark.parametrize("name", ["norm.weight", "blocks.0.attention.qkv.weight"])
@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_a_step_that_is_not_finite_shows(name: str, value: float) -> None:
    state = make_state("quick", parts=2)
    state.model.weights[name][0] = value
    before = {key: weight.copy() for key, weight in state.model.weights.items()}
    assert not np.isfinite(trained(state, steps=1)[0])
    for key, weight in before.items():
        np.testing.assert_array_equal(state.model.weights[key], weight)


def test_an_error_on_another_thread_is_the_steps() -> None:
    state = make_state("quick", parts=2)
    wrong = np.zeros((4, 9), np.int64)
    wrong[3, 2] = VOCAB
    with pytest.raises(IndexError):
        state.step([wrong], 1.0)
    assert trained(state) == trained(make_state("quick", parts=2))


def test_a_run_on_two_threads_is_resumed_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    config = make_config(training__backend="numpy", model__dropout=0.2)
    whole = train(tmp_path, config, name="whole").run
    train(tmp_path, config, on_event=post_at(9, Stop()))
    resumed = resume(tmp_path).run
    assert what_was_learned(resumed) == what_was_learned(whole)
    weights = [run.checkpoint(24).weights_path.read_bytes() for run in (resumed, whole)]
    assert weights[0] == weights[1]


# --- compiling -----------------------------------------------------------------------------------


def doubled(numbers: Any) -> None:
    for i in range(len(numbers)):
        numbers[i] *= 2


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    return tmp_path / "cache" / "compiled"


def compile_doubled(
    told: list[str] | None = None, cancelled: Callable[[], bool] = lambda: False
) -> None:
    kernel = numba.njit(doubled)
    signature = numba.void(numba.float32[::1])

    def report(what: str, done: int, total: int | None) -> None:
        if told is not None:
            told.append(what)

    compile_kernels([(kernel, signature)], report, cancelled)
    numbers = np.ones(3, np.float32)
    kernel(numbers)
    assert (numbers == 2).all()


def test_what_is_compiled_is_kept_in_the_users_cache(cache: Path) -> None:
    told: list[str] = []
    compile_doubled(told)
    assert told[-1] == "compiling, once"
    assert list(cache.rglob("*.nbc"))
    told.clear()
    compile_doubled(told)
    assert set(told) == {"loading compiled code"}


def test_a_cache_that_cannot_be_written_costs_time_only(cache: Path) -> None:
    cache.parent.mkdir(exist_ok=True)
    cache.write_text("in the way")
    compile_doubled()
    assert cache.read_text() == "in the way"


def test_a_full_disk_costs_time_only(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*paths: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    compile_doubled()
    assert not list(cache.rglob("*.nbi"))


@pytest.mark.parametrize("left", [0, 40])
def test_a_damaged_cache_is_made_anew(cache: Path, left: int) -> None:
    compile_doubled()
    for file in (*cache.rglob("*.nbc"), *cache.rglob("*.nbi")):
        file.write_bytes(file.read_bytes()[:left])
    compile_doubled()
    told: list[str] = []
    compile_doubled(told)
    assert set(told) == {"loading compiled code"}


def test_numba_that_is_missing_or_switched_off_leaves_the_definitions() -> None:
    x = np.linspace(-3, 3, 9, dtype=np.float32)
    for setting, module in (("1", numba), ("0", None)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("NUMBA_DISABLE_JIT", setting)
            patch.setitem(sys.modules, "numba", module)
            assert not use_compiled()
            np.testing.assert_array_equal(numpy_gpt.gelu(x)[0], numpy_gpt.gelu.__wrapped__(x)[0])
            assert "numba" not in NumpyBackend().arithmetic().library
    assert use_compiled()


def test_compiling_can_be_cancelled(cache: Path) -> None:
    with pytest.raises(CancelledError):
        compile_doubled(cancelled=lambda: True)
