"""Beam and contrastive search against exhaustive and slow restatements of their definitions."""

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from search_models import ends_with, make_model

from shakespeare_tui.decoding.choosers import WAITING
from shakespeare_tui.decoding.columns import Column, generate_columns
from shakespeare_tui.decoding.factory import make_decoder
from shakespeare_tui.decoding.window import window_start
from shakespeare_tui.errors import UserError
from shakespeare_tui.models.transformer import Transformer
from shakespeare_tui.sampling import Recording, parse_strategy


def search(
    model: Transformer, prompt: list[int], text: str, tokens: int, samples: int = 1, **more: Any
) -> list[list[int]]:
    column = Column(strategy=parse_strategy(text), samples=samples)
    decoder = make_decoder(model, 1, use_cache=more.pop("use_cache", True))
    rows = generate_columns(decoder, prompt, [column], max_tokens=tokens, **more)
    return [[token for token in stream if token >= 0] for stream in zip(*rows, strict=True)]


@torch.no_grad()
def log_probability(model: Transformer, prompt: list[int], text: list[int], heat: float) -> float:
    """Of ``text`` after ``prompt``, by whole forward passes, past the context too."""
    whole, total = prompt + text, 0.0
    for end in range(len(prompt), len(whole)):
        start = window_start(end, model.config.max_seq_len)
        logits = model(torch.tensor([whole[start:end]]))[0, -1] / heat
        total += float(torch.log_softmax(logits, -1)[whole[end]])
    return total


class TestBeam:
    @pytest.mark.parametrize("seed", range(2))
    @pytest.mark.parametrize("context", [3, 16])
    def test_a_beam_that_is_wide_enough_finds_the_likeliest_texts(
        self, seed: int, context: int
    ) -> None:
        model, prompt, length = make_model(4, context, seed), [1, 2], 4
        scores = {
            text: log_probability(model, prompt, list(text), 1.5)
            for text in product(range(4), repeat=length)
        }
        best = sorted(scores, key=lambda text: -scores[text])[:3]
        found = search(model, prompt, "temperature=1.5 beam=64", length, samples=3)
        assert found == [list(text) for text in best]

    @pytest.mark.parametrize("penalty", [-2, 0, 1, 3])
    @pytest.mark.parametrize("seed", range(3))
    def test_the_length_penalty_weighs_texts_that_end_early(
        self, penalty: float, seed: int
    ) -> None:
        model, prompt, longest, stop = make_model(3, 16, seed), [1], 4, 2
        texts = [
            text
            for length in range(1, longest + 1)
            for text in product(range(3), repeat=length)
            if stop not in text[:-1] and (length == longest or text[-1] == stop)
        ]
        scores = {
            text: log_probability(model, prompt, list(text), 1) / len(text) ** penalty
            for text in texts
        }
        (found,) = search(
            model, prompt, f"beam=81,length_penalty={penalty}", longest, stop=ends_with([stop])
        )
        assert tuple(found) == max(scores, key=lambda text: scores[text])

    def test_one_beam_is_greedy(self) -> None:
        model = make_model(9, 8)
        assert search(model, [1], "beam=1", 30) == search(model, [1], "greedy", 30)

    def test_texts_come_at_the_end_and_no_more_than_there_are(self) -> None:
        column = Column(strategy=parse_strategy("beam=2"), samples=2)
        decoder = make_decoder(make_model(5, 8), 1)
        rows = list(generate_columns(decoder, [1], [column], max_tokens=6))
        assert rows[:6] == [[WAITING, WAITING]] * 6
        assert all(token >= 0 for row in rows[6:] for token in row)
        with pytest.raises(UserError, match="beam=2 finds 2 texts"):
            Column(strategy=parse_strategy("beam=2"), samples=3)


@torch.no_grad()
def slow_contrastive(
    model: Transformer, prompt: list[int], count: int, k: int, alpha: float
) -> list[int]:
    """The paper's rule over the window, every hidden state computed anew."""
    text, context = list(prompt), model.config.max_seq_len
    for _ in range(count):
        start = window_start(len(text), context)
        probabilities = torch.softmax(model(torch.tensor([text[start:]]))[0, -1], -1)
        scores = {}
        for token in probabilities.topk(k).indices.tolist():
            extended = [*text, token]
            shown = torch.tensor([extended[window_start(len(extended), context) :]])
            hidden = torch.nn.functional.normalize(model.hidden_states(shown)[0], dim=-1)
            likeness = (hidden[:-1] @ hidden[-1]).max() if len(hidden) > 1 else -1.0
            scores[token] = float((1 - alpha) * probabilities[token] - alpha * likeness)
        text.append(max(scores, key=lambda token: scores[token]))
    return text[len(prompt) :]


