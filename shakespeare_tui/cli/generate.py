"""``generate``: continue a prompt with a checkpoint."""

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from shakespeare_tui.cli.console import check_device, print_json, say, whole_number
from shakespeare_tui.core.errors import UserError

if TYPE_CHECKING:
    from shakespeare_tui.core.tokenizers import Tokenizer

_MOST_TOKENS = 1_000_000
_MOST_SAMPLES = 10_000
_MOST_TOKENS_TOGETHER = 100_000_000


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Describe the command."""
    parser = subparsers.add_parser(
        "generate",
        help="continue a prompt with a trained model",
        description="Continue a prompt with a checkpoint, printing the text as it is made.",
        epilog="Example: shakespeare-tui generate quick-1 --prompt 'ROMEO:' --temperature 0.7",
    )
    parser.add_argument(
        "checkpoint", metavar="RUN[@REF]", help="a run, RUN@best, RUN@last, RUN@STEP or a path"
    )
    parser.add_argument("--prompt", help="text to continue; default: the run's first prompt")
    parser.add_argument(
        "--max-tokens", type=whole_number, default=500, metavar="N", help="tokens to generate (500)"
    )
    parser.add_argument(
        "--temperature", type=float, default=0.8, metavar="T", help="0.8; 0: greedy"
    )
    parser.add_argument(
        "--top-k", type=whole_number, default=0, metavar="K", help="keep the K likeliest"
    )
    parser.add_argument(
        "--top-p", type=float, default=1.0, metavar="P", help="keep the likeliest with mass P"
    )
    parser.add_argument(
        "--repetition-penalty", type=float, default=1.0, metavar="R", help="above 1: repeat less"
    )
    parser.add_argument("--greedy", action="store_true", help="always take the likeliest token")
    parser.add_argument(
        "--num-samples",
        type=whole_number,
        default=1,
        metavar="N",
        help="continuations, made together",
    )
    parser.add_argument(
        "--seed", type=whole_number, default=42, metavar="S", help="same seed, same text (42)"
    )
    parser.add_argument(
        "--no-cache", action="store_true", help="read the context anew for every token (slow)"
    )
    parser.add_argument(
        "--precision",
        choices=("auto", "float32", "bfloat16", "int8"),
        default="auto",
        help="auto computes what the model does; bfloat16 and int8 are faster and approximate",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the result to FILE")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Generate and print or save."""
    _check(arguments)
    from shakespeare_tui.core.paths import runs_folder
    from shakespeare_tui.core.runs import find_checkpoint

    checkpoint = find_checkpoint(arguments.checkpoint, runs_folder())
    from shakespeare_tui.core.sampling import strategy_from_flags
    from shakespeare_tui.engine.checkpoints import load_model
    from shakespeare_tui.engine.decoding import Column, generate_columns
    from shakespeare_tui.engine.device import resolve_device

    settings = {
        "temperature": 0.0 if arguments.greedy else arguments.temperature,
        "top_k": arguments.top_k,
        "top_p": arguments.top_p,
        "repetition_penalty": arguments.repetition_penalty,
    }
    column = Column(
        strategy=strategy_from_flags(**settings),
        samples=arguments.num_samples,
        seed=arguments.seed,
    )
    # The prompt is checked before the model is loaded: a wrong one fails at once.
    tokenizer = checkpoint.run.tokenizer()
    prompt = arguments.prompt
    if prompt is None:
        prompt = _default_prompt(checkpoint.run.config().sampling.prompts, tokenizer)
    tokens = tokenizer.encode(prompt)
    if not tokens:
        raise UserError("the prompt is empty; give at least one character, a newline for example")
    model, tokenizer = load_model(checkpoint, resolve_device(arguments.device))
    is_streamed = not arguments.json and arguments.output is None
    if is_streamed:
        _write_part(_heading(1, arguments.num_samples) + prompt)
    samples: list[list[int]] = [[] for _ in range(arguments.num_samples)]
    started = time.perf_counter()
    for row in generate_columns(
        model,
        tokens,
        [column],
        max_tokens=arguments.max_tokens,
        precision=arguments.precision,
        use_cache=not arguments.no_cache,
    ):
        for sample, token in zip(samples, row, strict=True):
            sample.append(token)
        if is_streamed:
            _write_part(tokenizer.decode(row[:1]))
    seconds = time.perf_counter() - started
    texts = [tokenizer.decode(sample) for sample in samples]
    speed = arguments.max_tokens * arguments.num_samples / seconds
    if is_streamed:
        _write_part("\n")
        for number, text in enumerate(texts[1:], start=2):
            _write_part(_heading(number, len(texts)) + prompt + text + "\n")
        say(f"{speed:,.0f} tokens/s")
        return 0
    result = {
        "checkpoint": checkpoint.reference,
        "prompt": prompt,
        "settings": _settings(settings, arguments),
        "samples": [{"text": text} for text in texts],
        "tokens_per_second": speed,
    }
    _deliver(result, prompt, texts, arguments)
    return 0


def _check(arguments: argparse.Namespace) -> None:
    tokens, samples = arguments.max_tokens, arguments.num_samples
    if tokens < 1:
        raise UserError(f"--max-tokens must be at least 1, got {tokens}")
    if not 1 <= samples <= _MOST_SAMPLES:
        raise UserError(f"--num-samples must be from 1 to {_MOST_SAMPLES:,}, got {samples}")
    if tokens > _MOST_TOKENS or tokens * samples > _MOST_TOKENS_TOGETHER:
        raise UserError(
            f"--max-tokens must be at most {_MOST_TOKENS:,}, and {_MOST_TOKENS_TOGETHER:,} over "
            f"all samples, got {tokens} for each of {samples}"
        )
    check_device(arguments.device)
    output = arguments.output
    if output is not None and (output.is_dir() or not output.parent.is_dir()):
        raise UserError(f"--output {output}: no file can be written there; name one in a folder")


def _default_prompt(prompts: tuple[str, ...], tokenizer: "Tokenizer") -> str:
    """The first of the run's prompts that its corpus has the characters for."""
    for prompt in (*prompts, "\n"):
        try:
            tokenizer.encode(prompt)
        except UserError:
            continue
        return prompt
    return tokenizer.decode([0])


def _settings(settings: dict[str, float | int], arguments: argparse.Namespace) -> dict[str, object]:
    return {
        **settings,
        "seed": arguments.seed,
        "precision": arguments.precision,
        "max_tokens": arguments.max_tokens,
        "num_samples": arguments.num_samples,
    }


def _deliver(
    result: dict[str, object], prompt: str, texts: list[str], arguments: argparse.Namespace
) -> None:
    import json

    from shakespeare_tui.core.files import write_atomically

    if arguments.output is None:
        print_json(result)
        return
    if arguments.json:
        content = json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    else:
        content = "\n".join(
            _heading(number, len(texts)) + prompt + text + "\n"
            for number, text in enumerate(texts, start=1)
        )
    write_atomically(arguments.output, content)
    say(f"wrote {len(texts)} sample{'s' if len(texts) > 1 else ''} to {arguments.output}")


def _heading(number: int, count: int) -> str:
    if count == 1:
        return ""
    from shakespeare_tui.cli.train_console import rule

    return rule(f"sample {number} of {count}") + "\n"


def _write_part(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
