"""A decoder-only transformer that reads top to bottom.

One parameterisation covers three published ones exactly: learned positions + LayerNorm + GELU +
biases + tied weights is GPT-2 (Radford et al. 2019); rotary positions + RMSNorm + SwiGLU + fewer
heads of keys and values is Llama (arXiv:2407.21783), and with QK-norm Qwen3 (arXiv:2505.09388).
Shapes: B batch, T tokens, C d_model, H heads of queries, K of keys and values, D head width,
F feed-forward width, V vocabulary, S cached tokens.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.autograd.function import Function, once_differentiable
from torch.utils.checkpoint import checkpoint

from shakespeare_tui.config.schema import ModelConfig
from shakespeare_tui.errors import check_cancelled, never
from shakespeare_tui.models.ngrams import ngram_ids, ngram_rows
from shakespeare_tui.models.parameters import MOST_LOGITS
from shakespeare_tui.models.positions import rotary_table, sinusoidal_table


class _NothingSaved:
    """Stands for a function's context where nobody asks for gradients."""

    needs_input_grad = (False, False, False)

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Let go of them."""


def _apply(function: type[Function], *arguments: Any) -> Tensor:
    # Without gradients these are plain operations, which tracing and exporting can follow.
    if torch.is_grad_enabled():
        result: Tensor = function.apply(*arguments)  # type: ignore[no-untyped-call]
    else:
        result = function.forward(_NothingSaved(), *arguments)
    return result


class _RmsNorm(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        norm: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        scale = norm.square_().div_(x.size(-1)).add_(eps).rsqrt_()
        normed = x * scale
        ctx.save_for_backward(normed, weight, scale)
        scaled: Tensor = normed * weight
        return scaled

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        normed, weight, scale = ctx.saved_tensors
        product = gradient * normed
        weight_gradient = product.sum_to_size(weight.shape)
        mean = (product * weight if weight.dim() > 1 else product @ weight).div(normed.size(-1))
        mean = mean.sum(-1, keepdim=True) if weight.dim() > 1 else mean.unsqueeze(-1)
        x_gradient = (gradient * weight).addcmul_(normed, mean, value=-1).mul_(scale)
        return x_gradient, weight_gradient, None


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """RMSNorm (arXiv:1910.07467): x / √(mean(x²) + eps) · weight over the last dimension.

    Args:
        x: Shape [..., D].
        weight: Shape [D], or any that broadcasts to the end of x's shape.
        eps: Added to the mean of squares.
    """
    if x.dtype != weight.dtype:
        x = x.to(weight.dtype)
    if x.device.type == "cuda" and weight.dim() == 1:
        # One kernel there, and one for the way back.
        return F.rms_norm(x, weight.shape, weight, eps)
    return _apply(_RmsNorm, x, weight, eps)


class _ReluSquared(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        positive: Tensor = torch.relu(x)
        ctx.save_for_backward(positive)
        squared: Tensor = positive * positive
        return squared

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (positive,) = ctx.saved_tensors
        x_gradient: Tensor = (gradient * positive).mul_(2)
        return x_gradient


def relu_squared(x: Tensor) -> Tensor:
    """max(x, 0)² (arXiv:2109.08668)."""
    return _apply(_ReluSquared, x)


def _rotated(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    swapped = x.roll(x.size(-1) // 2, dims=-1)
    return (x * cosines).addcmul_(swapped, sines)


class _Rotate(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
        ctx.save_for_backward(cosines, sines)
        return _rotated(x, cosines, sines)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        cosines, sines = ctx.saved_tensors
        # A rotation's transpose turns the other way.
        return _rotated(gradient, cosines, -sines), None, None


def rotate(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Apply rotary embedding (arXiv:2104.09864) to the last dimension of ``x`` [..., D].

    Args:
        x: The two halves of D form the pairs that rotate.
        cosines: Broadcasts to ``x``; the same for both halves.
        sines: Broadcasts to ``x``; negative in the first half.
    """
    if x.dtype != cosines.dtype:
        cosines, sines = cosines.to(x.dtype), sines.to(x.dtype)
    return _apply(_Rotate, x, cosines, sines)


