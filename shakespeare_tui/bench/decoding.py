"""Generation: tokens a second, plain, by transformers, and here in every precision and strategy."""

import functools
import importlib
import importlib.util
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from shakespeare_tui.bench.figures import Figures, Watcher
from shakespeare_tui.bench.plain import write
from shakespeare_tui.config.load import load_config
from shakespeare_tui.decoding.columns import Column, generate_columns
from shakespeare_tui.decoding.cpu_decoder import wait_until_compiled
from shakespeare_tui.decoding.decoder import PRECISIONS, Precision
from shakespeare_tui.decoding.factory import make_decoder
from shakespeare_tui.errors import UserError
from shakespeare_tui.library import load
from shakespeare_tui.machine import usable_cores
from shakespeare_tui.models.transformer import Transformer
from shakespeare_tui.runs.folder import Checkpoint
from shakespeare_tui.sampling import parse_strategy

_VOCAB_SIZE = 65
_TEMPERATURE = 0.8
_ROUNDS = 3
_RUN_TOKENS = 64
SHAPES, STREAMS = ("quick", "shakespeare"), (1, 8)
PLAIN, TRANSFORMERS = "plain loop", "transformers"
# Without a cache a token costs a whole context, wherever it stands: a few tell the speed.
_PLAIN_SHARE = 8
STRATEGIES = (
    "greedy",
    "temperature=0.8",
    "temperature=0.8 top_k=20",
    "temperature=0.8 top_p=0.9",
    "temperature=0.8 min_p=0.05",
    "temperature=0.8 typical=0.9",
    "mirostat=2.0",
    "dry=0.8",
    "repetition_penalty=1.2",
    "beam=4",
    "contrastive=4,alpha=0.6",
)


def measure(
    watcher: Watcher, shapes: Sequence[str] = SHAPES, stream_counts: Sequence[int] = STREAMS
) -> Iterator[Figures]:
    """Half a context continued by another half, so that all is read once for each half written.

    Weights are random. The model of ``transformers`` is its GPT-2 of the same width and depth, with
    its key-value cache.

    Args:
        watcher: Is told, and may call it off.
        shapes: Of these presets.
        stream_counts: So many at once. First tokens and strategies are measured with one.
    """
    for preset in shapes:
        model = _model(preset)
        half = model.context // 2
        prompt = [place % _VOCAB_SIZE for place in range(half)]
        for streams in stream_counts:
            title = f"Generation by the shape of {preset}, streams: {streams}"
            ways = contenders(model, prompt, half, streams)
            few = half // _PLAIN_SHARE
            ways[PLAIN] = functools.partial(
                _speed,
                functools.partial(write, model, prompt, few, streams, model.context, _TEMPERATURE),
                few * streams,
            )
            yield turns(watcher, title, ways, _ROUNDS)
        if 1 in stream_counts:
            yield _first_token(watcher, preset, model)
    if "quick" in shapes and 1 in stream_counts:
        yield _strategies(watcher)


def measure_run(watcher: Watcher, reference: str) -> Iterator[Figures]:
    """A run's checkpoint, an imported model's for example, continues a few tokens.

    Raises:
        UserError: There is no such run, or PyTorch did not train it.
    """
    loaded = load(reference, device="cpu")
    if not isinstance(loaded.network, Transformer):
        raise UserError(f"{reference} was trained by NumPy; name a run of PyTorch")
    prompt = loaded.tokenizer.encode("Once upon a time, in a small town by the sea,").tolist()
    ways = contenders(loaded.network, prompt, _RUN_TOKENS, 1)
    with _llama_cpp(loaded.checkpoint, prompt, _RUN_TOKENS) as theirs:
        yield turns(watcher, f"Generation by {reference}", ways | theirs, _ROUNDS)


