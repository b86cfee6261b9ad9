"""``generate --draft``: another model or the text itself proposes tokens, the model decides."""

import argparse
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from shakespeare_tui.cli.speed import SteadySpeed
from shakespeare_tui.cli.writing import Limits, Written
from shakespeare_tui.errors import UserError

if TYPE_CHECKING:
    from shakespeare_tui.data.tokenizers.tokenizer import Tokenizer
    from shakespeare_tui.decoding.factory import AnyModel
    from shakespeare_tui.decoding.speculative import Acceptance, Proposer
    from shakespeare_tui.runs.folder import Checkpoint
    from shakespeare_tui.sampling import Strategy

LOOK_UP = "lookup"


def check_draft(arguments: argparse.Namespace, strategy: "Strategy") -> None:
    """Refuse options that do not go with ``--draft``.

    Raises:
        UserError: One is given, or the strategy searches.
    """
    if arguments.draft is None:
        return
    given = {
        "--sweep": arguments.sweep is not None,
        "--batch": arguments.batch is not None,
        "--num-samples": arguments.num_samples != 1,
        "--no-cache": arguments.no_cache,
    }
    for option, is_given in given.items():
        if is_given:
            raise UserError(f"--draft writes one text with a cache; leave out {option}")
    if strategy.method not in ("sample", "greedy"):
        raise UserError(
            f"--draft proposes tokens that are drawn; leave out {strategy.steps[-1].text}"
        )


def find_draft(name: str, checkpoint: "Checkpoint") -> "Checkpoint | None":
    """The checkpoint that makes proposals; None where the text itself does.

    Raises:
        UserError: There is none, or its vocabulary is another.
    """
    from shakespeare_tui.paths import runs_folder
    from shakespeare_tui.runs.folder import find_checkpoint

    if name == LOOK_UP:
        return None
    draft = find_checkpoint(name, runs_folder())
    if draft.run.tokenizer().fingerprint != checkpoint.run.tokenizer().fingerprint:
        raise UserError(
            f"--draft {draft.reference} knows other characters than {checkpoint.reference}; "
            "take one that was trained on the same corpus"
        )
    return draft


def write_drafted(
    model: "AnyModel",
    tokenizer: "Tokenizer",
    prompt: list[int],
    strategy: "Strategy",
    seed: int,
    limits: Limits,
    draft: "AnyModel | None",
    each_row: Callable[[list[str]], None],
) -> "tuple[Written, Acceptance]":
    """Continue a prompt; the distribution is that of the model alone. Also counts proposals.

    Args:
        model: In evaluation mode.
        tokenizer: The model's.
        prompt: Token ids.
        strategy: How tokens are chosen, by both models.
        seed: Of the text.
        limits: How much is written, and how.
        draft: Makes the proposals; None looks them up in the text.
        each_row: Told what each token adds to the text.
    """
    from shakespeare_tui.decoding.speculative import Acceptance, generate_speculatively
    from shakespeare_tui.decoding.streaming_text import StreamedText

    acceptance, speed = Acceptance(), SteadySpeed()
    proposer = _proposer(model, strategy, seed, draft)
    stream: list[int] = []
    pieces: list[str] = []
    text = StreamedText(tokenizer, limits.stop)
    started = time.perf_counter()
    for tokens in generate_speculatively(
        model,
        prompt,
        strategy,
        proposer,
        max_tokens=limits.max_tokens,
        seed=seed,
        stop=limits.stop,
        precision=limits.precision,
        acceptance=acceptance,
    ):
        stream += tokens
        for token in tokens:
            speed.count(1)
            pieces.append(text.feed(token))
            each_row(pieces[-1:])
    seconds = time.perf_counter() - started
    pieces.append(text.flush())
    each_row(pieces[-1:])
    written = Written([stream], ["".join(pieces)], seconds, speed.tokens_per_second)
    return written, acceptance


def _proposer(
    model: "AnyModel", strategy: "Strategy", seed: int, draft: "AnyModel | None"
) -> "Proposer":
    from shakespeare_tui.decoding.speculative import LookUpProposer, ModelProposer

    if draft is None:
        return LookUpProposer(model.vocab_size)
    return ModelProposer(draft, strategy, seed=seed)