class _Convolution(Function):
    """Products of each channel by itself, their gradients summed up where they arise."""

    @staticmethod
    def forward(ctx: Any, seen: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(seen, weight)
        back = len(weight) - 1
        tokens = seen.size(1) - back
        y = seen[:, back:] * weight[0]
        for k in range(1, back + 1):
            y = torch.addcmul(y, seen[:, back - k : back - k + tokens], weight[k])
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        seen, weight = ctx.saved_tensors
        back, tokens = len(weight) - 1, gradient.size(1)
        seen_gradient, weight_gradient = torch.zeros_like(seen), torch.empty_like(weight)
        for k in range(back + 1):
            places = slice(back - k, back - k + tokens)
            seen_gradient[:, places].addcmul_(gradient, weight[k])
            weight_gradient[k] = (gradient * seen[:, places]).sum((0, 1))
        return seen_gradient, weight_gradient


class _HeadLoss(Function):
    """Cross-entropy of the output layer, piece by piece, its gradients computed on the way.

    The logits of all tokens are never there together: with 50,000 tokens in the vocabulary they
    would be larger than all else. They are not computed a second time for the gradients either.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        needs_hidden, needs_weight, _ = ctx.needs_input_grad
        kind = torch.get_autocast_dtype(hidden.device.type) if is_autocast(hidden) else hidden.dtype
        matrix = weight.to(kind)
        hidden_gradient = torch.empty_like(hidden) if needs_hidden else None
        weight_gradient = torch.zeros_like(weight) if needs_weight else None
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        rows = max(1, MOST_LOGITS // weight.size(0))
        with torch.autocast(hidden.device.type, enabled=False):
            for start in range(0, len(hidden), rows):
                piece = hidden[start : start + rows].to(kind)
                places = targets[start : start + rows, None]
                logits = (piece @ matrix.T).float()
                sums = logits.logsumexp(-1, keepdim=True)
                total += (sums - logits.gather(1, places)).sum()
                # Of the mean: (softmax - 1 at the target) / N
                slope = logits.sub_(sums).exp_()
                slope.scatter_add_(1, places, -torch.ones_like(sums)).div_(len(hidden))
                slope = slope.to(kind)
                if hidden_gradient is not None:
                    hidden_gradient[start : start + rows] = slope @ matrix
                if weight_gradient is not None:
                    weight_gradient += slope.T @ piece
        ctx.save_for_backward(hidden_gradient, weight_gradient)
        return total / len(hidden)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        hidden_gradient, weight_gradient = ctx.saved_tensors
        if hidden_gradient is not None:
            hidden_gradient = hidden_gradient * gradient
        if weight_gradient is not None:
            weight_gradient = weight_gradient * gradient
        return hidden_gradient, weight_gradient, None


SoftTargets = tuple[Tensor, float]
"""Teachers' probabilities of what comes after each token, [B, T, V], and their part of the loss."""


def learning_from(soft: SoftTargets, loss: Tensor, logits: Tensor) -> Tensor:
    """``loss``, the cross-entropy of labels, with the gradient of what a student learns from.

    That is (1 − w) · loss + w · KL(p ‖ softmax(logits)), p being the teachers' probabilities:
    distillation (Hinton et al. 2015, arXiv:1503.02531) at temperature 1, at which the teachers'
    own distribution is the minimum. The value stays that of the labels, which compares with the
    losses of all other runs.

    Args:
        soft: p, [B, T, V], and w.
        loss: Mean over [N].
        logits: [N, V].
    """
    probabilities, weight = soft
    # Its gradient is that of the divergence: the entropy of p is constant.
    divergence = F.cross_entropy(logits, probabilities.flatten(0, 1))
    learned = (1 - weight) * loss + weight * divergence
    return loss.detach() + (learned - learned.detach())


def head_loss(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy of ``targets`` [N] by the output layer ``weight`` [V, C] of [N, C]."""
    return _apply(_HeadLoss, hidden, weight, targets)


def on_device(array: NDArray[Any], device: torch.device) -> Tensor:
    """An array as a tensor there; to a GPU it goes without waiting for what that still does.

    A copy from memory that the system may move waits for all work before it.
    """
    tensor = torch.from_numpy(array)
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


class KVCache:
    """Keys and values of the tokens seen so far, in buffers made once for the whole context.

    Args:
        config: The model's shape.
        vocab_size: Number of token ids.
        context: Tokens that fit.
        batch_size: Streams that are decoded together.
        device: Where the buffers live.
        dtype: Type of the model's activations.
    """

    def __init__(
        self,
        config: ModelConfig,
        vocab_size: int,
        context: int,
        batch_size: int,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        shape = (config.n_layers, batch_size, config.key_heads, context, config.head_width)
        self.keys = torch.zeros(shape, device=device, dtype=dtype)
        self.values = torch.zeros(shape, device=device, dtype=dtype)
        self.length = 0
        # What the n-gram embedding looks back on, before the first place too; else unused.
        looked_back = context + config.ngram_embedding - 1 if config.ngram_embedding else 0
        self.tokens = torch.full((batch_size, looked_back), vocab_size, device=device)
        # What short convolutions read, before the first place too.
        layers, looked_back = 0, max(0, config.short_convolution - 1)
        if looked_back:
            layers, looked_back = config.n_layers, context + looked_back
        read = (layers, batch_size, looked_back, config.d_model)
        self.convolved = torch.zeros(read, device=device, dtype=dtype)

    def remember(self, tokens: Tensor, looked_back: int) -> Tensor:
        """Append ``tokens`` [B, T]; return them after the ``looked_back`` ones before them."""
        end = self.length + looked_back + tokens.size(1)
        self.tokens[:, self.length + looked_back : end] = tokens
        return self.tokens[:, self.length : end]

    def look_back(self, layer: int, x: Tensor, looked_back: int) -> Tensor:
        """Append what a layer's convolution reads, [B, T, C]; return it after the ones before."""
        end = self.length + looked_back + x.size(1)
        self.convolved[layer, :, self.length + looked_back : end] = x
        return self.convolved[layer, :, self.length : end]

    def extend(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Append one layer's [B, K, T, D] keys and values; return all, [B, K, S + T, D]."""
        end = self.length + key.size(2)
        self.keys[layer, :, :, self.length : end] = key
        self.values[layer, :, :, self.length : end] = value
        return self.keys[layer, :, :, :end], self.values[layer, :, :, :end]


class Norm(nn.Module):
    """LayerNorm (arXiv:1607.06450) or RMSNorm (arXiv:1910.07467) over the last dimension."""

    def __init__(self, width: int, kind: str, eps: float, bias: bool) -> None:
        super().__init__()
        self.eps = eps
        self.shape = (width,)
        self.is_rms = kind == "rmsnorm"
        self.weight = nn.Parameter(torch.empty(width))
        self.bias = nn.Parameter(torch.empty(width)) if bias and not self.is_rms else None

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``x`` of shape [..., width]."""
        if self.is_rms:
            return rms_norm(x, self.weight, self.eps)
        return F.layer_norm(x, self.shape, self.weight, self.bias, self.eps)


def is_autocast(x: Tensor) -> bool:
    """Whether matrix products on the device of ``x`` run in a lower precision now."""
    return torch.is_autocast_enabled(x.device.type)


class Attention(nn.Module):
    """Causal multi-head self-attention with optional QK-norm (arXiv:2302.05442).

    Groups of heads may share keys and values (arXiv:2305.13245).
    """

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        # Of queries, keys and values.
        self.heads = (config.n_heads, config.key_heads, config.key_heads)
        self.dropout = config.dropout
        self.qkv = nn.Linear(config.d_model, config.qkv_width, bias=config.has_qkv_bias)
        self.out = nn.Linear(config.attention_width, config.d_model, bias=config.has_out_bias)
        self.q_norm = self.k_norm = None
        if config.qk_norm:
            self.q_norm = Norm(config.head_width, "rmsnorm", config.norm_eps, bias=False)
            self.k_norm = Norm(config.head_width, "rmsnorm", config.norm_eps, bias=False)

    def project(
        self, x: Tensor, rotary: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries [B, H, T, D], keys and values [B, K, T, D] of ``x`` [B, T, C]."""
        # [B, T, (H + 2K)D] -> [B, T, H, D] and twice [B, T, K, D]
        split = self.qkv(x).view(*x.shape[:2], sum(self.heads), -1).split(self.heads, dim=2)
        query, key, value = split
        if self.q_norm is not None and self.k_norm is not None:
            query, key = self.q_norm(query), self.k_norm(key)
        if rotary is not None:
            query, key = rotate(query, *rotary), rotate(key, *rotary)
        # [B, T, H, D] -> [B, H, T, D], and keys and values alike
        return query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)

    def forward(
        self, x: Tensor, rotary: tuple[Tensor, Tensor] | None, cache: KVCache | None
    ) -> Tensor:
        """Mix ``x`` of shape [B, T, C] over the tokens before; shape unchanged."""
        batch, tokens, _ = x.shape
        query, key, value = self.project(x, rotary)
        mask = None
        if cache is not None:
            key, value = cache.extend(self.layer, key, value)
            if tokens > 1 and cache.length > 0:
                mask = torch.ones(tokens, key.size(2), dtype=torch.bool, device=x.device)
                mask = mask.tril(cache.length)
        if x.device.type == "cpu":
            # Under autocast too: bfloat16 attention has a slow backward pass on CPUs.
            wide = torch.promote_types(x.dtype, torch.float32)
            query, key, value = query.to(wide), key.to(wide), value.to(wide)
        with torch.autocast(x.device.type, enabled=x.device.type != "cpu" and is_autocast(x)):
            mixed = F.scaled_dot_product_attention(
                query,
                key,
                value,
                attn_mask=mask,
                dropout_p=self.dropout if self.training else 0.0,
                # One token with a cache looks at all before it.
                is_causal=mask is None and (cache is None or tokens > 1),
                enable_gqa=self.heads[0] != self.heads[1],
            )
        # [B, H, T, D] -> [B, T, HD] -> [B, T, C]
        result: Tensor = self.out(mixed.transpose(1, 2).reshape(batch, tokens, -1))
        return result


class ShortConvolution(nn.Module):
    """Causal convolution of each channel by itself over K tokens (Canon layers, arXiv:2512.17351).

    What stands to the left is read without attention having to look for it. The weights begin as
    random ones, to which 1 is added for the token itself: short runs learn far sooner than from 0.
    """

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        # [K, C]; row k is for what was k tokens before.
        self.weight = nn.Parameter(torch.empty(config.short_convolution, config.d_model))

    def forward(self, x: Tensor, cache: KVCache | None) -> Tensor:
        """Weighted sums over ``x`` [B, T, C] and what was before; shape unchanged."""
        back = len(self.weight) - 1
        if cache is not None and back:
            seen = cache.look_back(self.layer, x, back)
        else:
            seen = F.pad(x, (0, 0, back, 0))
        return _apply(_Convolution, seen, self.weight)


class FeedForward(nn.Module):
    """Position-wise network: GELU (arXiv:1606.08415), ReLU² (2109.08668) or SwiGLU (2002.05202)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width, inner = config.d_model, config.feedforward_width
        self.activation = config.activation
        self.gate = (
            nn.Linear(width, inner, bias=config.bias) if self.activation == "swiglu" else None
        )
        self.up = nn.Linear(width, inner, bias=config.bias)
        self.down = nn.Linear(inner, width, bias=config.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Transform ``x`` of shape [B, T, C] by way of [B, T, F]; shape unchanged."""
        hidden = self.up(x)
        if self.gate is not None:
            hidden = F.silu(self.gate(x)) * hidden
        elif self.activation == "relu2":
            hidden = relu_squared(hidden)
        else:
            hidden = F.gelu(hidden, approximate="tanh")
        result: Tensor = self.down(hidden)
        return result


class Block(nn.Module):
    """Attention and feed-forward, each normalised before and added to the residual stream."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.dropout = config.dropout
        self.attention_norm = Norm(config.d_model, config.norm, config.norm_eps, config.bias)
        self.attention = Attention(config, layer)
        self.feedforward_norm = Norm(config.d_model, config.norm, config.norm_eps, config.bias)
        self.feedforward_convolution = (
            ShortConvolution(config, layer) if config.short_convolution else None
        )
        self.feedforward = FeedForward(config)

    def forward(
        self, x: Tensor, rotary: tuple[Tensor, Tensor] | None, cache: KVCache | None
    ) -> Tensor:
        """One step of the residual stream, [B, T, C] to [B, T, C]."""
        x = x + self._drop(self.attention(self.attention_norm(x), rotary, cache))
        normed = self.feedforward_norm(x)
        if self.feedforward_convolution is not None:
            normed = self.feedforward_convolution(normed, cache)
        return x + self._drop(self.feedforward(normed))

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training) if self.dropout else x


def _embedding(rows: int, width: int) -> nn.Embedding:
    """An embedding whose weights are yet to be filled in.

    What ``nn.Embedding`` draws into a tensor without memory would load PyTorch's compiler.
    """
    weights = torch.empty(rows, width)
    found: nn.Embedding = nn.Embedding.from_pretrained(weights, freeze=False)  # type: ignore[no-untyped-call]
    return found


# Of one fill: some 50 ms.
_PIECE_ELEMENTS = 2**22
# PyTorch draws normal numbers in groups of so many.
_DRAWN_TOGETHER = 16


def _pieces(parameter: Tensor) -> Iterator[Tensor]:
    """Flat views that make up ``parameter``; drawn one by one, they are what it is drawn whole."""
    flat = parameter.view(-1)
    while len(flat) >= _PIECE_ELEMENTS + _DRAWN_TOGETHER:
        yield flat[:_PIECE_ELEMENTS]
        flat = flat[_PIECE_ELEMENTS:]
    yield flat


class Transformer(nn.Module):
    """Token ids to logits of the next token.

    Args:
        config: The shape.
        vocab_size: Number of token ids.
        generator: Source of the initial weights; the global generators are not touched. None
            leaves the weights as zeros, to be loaded.
        context: The most tokens that are read together; None takes all the positions there are.
            Less where training saw no more.
        embedding_scale: What token embeddings are multiplied by; None takes the config's. Weights
            that were trained with another keep theirs.
        cancelled: Polled while the weights are filled in.

    Raises:
        CancelledError: ``cancelled`` became true.
    """

    def __init__(
        self,
        config: ModelConfig,
        vocab_size: int,
        generator: torch.Generator | None = None,
        *,
        context: int | None = None,
        embedding_scale: float | None = None,
        cancelled: Callable[[], bool] = never,
    ) -> None:
        super().__init__()
        self.config = config
        self.is_fused = True
        self.vocab_size = vocab_size
        self.context = context or config.max_seq_len
        # Compute blocks a second time for the gradients instead of keeping what they computed.
        self.recomputes = False
        self.embedding_scale = (
            config.embedding_scale if embedding_scale is None else embedding_scale
        )
        with torch.device("meta"):
            self.embedding = _embedding(vocab_size, config.d_model)
            rows = sum(ngram_rows(vocab_size, config.ngram_embedding))
            self.ngrams = _embedding(rows, config.d_model) if rows else None
            self.positions = (
                _embedding(config.max_seq_len, config.d_model)
                if config.positions == "learned"
                else None
            )
            self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.n_layers))
            self.norm = Norm(config.d_model, config.norm, config.norm_eps, config.bias)
            self.head = nn.Linear(config.d_model, vocab_size, bias=False)
        self._take_memory()
        if config.tie_weights:
            self.head.weight = self.embedding.weight
        self._add_tables()
        self._initialise(generator, cancelled)

    def _take_memory(self) -> None:
        """As ``to_empty``, which would load a library for symbolic algebra first: 0.2 s."""
        for module in self.modules():
            for name, parameter in list(module.named_parameters(recurse=False)):
                setattr(module, name, nn.Parameter(torch.empty(parameter.shape)))

    def _add_tables(self) -> None:
        cosines = sines = table = None
        if self.config.positions == "rope":
            cosines, sines = map(torch.from_numpy, rotary_table(self.config))
        if self.config.positions == "sinusoidal":
            table = torch.from_numpy(sinusoidal_table(self.config.max_seq_len, self.config.d_model))
        self.register_buffer("cosines", cosines, persistent=False)
        self.register_buffer("sines", sines, persistent=False)
        self.register_buffer("position_table", table, persistent=False)

    @torch.no_grad()
    def _initialise(self, generator: torch.Generator | None, cancelled: Callable[[], bool]) -> None:
        """GPT-2's scheme: N(0, 0.02), narrower by √(2 · layers) where the residual is added to."""
        residual_std = 0.02 / math.sqrt(2 * self.config.n_layers)
        for name, parameter in self.named_parameters():
            if parameter.dim() < 2:
                parameter.fill_(1.0 if "norm" in name and name.endswith("weight") else 0.0)
                continue
            is_residual = name.endswith(("attention.out.weight", "feedforward.down.weight"))
            is_zero = generator is None or name == "ngrams.weight"
            is_convolution = name.endswith("convolution.weight")
            for piece in _pieces(parameter):
                check_cancelled(cancelled, "making the model")
                if is_zero:
                    piece.zero_()
                elif is_convolution:
                    piece.uniform_(-1.0, 1.0, generator=generator)
                else:
                    piece.normal_(0.0, residual_std if is_residual else 0.02, generator=generator)
            if is_convolution and not is_zero:
                parameter[0] += 1.0

    def embed(
        self, tokens: Tensor, cache: KVCache | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor] | None]:
        """What the first block reads, [B, T, C], and the rotary table's rows where there is one.

        ``tokens`` [B, T] follow those that ``cache`` has seen.

        Raises:
            ValueError: The context would be exceeded.
        """
        start = 0 if cache is None else cache.length
        end = start + tokens.size(1)
        if end > self.context:
            raise ValueError(f"{end} tokens are more than the context of {self.context}")
        x = self.embedding(tokens)
        if self.embedding_scale != 1:
            x = x * self.embedding_scale
        if self.ngrams is not None:
            longest = self.config.ngram_embedding
            if cache is None:
                seen = F.pad(tokens, (longest - 1, 0), value=self.vocab_size)
            else:
                seen = cache.remember(tokens, longest - 1)
            for ids in ngram_ids(seen, self.vocab_size, longest):
                x = x + self.ngrams(ids)
        rotary = None
        if self.positions is not None:
            x = x + self.positions.weight[start:end]
        elif self.config.positions == "sinusoidal":
            x = x + self.get_buffer("position_table")[start:end]
        else:
            # [T, D] -> [T, 1, D], to fit [B, T, H, D]
            cosines, sines = self.get_buffer("cosines"), self.get_buffer("sines")
            rotary = cosines[start:end, None], sines[start:end, None]
        return x, rotary

    def hidden_states(self, tokens: Tensor, cache: KVCache | None = None) -> Tensor:
        """The residual stream after the last norm, [B, T, C], of ``tokens`` [B, T]."""
        x, rotary = self.embed(tokens, cache)
        if self.config.dropout:
            x = F.dropout(x, self.config.dropout, self.training)
        for block in self.blocks:
            if self.recomputes and self.training:
                x = checkpoint(block, x, rotary, cache, use_reentrant=False)
            else:
                x = block(x, rotary, cache)
        if cache is not None:
            cache.length += tokens.size(1)
        normed: Tensor = self.norm(x)
        return normed

    def forward(self, tokens: Tensor, cache: KVCache | None = None) -> Tensor:
        """Logits [B, T, V] of the tokens after ``tokens`` [B, T].

        With a cache, ``tokens`` continue those the cache has seen, and it grows by T.

        Raises:
            ValueError: The context would be exceeded.
        """
        logits: Tensor = self.head(self.hidden_states(tokens, cache))
        return logits

    def loss(self, tokens: Tensor, targets: Tensor, soft: SoftTargets | None = None) -> Tensor:
        """Mean cross-entropy in nats per token of ``targets`` [B, T] after ``tokens`` [B, T].

        With soft targets its gradient is that of ``learning_from``.
        """
        if soft is None and tokens.numel() * self.vocab_size > MOST_LOGITS:
            hidden = self.hidden_states(tokens).flatten(0, 1)
            return head_loss(hidden, self.head.weight, targets.flatten())
        # [B, T, V] -> [B·T, V]
        logits = self(tokens).flatten(0, 1)
        loss = F.cross_entropy(logits, targets.flatten())
        return loss if soft is None else learning_from(soft, loss, logits)

    @torch.no_grad()
    def sum_losses(self, batches: Iterable[NDArray[np.int64]]) -> tuple[float, int]:
        """Cross-entropy in nats, and how many tokens had the highest probability, over all.

        Without dropout; the mode is left as it was.

        Args:
            batches: Windows of inputs and targets in one, each [B, T + 1].
        """
        device = self.embedding.weight.device
        was_training = self.training
        self.eval()
        # Sums stay on the device: one read at the end.
        loss_type = torch.float64 if device.type != "mps" else torch.float32
        loss_sum = torch.zeros((), dtype=loss_type, device=device)
        correct = torch.zeros((), dtype=torch.int64, device=device)
        try:
            for batch in batches:
                window = on_device(batch, device)
                # [B, T, C] -> pieces [N, C], of which there are logits [N, V]
                hidden = self.hidden_states(window[:, :-1]).flatten(0, 1)
                rows = max(1, MOST_LOGITS // self.vocab_size)
                targets = window[:, 1:].flatten()
                for start in range(0, len(targets), rows):
                    piece, expected = hidden[start : start + rows], targets[start : start + rows]
                    logits = self.head(piece).float()
                    losses = F.cross_entropy(logits, expected, reduction="none")
                    # So that the sum does not depend on how tokens fall into batches.
                    loss_sum += losses.sum(dtype=loss_type)
                    correct += (logits.argmax(-1) == expected).sum()
        finally:
            self.train(was_training)
        return float(loss_sum), int(correct)

    @torch.inference_mode()
    def last_logits(self, tokens: NDArray[np.int64], count: int) -> NDArray[np.float32]:
        """Logits [B, P, V] of what comes after each of the last P of ``tokens`` [B, T]."""
        ids = torch.from_numpy(tokens).to(self.embedding.weight.device)
        logits: NDArray[np.float32] = (
            self.head(self.hidden_states(ids)[:, -count:]).float().numpy(force=True)
        )
        return logits

    @torch.inference_mode()
    def attention_weights(self, tokens: NDArray[np.int64]) -> NDArray[np.float32]:
        """How much each head looks at each of ``tokens`` [T] from the last, [layers, H, T]."""
        x, rotary = self.embed(torch.from_numpy(tokens[None]).to(self.embedding.weight.device))
        weights = np.empty((len(self.blocks), self.config.n_heads, len(tokens)), np.float32)
        for layer, block in enumerate(self.blocks):
            assert isinstance(block, Block)
            query, key, _ = block.attention.project(block.attention_norm(x), rotary)
            # [1, H, T, D] -> [H, D] of the last place; [1, K, T, D] -> [H, T, D]
            keys = key[0].repeat_interleave(query.size(1) // key.size(1), dim=0)
            scores = torch.einsum("hd,htd->ht", query[0, :, -1].float(), keys.float())
            weights[layer] = (scores / query.size(-1) ** 0.5).softmax(-1).numpy(force=True)
            x = block(x, rotary, None)
        return weights

    def make_cache(self, batch_size: int) -> KVCache:
        """An empty cache for ``batch_size`` streams, on the model's device and in its type."""
        weight = self.embedding.weight
        return KVCache(
            self.config, self.vocab_size, self.context, batch_size, weight.device, weight.dtype
        )