@contextmanager
def _llama_cpp(
    checkpoint: Checkpoint, prompt: list[int], tokens: int
) -> Iterator[dict[str, Callable[[], float]]]:
    """llama.cpp on the checkpoint's GGUF, where ``xllamacpp``, which carries it, is installed."""
    if not importlib.util.find_spec("xllamacpp") or not importlib.util.find_spec("gguf"):
        yield {}
        return
    from shakespeare_tui.export import gguf_file
    from shakespeare_tui.export.source import Options, open_source

    llama: Any = importlib.import_module("xllamacpp")
    source = open_source(checkpoint)
    request = {
        "prompt": prompt,
        "n_predict": tokens,
        "temperature": _TEMPERATURE,
        "samplers": ["temperature"],
        "ignore_eos": True,
        "cache_prompt": False,
    }
    ways: dict[str, Callable[[], float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for dtype in ("float32", "q8_0"):
            options = Options(dtype=dtype)
            try:
                gguf_file.check(source, options)
            except UserError:  # not every model has an equivalent there
                break
            path = Path(folder) / f"{dtype}.gguf"
            gguf_file.write(source, options, path)
            parameters = llama.CommonParams()
            parameters.model.path = str(path)
            parameters.n_ctx = source.model.context
            parameters.n_parallel, parameters.verbosity = 1, -1
            parameters.cpuparams.n_threads = usable_cores()
            server = llama.Server(parameters)
            write_ = functools.partial(server.handle_completions, request)
            ways[f"llama.cpp, {dtype}"] = functools.partial(_speed, write_, tokens)
        yield ways


def turns(
    watcher: Watcher, title: str, ways: dict[str, Callable[[], float]], rounds: int
) -> Figures:
    """Measure ways to write in turn, each warmed up and compiled before."""
    for name, way in ways.items():
        if name != PLAIN:
            watcher.tell(f"{title}: {name}, warming up")
            way()
    wait_until_compiled()
    samples = watcher.in_turn(title, ways, rounds)
    return Figures(title, "tokens/s", samples, tuple(b for b in (PLAIN, TRANSFORMERS) if b in ways))


def contenders(
    model: Transformer, prompt: list[int], tokens: int, streams: int
) -> dict[str, Callable[[], float]]:
    """Ways to continue a prompt with a cache; each measures its tokens a second."""
    ways: dict[str, Callable[[], float]] = {}
    if importlib.util.find_spec("transformers"):
        theirs = make_theirs(model)
        ways[TRANSFORMERS] = functools.partial(
            _speed,
            functools.partial(_by_transformers, theirs, prompt, tokens, streams),
            tokens * streams,
        )
    for precision in PRECISIONS:
        ways[f"ours, {precision}"] = functools.partial(
            _speed,
            functools.partial(_ours, model, prompt, tokens, streams, precision),
            tokens * streams,
        )
    return ways


def make_theirs(model: Transformer) -> Any:
    """A Llama of ``transformers`` with the shape of ``model`` where that is one, else a GPT-2."""
    import transformers

    shape = model.config
    tokens: dict[str, Any] = {
        "bos_token_id": 0,
        "eos_token_id": None,
        "pad_token_id": model.vocab_size - 1,
    }
    if shape.activation == "swiglu" and shape.positions == "rope":
        llama = transformers.LlamaConfig(
            vocab_size=model.vocab_size,
            max_position_embeddings=shape.max_seq_len,
            hidden_size=shape.d_model,
            intermediate_size=shape.feedforward_width,
            num_hidden_layers=shape.n_layers,
            num_attention_heads=shape.n_heads,
            num_key_value_heads=shape.key_heads,
            head_dim=shape.head_width,
            tie_word_embeddings=shape.tie_weights,
            **tokens,
        )
        return transformers.LlamaForCausalLM(llama).eval()  # type: ignore[no-untyped-call]
    config = transformers.GPT2Config(
        vocab_size=model.vocab_size,
        n_positions=shape.max_seq_len,
        n_embd=shape.d_model,
        n_layer=shape.n_layers,
        n_head=shape.n_heads,
        **tokens,
    )
    return transformers.GPT2LMHeadModel(config).eval()  # type: ignore[no-untyped-call]


def _model(preset: str) -> Transformer:
    config = load_config(preset).model.model_copy(update={"dropout": 0.0})
    return Transformer(config, _VOCAB_SIZE, torch.Generator().manual_seed(1)).eval()


def _speed(work: Callable[[], object], tokens: int) -> float:
    """Tokens a second of something that writes so many."""
    started = time.perf_counter()
    work()
    return tokens / (time.perf_counter() - started)


@torch.inference_mode()
def _by_transformers(theirs: Any, prompt: list[int], tokens: int, streams: int) -> None:
    theirs.generate(
        torch.tensor([prompt] * streams),
        attention_mask=torch.ones(streams, len(prompt), dtype=torch.int64),
        max_new_tokens=tokens,
        min_new_tokens=tokens,
        do_sample=True,
        temperature=_TEMPERATURE,
        top_k=0,
    )


def _ours(
    model: Transformer,
    prompt: list[int],
    tokens: int,
    streams: int,
    precision: Precision,
    strategy: str = f"temperature={_TEMPERATURE}",
) -> None:
    """What the lab does."""
    column = Column(strategy=parse_strategy(strategy), samples=streams)
    decoder = make_decoder(model, 1, precision=precision, is_settled=True)
    for _ in generate_columns(decoder, prompt, [column], max_tokens=tokens):
        pass


def _first_token(watcher: Watcher, preset: str, model: Transformer) -> Figures:
    """Seconds to it with the model loaded, after few tokens and after a whole context."""

    def once(length: int) -> float:
        started = time.perf_counter()
        _ours(model, [place % _VOCAB_SIZE for place in range(length)], 1, 1, "auto")
        return 1000 * (time.perf_counter() - started)

    title = f"First token by the shape of {preset}"
    after = {
        f"after {length} tokens": functools.partial(once, length) for length in (6, model.context)
    }
    return Figures(title, "ms", watcher.in_turn(title, after, 7), is_rate=False)


def _strategies(watcher: Watcher) -> Figures:
    model = _model("quick")
    half = model.context // 2
    prompt = [place % _VOCAB_SIZE for place in range(half)]
    ways = {
        strategy: functools.partial(
            _speed,
            functools.partial(_ours, model, prompt, half, 1, "float32", strategy),
            half,
        )
        for strategy in STRATEGIES
    }
    return turns(watcher, "Strategies by the shape of quick, float32", dict(ways), _ROUNDS)
