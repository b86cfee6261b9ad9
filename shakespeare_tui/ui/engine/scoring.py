"""Where the surprise view reaches the engine: scores, expectations and attention of a text."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from shakespeare_tui.data.tokenizers.tokenizer import characters_begun, shown_token, unsaid_share
from shakespeare_tui.ui.engine.writing import load_model_of, reference_of

if TYPE_CHECKING:
    from shakespeare_tui.measures import Measures

Reals = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Scored:
    """What a model made of a text of N characters.

    Attributes:
        nats: Surprise of each character [N], of all its tokens or of the token that it is in; NaN
            for the first.
        entropy: Entropy of what was expected there [N]; NaN for the first.
        rank: Place of its first token among all by probability [N], from 1; 0 for the first.
        measures: Of the text, copied passages among them.
        starts: The characters with which tokens begin, and N; ascending.
        unsaid: The share of tokens behind the prompt that do not say the text, as words outside
            the vocabulary do not; then there is no mean surprise.
    """

    nats: Reals
    entropy: Reals
    rank: Integers
    measures: "Measures"
    starts: tuple[int, ...] = ()
    unsaid: float = 0.0


@dataclass(frozen=True, eq=False)
class Expectation:
    """What a model expected at a place.

    Attributes:
        logits: Raw, [V].
        tokens: All tokens before the place, [L].
        characters: What each token id stands for, V of them.
        start: The character with which the token at the place begins.
        chosen: What the token that stands there stands for; empty behind the end.
        parts: What in ``characters`` is a part of a character, and no text.
        sampling_defaults: What suits the tokenizer, as ``parse_strategy`` takes it.
    """

    logits: Reals
    tokens: Integers
    characters: tuple[str, ...]
    start: int
    chosen: str = ""
    parts: frozenset[str] = frozenset()
    sampling_defaults: Mapping[str, int | float] = field(default_factory=dict)


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
    encoded, starts = tokenizer.encode_in_place(text)
    with SharedThreads():
        surprise = score_tokens(model, encoded)
    measures = measure_text(text, reference_of(run.path), prompt_length)
    # The token in which each character begins, [N].
    tokens = np.minimum(_token_at(starts, np.arange(len(text))), len(encoded) - 1)
    unsaid = unsaid_share(tokenizer, text[prompt_length:])
    mean = None if unsaid else surprise.nats_per_character(starts, prompt_length)
    heads, which = np.unique(tokens, return_inverse=True)
    return Scored(
        np.add.reduceat(surprise.nats, heads)[which],
        surprise.entropy[tokens],
        surprise.rank[tokens],
        measures.with_surprise(mean),
        tuple(sorted({*starts[starts < len(text)].tolist(), len(text)})),
        unsaid,
    )


def _token_at(starts: Integers, characters: Integers) -> Integers:
    """The tokens in which ``characters`` begin; behind the last character, the number of tokens."""
    return np.searchsorted(starts, characters, side="right") - 1


def expectation_at(reference: str, runs_root: Path, text: str, position: int) -> Expectation:
    """What was expected of the token at character ``position``, from 1 to the text's length.

    Raises:
        UserError: There is no such checkpoint, or the text has characters it does not know.
    """
    from shakespeare_tui.decoding.score import logits_at
    from shakespeare_tui.training.threads import SharedThreads

    model, tokenizer = load_model_of(reference, runs_root)
    ids, starts = tokenizer.encode_in_place(text)
    tokens = ids.astype(np.int64)
    place = max(1, int(_token_at(starts, np.array(position))))
    with SharedThreads():
        logits = logits_at(model, tokens, place)
    shown = tuple(shown_token(tokenizer, token) for token in range(tokenizer.vocab_size))
    whole = characters_begun(tokenizer)
    return Expectation(
        logits,
        tokens[:place],
        shown,
        start=int(starts[place]),
        chosen=shown[tokens[place]] if place < len(tokens) else "",
        parts=frozenset(text for text, n in zip(shown, whole, strict=True) if n != len(text)),
        sampling_defaults=tokenizer.sampling_defaults(),
    )


def attention_of(reference: str, runs_root: Path, text: str, position: int) -> Reals:
    """Weights [layers, heads, position] on the characters before ``position``.

    What was looked at of a token stands at its first character.

    Raises:
        UserError: There is no such checkpoint, or the text has characters it does not know.
    """
    from shakespeare_tui.decoding.score import attention_at
    from shakespeare_tui.training.threads import SharedThreads

    model, tokenizer = load_model_of(reference, runs_root)
    tokens, starts = tokenizer.encode_in_place(text)
    place = max(1, int(_token_at(starts, np.array(position))))
    with SharedThreads():
        weights = attention_at(model, tokens, place)
    found = np.zeros((*weights.shape[:2], position), np.float32)
    # A token that only goes on with a character counts to that one.
    first = _first_characters(starts[: place + 1])
    np.add.at(found.transpose(2, 0, 1), first, weights.transpose(2, 0, 1))
    return found


def _first_characters(starts: Integers) -> Integers:
    """The character of which each token is a part, the first of several, [tokens]."""
    begins = np.diff(starts) > 0
    return np.where(begins, starts[:-1], np.maximum(starts[:-1] - 1, 0))
