"""What is noted of each token: the X-ray shows what it was drawn from, memory and chance too."""

import numpy as np
import pytest
from numpy.typing import NDArray
from sampling_oracles import VOCAB, random_logits

from shakespeare_tui.sampling import STEP_KINDS, Draw, Recording, Sampler, parse_strategy, trace

DRAWING = sorted(name for name, kind in STEP_KINDS.items() if kind.method in (None, "greedy"))
MIXED = (
    "xtc=0.5,threshold=0.05 temperature=1.3",
    "mirostat=0.9,rate=0.4 temperature=0.8",
    "temperature=1.2 xtc=0.4,threshold=0.1 mirostat1=1.1,rate=0.3",
    "dry=0.8,allowed=1 frequency_penalty=0.4,last=9 mirostat=1.5,rate=0.5 top_p=0.9",
    "repetition_penalty=1.3 no_repeat_ngram=3 top_k=12 xtc=0.6,threshold=0.02",
)
PROMPT = (3, 1, 4)


def written(
    text: str, seed: int, length: int = 60
) -> tuple[NDArray[np.int64], Recording, NDArray[np.float32]]:
    """A text [L] by a model of bigrams, what was noted of it, and the model's table."""
    table = random_logits(seed, VOCAB)
    sampler, recording = Sampler(parse_strategy(text), 1, seed), Recording()
    tokens = np.array([PROMPT])
    for _ in range(length):
        probabilities = sampler.probabilities(table[tokens[:, -1]], tokens)
        recording.add(sampler.basis(0))
        chosen = sampler.draw(probabilities)
        sampler.observe(chosen)
        tokens = np.column_stack([tokens, chosen])
    return tokens[0], recording, table


@pytest.mark.parametrize("text", [*DRAWING, *MIXED])
def test_each_token_is_what_the_seed_draws_from_the_distribution_shown(text: str) -> None:
    """An oracle of its own: NumPy's generator, and the shown distribution inverted by hand."""
    for seed in range(12):
        tokens, recording, table = written(text, seed)
        uniforms = np.random.Generator(np.random.Philox(key=[seed, 0])).random(64)
        for place, token in enumerate(tokens[len(PROMPT) :]):
            draw, before = recording.at(place), tokens[: len(PROMPT) + place]
            assert draw is not None
            stages = trace(draw, before)
            shown = stages[-1].probabilities.astype(np.float64)
            assert shown[token] > 0
            assert (shown.cumsum() > uniforms[place] * shown.sum()).argmax() == token
            raw = np.exp(table[before[-1]] - table[before[-1]].max())
            np.testing.assert_allclose(stages[0].probabilities, raw / raw.sum(), atol=1e-6)


@pytest.mark.parametrize("text", MIXED)
def test_what_is_shown_equals_a_replay_from_seed_and_text(text: str) -> None:
    for seed in range(12):
        tokens, recording, table = written(text, seed)
        again = Sampler(parse_strategy(text), 1, seed)
        for place in range(len(tokens) - len(PROMPT)):
            before = tokens[None, : len(PROMPT) + place]
            probabilities = again.probabilities(table[before[:, -1]], before)
            draw = recording.at(place)
            assert draw is not None
            assert np.array_equal(trace(draw, before[0])[-1].probabilities, probabilities[0])
            again.observe(tokens[len(PROMPT) + place : len(PROMPT) + place + 1])


def test_the_coin_of_xtc_is_the_streams_own_and_is_told() -> None:
    tokens, recording, _ = written("xtc=0.5,threshold=0.05", 4)
    chances = np.random.Generator(np.random.Philox(key=[4, 0], counter=[0, 0, 0, 1])).random(64)
    told = set()
    for place in range(len(recording)):
        draw = recording.at(place)
        assert draw is not None
        assert draw.chance == chances[place]
        (_, stage) = trace(draw, tokens[: len(PROMPT) + place])
        word = "acts" if chances[place] < 0.5 else "idle"
        assert stage.note == f"{word} {chances[place]:.2f}"
        told.add(word)
    assert told == {"acts", "idle"}


def test_the_limit_of_mirostat_follows_the_papers_rule_and_is_told() -> None:
    tokens, recording, table = written("mirostat=0.9,rate=0.4", 5)
    limit = 2 * 0.9
    for place in range(len(recording)):
        draw, before = recording.at(place), tokens[: len(PROMPT) + place]
        assert draw is not None
        assert draw.remembered == (pytest.approx(limit, abs=1e-5),)
        assert trace(draw, before)[-1].note == f"μ {draw.remembered[0]:.2f} nats"
        row = table[before[-1]].astype(np.float64)
        chosen = row[tokens[len(PROMPT) + place]]
        limit -= 0.4 * (np.log(np.exp(row - chosen).sum()) - 0.9)


def test_another_value_of_a_step_is_tried_on_what_was_known_there() -> None:
    tokens, recording, _ = written("xtc=0.5,threshold=0.05 mirostat=0.9,rate=0.4", 6)
    draw = recording.at(30)
    assert draw is not None
    other = parse_strategy("xtc=0.5,threshold=0.05 mirostat=0.2,rate=0.4")
    changed = draw.by(other)
    assert (changed.chance, changed.remembered) == (draw.chance, draw.remembered)
    assert trace(changed, tokens[:33])[-1].note == trace(draw, tokens[:33])[-1].note


def test_where_nothing_was_drawn_all_steps_act_as_at_their_beginning() -> None:
    strategy = parse_strategy("xtc=0.1,threshold=0.05 mirostat=0.9")
    logits = np.log(np.array([0.5, 0.3, 0.15, 0.05], np.float32))
    stages = trace(Draw.imagined(strategy, logits), np.array([0]))
    assert stages[1].note == "acts 0.00"
    assert stages[2].note == "μ 1.80 nats"
    np.testing.assert_allclose(stages[1].probabilities, [0, 0, 0, 1], atol=1e-6)


def test_a_recording_keeps_to_its_memory() -> None:
    draw = Draw.imagined(parse_strategy("greedy"), np.zeros(100, np.float32))
    recording = Recording(most_bytes=1000)
    for _ in range(5):
        recording.add(draw)
    assert len(recording) == 2
    assert recording.at(1) is draw
    assert recording.at(2) is None
    assert recording.at(-1) is None
