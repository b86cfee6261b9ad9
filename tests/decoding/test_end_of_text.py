"""A text ends where the model says so by a token of its own, unless it is told to write on."""

import pytest
import torch

from shakespeare_tui.config.schema import ModelConfig
from shakespeare_tui.data.tokenizers.hugging_face import HuggingFaceTokenizer
from shakespeare_tui.decoding.choosers import ENDED
from shakespeare_tui.decoding.columns import Column, generate_columns
from shakespeare_tui.decoding.factory import make_decoder
from shakespeare_tui.decoding.streaming_text import StopTexts, StreamedText
from shakespeare_tui.models.transformer import Transformer
from shakespeare_tui.sampling import parse_strategy

VOCAB, PROMPT = 26, [3, 4]


def model() -> Transformer:
    shape = ModelConfig(d_model=16, n_heads=2, n_layers=1, max_seq_len=32)
    return Transformer(shape, VOCAB, torch.Generator().manual_seed(5)).eval()


def tokenizer(name: str, end: int, is_special: bool = True) -> HuggingFaceTokenizer:
    """One letter a token, but for the one at ``end``."""
    words = [chr(ord("a") + token) for token in range(VOCAB)]
    words[end] = name
    vocab = {word: token for token, word in enumerate(words)}
    return HuggingFaceTokenizer(
        {
            "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "?"},
            "added_tokens": [
                {
                    "id": end,
                    "content": name,
                    "special": is_special,
                    "single_word": False,
                    "lstrip": False,
                    "rstrip": False,
                    "normalized": False,
                }
            ],
            "decoder": {"type": "Fuse"},
        }
    )


def tokens_of(stops: StopTexts | None, strategy: str = "temperature=3") -> list[int]:
    column = Column(strategy=parse_strategy(strategy))
    rows = generate_columns(make_decoder(model(), 1), PROMPT, [column], max_tokens=12, stop=stops)
    return [row[0] for row in rows if row[0] != ENDED]


@pytest.mark.parametrize("name", ["<|endoftext|>", "<|im_end|>", "</s>"])
def test_a_text_ends_at_the_end_token_which_is_no_part_of_it(name: str) -> None:
    whole = tokens_of(None)
    end = whole[4]
    first = whole.index(end)
    letters = tokenizer(name, end)
    stops = StopTexts((), letters)
    written = tokens_of(stops)
    assert written == whole[: first + 1]
    text = StreamedText(letters, stops)
    shown = "".join([*map(text.feed, written), text.flush()])
    assert shown == letters.decode(whole[:first]) and name not in shown


def test_told_to_write_on_it_does_and_shows_the_token() -> None:
    whole = tokens_of(None)
    letters = tokenizer("<|endoftext|>", whole[4])
    stops = StopTexts((), letters, past_end=True)
    assert tokens_of(stops) == whole
    text = StreamedText(letters, stops)
    assert "<|endoftext|>" in "".join(map(text.feed, whole))


def test_other_added_tokens_end_nothing() -> None:
    assert not tokenizer("<|im_start|>", 2).end_tokens
    assert not tokenizer("</s>", 2, is_special=False).end_tokens