class TestContrastive:
    @pytest.mark.parametrize("context", [6, 32])
    @pytest.mark.parametrize("alpha", [0.0, 0.3, 0.7])
    @pytest.mark.parametrize("prompt_length", [1, 9])
    def test_equals_its_definition(self, context: int, alpha: float, prompt_length: int) -> None:
        model = make_model(11, context, spread=0.4)
        prompt = [(5 * place + 2) % 11 for place in range(prompt_length)]
        expected = slow_contrastive(model, prompt, 25, 4, alpha)
        for use_cache in (True, False):
            (found,) = search(
                model, prompt, f"contrastive=4,alpha={alpha}", 25, use_cache=use_cache
            )
            assert found == expected

    def test_no_weight_of_being_different_is_greedy(self) -> None:
        model = make_model(9, 8)
        assert search(model, [1], "contrastive=5,alpha=0", 30) == search(model, [1], "greedy", 30)

    def test_more_candidates_than_there_are_tokens(self) -> None:
        model = make_model(3, 8)
        assert np.shape(search(model, [1], "contrastive=9,alpha=0.2", 12, samples=2)) == (2, 12)


class TestRecordings:
    def test_the_scores_of_a_beam_are_those_of_the_texts_that_it_kept(self) -> None:
        model, prompt = make_model(9, 8, 2), [1, 2]
        column = Column(strategy=parse_strategy("temperature=1.3 beam=3"), samples=2)
        recordings = [Recording(), Recording()]
        decoder = make_decoder(model, 1)
        rows = generate_columns(decoder, prompt, [column], max_tokens=7, recordings=recordings)
        texts = [[token for token in stream if token >= 0] for stream in zip(*rows, strict=True)]
        for text, recording in zip(texts, recordings, strict=True):
            assert len(recording) == len(text) == 7
            for place, token in enumerate(text):
                draw = recording.at(place)
                assert draw is not None
                assert draw.scores is not None
                expected = log_probability(model, prompt, text[: place + 1], 1.3) / (place + 1)
                assert draw.scores[token] == pytest.approx(expected, abs=1e-4)
                assert 1 <= np.isfinite(draw.scores).sum() <= 3

    def test_a_beam_that_ends_at_a_stop_is_recorded_to_its_end(self) -> None:
        recording = Recording()
        column = Column(strategy=parse_strategy("beam=4,length_penalty=0"))
        decoder = make_decoder(make_model(3, 8, 1), 1)
        rows = generate_columns(
            decoder, [1], [column], max_tokens=20, stop=ends_with([2]), recordings=[recording]
        )
        (text,) = [[token for token in stream if token >= 0] for stream in zip(*rows, strict=True)]
        assert text[-1] == 2
        assert len(recording) == len(text)
        last = recording.at(len(text) - 1)
        assert last is not None
        assert last.scores is not None
        assert np.isfinite(last.scores[2])

    def test_contrastive_search_takes_the_best_of_the_scores_that_are_noted(self) -> None:
        model, prompt = make_model(9, 32, 3), [1, 2, 3]
        column = Column(strategy=parse_strategy("contrastive=4,alpha=0.3"))
        recording = Recording()
        decoder = make_decoder(model, 1)
        rows = generate_columns(decoder, prompt, [column], max_tokens=12, recordings=[recording])
        text = [token for (token,) in rows if token >= 0]
        assert len(recording) == len(text) == 12
        for place, token in enumerate(text):
            draw = recording.at(place)
            assert draw is not None
            assert draw.scores is not None
            assert np.isfinite(draw.scores).sum() == 4
            assert np.nanargmax(draw.scores) == token
            before = torch.tensor([prompt + text[:place]])
            likely = float(torch.softmax(model(before)[0, -1], -1)[token].detach())
            # Unlikeness takes at most alpha, and gives at most as much.
            assert abs(draw.scores[token] - 0.7 * likely) <= 0.3 + 1e-5

    @pytest.mark.parametrize("precision", ["float32", "int8"])
    def test_what_is_noted_writes_the_same_text(self, precision: Any) -> None:
        model = make_model(32, 16, 4)
        columns = [
            Column(strategy=parse_strategy(text), samples=2, seed=5)
            for text in ("mirostat=1 xtc=0.5", "beam=2", "contrastive=3", "top_k=5")
        ]

        def write(recordings: list[Recording]) -> list[list[int]]:
            decoder = make_decoder(model, 1, precision=precision)
            return list(
                generate_columns(decoder, [1], columns, max_tokens=20, recordings=recordings)
            )

        plain = write([])
        recordings = [Recording() for _ in range(8)]
        noted = write(recordings)
        assert noted == plain
        assert [len(recording) for recording in recordings] == [20] * 8
