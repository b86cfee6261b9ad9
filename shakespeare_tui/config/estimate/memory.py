"""Estimate the memory of training by arithmetic.

Letters: N tokens in a batch (batch_size · seq_len), T seq_len, C d_model, F feed-forward width,
H heads, V vocabulary, L layers, P parameters. Counts are of elements; a "full" element has 4 bytes,
a "half" one 2 under bfloat16 and 4 under float32. Weights, gradients and optimiser states are full.

What a block keeps of each token until its backward pass:

====================  ============================================================================
two norms             C full each (LayerNorm its input, RMSNorm the normed values), and C half,
                      the result as the next matrix product reads it (SwiGLU reads its own copy
                      once more under bfloat16); LayerNorm 2 and RMSNorm 1 full of statistics
queries, keys,        3·C; with rotary positions or QK-norm 5·C under float32, since queries and
values                keys are made anew while the projection is still held by the values
QK-norm               2·C full of normed values, 2·H full of scales
attention             its result C, and H full of log-sums; with dropout on a CPU there is no fused
                      kernel: then H·T full for each of probabilities, mask and product, and no
                      more than 3·C of queries, keys and values
feed-forward          F half before and after the non-linearity; SwiGLU 4·F
dropout               a mask of C for each of the two residual additions, of bytes where the kernel
                      is fused
====================  ============================================================================

Beside the blocks: the last norm, the log-probabilities (V full), the token ids, and the weights'
half copies under bfloat16. The peak is at the start of the backward pass, where two more V are
alive, or in the last block, where gradients of F (or of H·T) are, while what lies behind has been
given up. Under bfloat16 on a CPU attention computes in float32, and is counted full there.
"""

from dataclasses import dataclass

from shakespeare_tui.config.schema import Config, ModelConfig
from shakespeare_tui.formatting import format_bytes
from shakespeare_tui.models.parameters import count_parameters, parameter_counts

TIGHT_SHARE = 0.8
"""Of the free memory; what takes more may push other programs, or itself, out."""

_FULL_BYTES = 4
_TOKEN_ID_BYTES = 8


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes that training takes beside the program itself (some 300 MB, most of it torch)."""

    weights: int
    gradients: int
    optimizer: int
    """States of the optimiser, and averaged weights where ``ema_decay`` keeps them."""
    activations: int

    @property
    def total(self) -> int:
        """All together: an upper bound, as gradients grow while activations are given up."""
        return self.weights + self.gradients + self.optimizer + self.activations

    def words(self, available: int) -> str:
        """What training takes, and what there is."""
        return (
            f"training takes about {format_bytes(self.total)} of memory, and "
            f"{format_bytes(available)} are free"
        )

    def parts(self) -> str:
        """What the memory is for."""
        return (
            f"weights {format_bytes(self.weights)}, gradients {format_bytes(self.gradients)}, "
            f"optimiser {format_bytes(self.optimizer)}, activations "
            f"{format_bytes(self.activations)}"
        )


def estimate_memory(
    config: Config, vocab_size: int, *, is_half: bool = False, is_fused: bool = False
) -> MemoryEstimate:
    """The memory of one training step at its peak.

    Args:
        config: What would be trained.
        vocab_size: Number of token ids.
        is_half: Matrix products run in bfloat16.
        is_fused: Attention and dropout have fused kernels, as on CUDA devices.
    """
    parameters = count_parameters(config.model, vocab_size)
    return MemoryEstimate(
        weights=parameters * _FULL_BYTES,
        gradients=parameters * _FULL_BYTES,
        optimizer=_optimizer_elements(config, vocab_size) * _FULL_BYTES,
        activations=activation_bytes(config, vocab_size, is_half=is_half, is_fused=is_fused),
    )


def _optimizer_elements(config: Config, vocab_size: int) -> int:
    """Two running means a parameter for Adam, one for momentum; Muon has one for the matrices."""
    training = config.training
    counts = parameter_counts(config.model, vocab_size)
    parameters = sum(counts.values())
    averaged = parameters if training.ema_decay else 0
    if training.optimizer == "sgd":
        return averaged + (parameters if training.momentum else 0)
    by_muon = _matrix_elements(config.model) if training.optimizer == "muon" else 0
    return averaged + 2 * parameters - by_muon


def _matrix_elements(model: ModelConfig) -> int:
    """Elements of the blocks' matrices, without biases."""
    matrices = 3 if model.activation == "swiglu" else 2
    width = model.d_model
    return model.n_layers * (4 * width * width + matrices * width * model.feedforward_width)


def activation_bytes(
    config: Config, vocab_size: int, *, is_half: bool = False, is_fused: bool = False
) -> int:
    """Bytes of activations at the peak of a step; the module says what is counted."""
    model = config.model
    tokens = config.training.batch_size * config.seq_len
    half = 2 if is_half else _FULL_BYTES
    width, inner, heads = model.d_model, model.feedforward_width, model.n_heads
    attention = _attention_bytes(config, half, is_fused)
    mask = (1 if is_fused else half) * width if model.dropout else 0
    embedding_mask = (1 if is_fused else _FULL_BYTES) * width if model.dropout else 0
    norm = _norm_bytes(model, half)
    gates = 2 if model.activation == "swiglu" else 1
    feedforward = 2 * gates * half * inner
    if gates == 2 and is_half:
        feedforward += half * width
    kept = model.n_layers * (2 * norm + attention + feedforward + 2 * mask)
    kept += norm + embedding_mask + _FULL_BYTES * vocab_size + 2 * _TOKEN_ID_BYTES
    given_up = _FULL_BYTES * (vocab_size + width)
    transient = max(2 * _FULL_BYTES * vocab_size, half * gates * inner - given_up)
    if _is_unfused(config, is_fused):
        given_up += feedforward + norm + mask
        transient = max(transient, _FULL_BYTES * heads * config.seq_len - given_up)
    copies = _matrix_elements(model) + width * vocab_size if is_half else 0
    return tokens * (kept + transient) + copies * half


def _is_unfused(config: Config, is_fused: bool) -> bool:
    return config.model.dropout > 0 and not is_fused


def _norm_bytes(model: ModelConfig, half: int) -> int:
    statistics = 2 if model.norm == "layernorm" else 1
    return _FULL_BYTES * (model.d_model + statistics) + half * model.d_model


def _attention_bytes(config: Config, half: int, is_fused: bool) -> int:
    """What one block's attention keeps of a token."""
    model = config.model
    width, heads = model.d_model, model.n_heads
    # Without fused kernels (CPU), autocast leaves attention in float32.
    element = half if is_fused else _FULL_BYTES
    is_cast = element != half
    normed = _FULL_BYTES * 2 * (width + heads) if model.qk_norm else 0
    by_matrices = _is_unfused(config, is_fused)
    is_remade = model.positions == "rope" or model.qk_norm
    if is_cast or by_matrices or not is_remade:
        queries = 3 * element * width
    else:
        queries = 5 * element * width
    if by_matrices:
        return normed + queries + 3 * _FULL_BYTES * heads * config.seq_len + half * width
    result = element * width + (half * width if is_cast else 0)
    return normed + queries + result + _FULL_BYTES * heads
