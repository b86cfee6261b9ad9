"""Where the surprise view reaches the engine: scores, expectations and attention of a text."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from shakespeare_tui.ui.engine.writing import load_model_of, reference_of

if TYPE_CHECKING:
    from shakespeare_tui.measures import Measures

Reals = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Scored:
    """What a model made of a text of N characters.

    Attributes:
        nats: Surprise of each character [N]; NaN for the first.
        entropy: Entropy of what was expected there [N]; NaN for the first.
        rank: Place of the character among all by probability [N], from 1; 0 for the first.
        measures: Of the text, copied passages among them.
    """

    nats: Reals
    entropy: Reals
    rank: Integers
    measures: "Measures"


@dataclass(frozen=True, eq=False)
class Expectation:
    """What a model expected at a place.

    Attributes:
        logits: Raw, [V].
        tokens: All tokens before the place, [L].
        characters: What each token id stands for, V of them.
    """

    logits: Reals
    tokens: Integers
    characters: tuple[str, ...]


def score_text(reference: str, runs_root: Path, text: str, prompt_length: int) -> Scored:
    """Score and measure a text of at least two characters; loads the model where needed.

    Raises:
        UserError: There is no such checkpoint, or the text has characters it does not know.
    """
    from shakespeare_tui.decoding.score import score_tokens
    from shakespeare_tui.measures import measure_text
    from shakespeare_tui.runs.folder import find_checkpoint
    from shakespeare_tui.training.threads import SharedThreads

    run = find_checkpoint(reference, runs_root).run
    model, tokenizer = load_model_of(reference, runs_root)
    with SharedThreads():
        surprise = score_tokens(model, tokenizer.encode(text))
    measures = measure_text(text, reference_of(run.path), prompt_length)
    return Scored(
        surprise.nats,
        surprise.entropy,
        surprise.rank,
        measures.with_surprise(surprise.mean(prompt_length)),
    )


def expectation_at(reference: str, runs_root: Path, text: str, position: int) -> Expectation:
    """What was expected at ``position``, from 1 to the length of the text.

    Raises:
        UserError: There is no such checkpoint, or the text has characters it does not know.
    """
    from shakespeare_tui.decoding.score import logits_at
    from shakespeare_tui.training.threads import SharedThreads

    model, tokenizer = load_model_of(reference, runs_root)
    tokens = tokenizer.encode(text[:position]).astype(np.int64)
    characters = tuple(tokenizer.decode([token]) for token in range(tokenizer.vocab_size))
    with SharedThreads():
        logits = logits_at(model, tokens, position)
    return Expectation(logits, tokens, characters)


def attention_of(reference: str, runs_root: Path, text: str, position: int) -> Reals:
    """Weights [layers, heads, position] on the characters before ``position``.

    Raises:
        UserError: There is no such checkpoint, or the text has characters it does not know.
    """
    from shakespeare_tui.decoding.score import attention_at
    from shakespeare_tui.training.threads import SharedThreads

    model, tokenizer = load_model_of(reference, runs_root)
    with SharedThreads():
        return attention_at(model, tokenizer.encode(text[:position]), position)
