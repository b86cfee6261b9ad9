"""Models of small vocabularies, and where their texts end."""

import torch

from shakespeare_tui.config.schema import ModelConfig
from shakespeare_tui.decoding.streaming_text import Stop
from shakespeare_tui.models.transformer import Transformer


def ends_with(*sequences: list[int]) -> Stop:
    return lambda tokens: any(list(tokens[-len(each) :]) == each for each in sequences)


def make_model(vocab: int, context: int, seed: int = 1, spread: float = 0.6) -> Transformer:
    config = ModelConfig(
        d_model=16, n_heads=2, n_layers=2, max_seq_len=context, tie_weights=False, norm="rmsnorm"
    )
    generator = torch.Generator().manual_seed(seed)
    model = Transformer(config, vocab, generator)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, spread, generator=generator)
    return model.eval()
