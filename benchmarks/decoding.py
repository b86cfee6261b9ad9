"""Tokens a second of generation: plain, by transformers, and ours in every precision, in turn.

The plain loop runs its whole context for every token; transformers runs a GPT-2 of
the same shape with its key-value cache. Each continues half a context by another half, so that all
is read once for every half context written, as it goes on in a long text. Weights are random, and
tokens are drawn at temperature 0.8. Run it on an otherwise idle machine:

    python benchmarks/decoding.py --rounds 3

A run, an imported one for example, continues a few tokens by as many as ``--tokens`` says, and the
plain loop is left out. All find the machine in the same state, so that ratios hold where others
compute beside; ``--threads 1`` then makes them steadier:

    python benchmarks/decoding.py --run runs/smollm2-135m --streams 1
"""

import argparse
import functools
import os
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from shakespeare_tui.config.load import load_config
from shakespeare_tui.decoding.columns import Column, generate_columns
from shakespeare_tui.decoding.decoder import PRECISIONS, Precision
from shakespeare_tui.decoding.factory import make_decoder
from shakespeare_tui.library import load
from shakespeare_tui.models.transformer import Transformer
from shakespeare_tui.sampling import parse_strategy

VOCAB_SIZE = 65
TEMPERATURE = 0.8


@torch.inference_mode()
def plain(model: Transformer, prompt: list[int], tokens: int, streams: int) -> None:
    """Every token from its whole context, as one writes it first."""
    text = torch.tensor([prompt] * streams)
    for _ in range(tokens):
        logits = model(text[:, -model.config.max_seq_len :])[:, -1] / TEMPERATURE
        probabilities = torch.softmax(logits, dim=-1)
        text = torch.cat((text, torch.multinomial(probabilities, 1)), dim=1)


def make_theirs(model: Transformer) -> Any:
    """A Llama of ``transformers`` with the shape of ``model`` where that is one, else a GPT-2."""
    import transformers

    shape = model.config
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
            bos_token_id=0,
            eos_token_id=None,
            pad_token_id=model.vocab_size - 1,
        )
        return transformers.LlamaForCausalLM(llama).eval()  # type: ignore[no-untyped-call]
    config = transformers.GPT2Config(
        vocab_size=model.vocab_size,
        n_positions=shape.max_seq_len,
        n_embd=shape.d_model,
        n_layer=shape.n_layers,
        n_head=shape.n_heads,
        bos_token_id=0,
        eos_token_id=None,
        pad_token_id=model.vocab_size - 1,
    )
    return transformers.GPT2LMHeadModel(config).eval()  # type: ignore[no-untyped-call]


@torch.inference_mode()
def by_transformers(theirs: Any, prompt: list[int], tokens: int, streams: int) -> None:
    """The cached generation of ``transformers``."""
    theirs.generate(
        torch.tensor([prompt] * streams),
        attention_mask=torch.ones(streams, len(prompt), dtype=torch.int64),
        max_new_tokens=tokens,
        min_new_tokens=tokens,
        do_sample=True,
        temperature=TEMPERATURE,
        top_k=0,
    )


def ours(
    model: Transformer, prompt: list[int], tokens: int, streams: int, precision: Precision
) -> None:
    """What ``generate`` does."""
    column = Column(strategy=parse_strategy(f"temperature={TEMPERATURE}"), samples=streams)
    decoder = make_decoder(model, 1, precision=precision)
    for _ in generate_columns(decoder, prompt, [column], max_tokens=tokens):
        pass


