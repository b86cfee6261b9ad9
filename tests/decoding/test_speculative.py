"""Drafts of any quality leave the text as it was, and proposals of any origin its distribution."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from search_models import ends_with, make_model

from shakespeare_tui.decoding import cpu_decoder
from shakespeare_tui.decoding.columns import Column, generate_columns
from shakespeare_tui.decoding.cpu_decoder import CpuDecoder
from shakespeare_tui.decoding.speculative import (
    LookUpProposer,
    ModelProposer,
    Proposer,
    accept,
    generate_speculatively,
)
from shakespeare_tui.decoding.torch_decoder import packed_weights
from shakespeare_tui.errors import CancelledError, UserError
from shakespeare_tui.models.transformer import Transformer
from shakespeare_tui.sampling import parse_strategy

VOCAB = 11


def column_text(
    model: Transformer,
    strategy: str,
    tokens: int,
    drafter: Transformer | None = None,
    **options: Any,
) -> list[int]:
    """A text, drafted by ``drafter`` where there is one, however small the model is."""
    column = Column(strategy=parse_strategy(strategy), seed=5)
    decoder = CpuDecoder(
        packed_weights(model, "float32"),
        1,
        make_drafter=drafter and (lambda: CpuDecoder(packed_weights(drafter, "float32"), 1)),
    )
    assert bool(decoder.make_drafter) == bool(drafter)
    rows = generate_columns(decoder, [1, 2, 3], [column], max_tokens=tokens, **options)
    return [token for (token,) in rows]


@pytest.fixture(autouse=True)
def all_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that drafts pay."""
    monkeypatch.setattr(cpu_decoder, "MANY_WEIGHTS", 0)


class TestDrafts:
    @pytest.mark.parametrize("context", [4, 7, 64])
    @pytest.mark.parametrize("drafter", [1, 2])
    @pytest.mark.parametrize(
        "strategy",
        [
            "typical=0.8",
            "repetition_penalty=1.5 typical=0.9 top_k=5",
            "mirostat=2",
            "xtc=0.5,threshold=0.1",
        ],
    )
    def test_good_and_bad_drafts_give_the_text_without(
        self, context: int, drafter: int, strategy: str
    ) -> None:
        model, other = make_model(VOCAB, context), make_model(VOCAB, context, drafter)
        expected = column_text(model, strategy, 60)
        assert column_text(model, strategy, 60, other) == expected
        assert column_text(model, strategy, 3, other) == expected[:3]

    def test_stops_and_being_called_off(self) -> None:
        model, other = make_model(VOCAB, 16), make_model(VOCAB, 16, 1)
        stop = column_text(model, "typical=0.9", 20)[8:11]
        expected = column_text(model, "typical=0.9", 60, stop=ends_with(stop))
        assert column_text(model, "typical=0.9", 60, other, stop=ends_with(stop)) == expected
        polls: list[int] = []
        with pytest.raises(CancelledError):
            column_text(
                model,
                "typical=0.9",
                60,
                other,
                cancelled=lambda: bool(polls.append(1)) or len(polls) > 4,
            )
        assert len(polls) == 5


def proposers(strategy: str, context: int, seed: int = 0) -> dict[str, Proposer]:
    parsed = parse_strategy(strategy)
    return {
        "the model itself": ModelProposer(make_model(VOCAB, context), parsed, seed=seed),
        "another model": ModelProposer(make_model(VOCAB, context, 9), parsed, seed=seed),
        "look-up": LookUpProposer(VOCAB, shortest=1),
    }


