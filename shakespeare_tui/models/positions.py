"""Fixed tables of positions, for every library that computes with them."""

import math

import numpy as np
from numpy.typing import NDArray

from shakespeare_tui.config.schema import ModelConfig


def rotary_table(config: ModelConfig) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Cosines and sines of rotary embedding (arXiv:2104.09864), each [max_seq_len, D].

    The two halves of a head form the pairs that rotate, as in GPT-NeoX and Qwen3.
    """
    angles = np.arange(config.max_seq_len)[:, None] * rotary_frequencies(config)
    # Signs folded into the sines: x * cos + swapped(x) * sin is the whole rotation.
    cosines = np.concatenate((np.cos(angles), np.cos(angles)), axis=1).astype(np.float32)
    sines = np.concatenate((-np.sin(angles), np.sin(angles)), axis=1).astype(np.float32)
    return cosines, sines


def rotary_frequencies(config: ModelConfig) -> NDArray[np.float64]:
    """How far each pair of a head turns from one position to the next, in radians, [D / 2]."""
    half = config.head_width // 2
    frequencies = config.rope_theta ** -(np.arange(half) / half)
    stretched: NDArray[np.float64] | float = 1.0
    if config.rope_base_context is not None:
        # Llama 3.1: waves that fit the original context four times stay, those longer than it are
        # stretched, and those between in part.
        turns = config.rope_base_context * frequencies / (2 * math.pi)
        stretched = 1 - ((turns - 1) / 3).clip(0, 1)
    scaled: NDArray[np.float64] = frequencies * (1 - stretched + stretched / config.rope_factor)
    return scaled


def sinusoidal_table(max_seq_len: int, width: int) -> NDArray[np.float32]:
    """Fixed positions of arXiv:1706.03762: sines in even columns, cosines in odd, [T, C]."""
    position = np.arange(max_seq_len)[:, None]
    frequency = np.exp(np.arange(0, width, 2) * (-math.log(1e4) / width))
    table = np.zeros((max_seq_len, width), np.float32)
    table[:, 0::2] = np.sin(position * frequency)
    table[:, 1::2] = np.cos(position * frequency)[:, : width // 2]
    return table