def seconds(work: Callable[[], object]) -> float:
    """How long ``work`` takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def contenders(model: Transformer, prompt: list[int], tokens: int) -> dict[str, Any]:
    """Every way to continue ``prompt``, as a function of the number of streams."""
    theirs = make_theirs(model)
    ways: dict[str, Any] = {
        "plain": lambda streams: plain(model, prompt, tokens, streams),
        "transformers": lambda streams: by_transformers(theirs, prompt, tokens, streams),
    }
    for precision in PRECISIONS:
        ways[f"ours, {precision}"] = lambda streams, precision=precision: ours(
            model, prompt, tokens, streams, precision
        )
    return ways


def of_preset(name: str) -> tuple[Transformer, list[int], int]:
    """A model of a preset's shape, half a context of tokens, and how many to continue it by."""
    config = load_config(name).model.model_copy(update={"dropout": 0.0})
    model = Transformer(config, VOCAB_SIZE, torch.Generator().manual_seed(1)).eval()
    half = config.max_seq_len // 2
    return model, [place % VOCAB_SIZE for place in range(half)], half


def measure(
    name: str, model: Transformer, ways: dict[str, Any], tokens: int, rounds: int, streams: int
) -> None:
    """Measure the ways in turn with so many streams, and print their table."""
    speeds: dict[str, list[float]] = {way: [] for way in ways}
    for way, run in ways.items():
        # Warmed up, but for the plain loop, which is the slowest and gains nothing by it.
        if way != "plain":
            run(streams)
    for _ in range(rounds):
        for way, run in ways.items():
            took = seconds(functools.partial(run, streams))
            speeds[way].append(tokens * streams / took)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    print(
        f"\n{name}: {parameters / 1e6:.2f}M parameters, context {model.context}, streams: {streams}"
    )
    medians = {way: statistics.median(found) for way, found in speeds.items()}
    for way, found in speeds.items():
        spread = f"({min(found):,.0f}–{max(found):,.0f})"
        ratios = "".join(
            f"{medians[way] / medians[base]:6.1f} × {base}"
            for base in ("plain", "transformers")
            if base in medians
        )
        print(f"{way:16}{medians[way]:8,.0f} {spread:18}{ratios}", flush=True)


def measure_first_token(name: str) -> None:
    """Print how long the first token takes with the model loaded; the first text packs it."""
    model = Transformer(load_config(name).model, VOCAB_SIZE, torch.Generator().manual_seed(1))
    model.eval()
    for length in (6, model.config.max_seq_len):
        prompt = [place % VOCAB_SIZE for place in range(length)]
        once = functools.partial(ours, model, prompt, 1, 1, "auto")
        taken = [1000 * seconds(once) for _ in range(9)]
        print(
            f"{name}: first token after {length} characters in {statistics.median(taken):.0f} ms "
            f"({min(taken):.0f}–{max(taken):.0f})",
            flush=True,
        )


def main() -> None:
    """Measure the presets' shapes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--configs", nargs="+", default=["shakespeare", "quick"])
    parser.add_argument("--run", help="this run's best checkpoint in place of the presets")
    parser.add_argument("--tokens", type=int, default=64, help="to continue a run by")
    parser.add_argument("--threads", type=int, help="of matrix products")
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 8])
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    print(
        f"{platform.machine()}, {os.cpu_count()} CPUs, torch {torch.__version__}, "
        f"{torch.get_num_threads()} threads; tokens/s, medians of {arguments.rounds} (range)"
    )
    names = [] if arguments.run else arguments.configs
    for name in names:
        measure_first_token(name)
        model, prompt, tokens = of_preset(name)
        ways = contenders(model, prompt, tokens)
        for streams in arguments.streams:
            measure(name, model, ways, tokens, arguments.rounds, streams)
    if arguments.run:
        loaded = load(arguments.run, device="cpu")
        network = loaded.network
        if not isinstance(network, Transformer):
            parser.error(f"{arguments.run} was trained by NumPy; name a run of PyTorch")
        prompt = loaded.tokenizer.encode("Once upon a time, in a small town by the sea,").tolist()
        ways = contenders(network, prompt, arguments.tokens)
        del ways["plain"]
        for streams in arguments.streams:
            measure(arguments.run, network, ways, arguments.tokens, arguments.rounds, streams)


if __name__ == "__main__":
    main()