class TestSpeculative:
    @pytest.mark.parametrize("context", [4, 9, 64])
    @pytest.mark.parametrize("kind", ["the model itself", "another model", "look-up"])
    def test_greedy_is_greedy(self, context: int, kind: str) -> None:
        model = make_model(VOCAB, context)
        passes = list(
            generate_speculatively(
                model,
                [1, 2, 3],
                parse_strategy("greedy"),
                proposers("greedy", context)[kind],
                max_tokens=60,
            )
        )
        assert sum(passes, []) == column_text(model, "greedy", 60)
        if kind == "the model itself" and context == 64:
            assert [len(tokens) for tokens in passes[:5]] == [7] * 5

    @pytest.mark.parametrize("kind", ["another model", "look-up"])
    def test_texts_are_distributed_as_the_models(self, kind: str) -> None:
        strategy, prompt, runs = "temperature=1.4 top_k=3", [1, 2, 1], 700
        model = make_model(VOCAB, 16)
        expected = self.distribution(model, prompt, 1.4, 3)
        counted: Counter[tuple[int, ...]] = Counter()
        proposer = proposers(strategy, 16)[kind]
        for seed in range(runs):
            passes = generate_speculatively(
                model, prompt, parse_strategy(strategy), proposer, max_tokens=2, seed=seed
            )
            counted[tuple(sum(passes, []))] += 1
        assert set(counted) <= set(expected)
        chi_squared = sum(
            (counted[text] - runs * p) ** 2 / (runs * p) for text, p in expected.items()
        )
        # 8 degrees of freedom: above 32 once in 10,000 fair samples; the seeds are fixed.
        assert chi_squared < 32

    @torch.no_grad()
    def distribution(
        self, model: Transformer, prompt: list[int], heat: float, k: int
    ) -> dict[tuple[int, ...], float]:
        """Of all texts of two tokens, by whole forward passes."""

        def after(text: list[int]) -> dict[int, float]:
            values, tokens = (model(torch.tensor([text]))[0, -1] / heat).topk(k)
            return dict(zip(tokens.tolist(), torch.softmax(values, -1).tolist(), strict=True))

        return {
            (first, second): p * q
            for first, p in after(prompt).items()
            for second, q in after([*prompt, first]).items()
        }

    @pytest.mark.parametrize("seed", range(5))
    def test_accepting_gives_p_whatever_q_is(self, seed: int) -> None:
        chance = np.random.default_rng(seed)
        p, q = (chance.dirichlet(np.full(5, 0.5)).astype(np.float32) for _ in range(2))
        runs = 20_000
        counts = np.zeros(5)
        for token in chance.choice(5, size=runs, p=q / q.sum(dtype=np.float64)):
            (chosen,), _ = accept(p[None], q, int(token), chance)
            counts[chosen] += 1
        assert abs(counts / runs - p).max() < 0.016

    def test_look_up_copies_what_followed_last_time(self) -> None:
        text = np.array([[5, 1, 2, 3, 4, 1, 2, 3, 9, 8, 1, 2, 3]])
        copied, certain = LookUpProposer(VOCAB).propose(text, 4)
        assert copied.tolist() == [9, 8, 1, 2]
        assert (certain.argmax(1) == copied).all()
        assert len(LookUpProposer(VOCAB).propose(text[:, :4], 4)[0]) == 0

    def test_stops(self) -> None:
        model = make_model(VOCAB, 16)
        whole = column_text(model, "greedy", 20)
        passes = generate_speculatively(
            model,
            [1, 2, 3],
            parse_strategy("greedy"),
            proposers("greedy", 16)["the model itself"],
            max_tokens=20,
            stop=ends_with(whole[3:5]),
        )
        end = next(n for n in range(2, 21) if whole[n - 2 : n] == whole[3:5])
        assert sum(passes, []) == whole[:end]

    def test_searches_and_empty_prompts_are_refused(self) -> None:
        look_up, model = LookUpProposer(VOCAB), make_model(VOCAB, 8)
        with pytest.raises(UserError, match="take a strategy without beam=4"):
            next(
                generate_speculatively(model, [1], parse_strategy("beam=4"), look_up, max_tokens=2)
            )
        with pytest.raises(UserError, match="prompt is empty"):
            next(generate_speculatively(model, [], parse_strategy("greedy"), look_up, max_tokens=2))
