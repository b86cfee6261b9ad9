"""The figures of a run before it is trained: size, data, speed and time."""

from collections.abc import Callable
from dataclasses import dataclass

from shakespeare_tui.config.estimate.speed import MOST_OF_BUDGET, evaluation_seconds
from shakespeare_tui.config.schema import Config, ModelConfig
from shakespeare_tui.data.catalogue import CATALOGUE
from shakespeare_tui.data.source import TextSource, locate_corpus
from shakespeare_tui.data.tokenizers.kinds import is_tokenizer_file, tokenizer_kind
from shakespeare_tui.data.tokens import (
    TokenSettings,
    beginning,
    check_length,
    check_variety,
    open_tokenizer,
    split_point,
    whole_survey,
)
from shakespeare_tui.errors import UserError, never
from shakespeare_tui.formatting import format_bytes
from shakespeare_tui.machine import backend_of, blas_threads
from shakespeare_tui.models.parameters import (
    MOST_COPIED,
    MOST_LOGITS,
    ParameterReport,
    count_parameters,
    evaluation_windows,
    parameter_report,
    pass_numbers,
)

_MOST_BYTES = 32 * 1024 * 1024
_USUAL_VOCAB_SIZE = 65


@dataclass(frozen=True, kw_only=True)
class CorpusFigures:
    """What the pre-flight figures need of a corpus.

    Attributes:
        characters: Its length; None where it is not known.
        tokens: The same in tokens; None where it is not known.
        validation_tokens: Of these, those of a validation text of its own; None where it has none.
        vocab_size: Number of token ids, or a usual number where it is not known.
        is_one_character: Whether nothing but one character was found in it.
        note: What the user should know of it, one line; empty where there is nothing to say.
        is_missing: Training could not begin: ``note`` says why.
    """

    characters: int | None = None
    tokens: int | None = None
    validation_tokens: int | None = None
    vocab_size: int = _USUAL_VOCAB_SIZE
    is_one_character: bool = False
    note: str = ""
    is_missing: bool = False

    def train_tokens(self, val_fraction: float) -> int:
        """How many there are to learn from; 0 where that is not known."""
        tokens = self.tokens or 0
        if self.validation_tokens is not None:
            return tokens - self.validation_tokens
        return split_point(tokens, val_fraction)

    def problem(self, val_fraction: float, seq_len: int) -> str:
        """Why training on it could not begin, one line; empty where nothing is in the way."""
        if self.is_missing:
            return self.note
        if self.tokens is None:
            return ""
        train = self.train_tokens(val_fraction)
        try:
            check_length(train, self.tokens - train, seq_len)
            check_variety(self.is_one_character)
        except UserError as error:
            return str(error)
        return ""


_CHARACTERS = TokenSettings()


def measure_corpus(
    spec: str,
    validation: str = "",
    settings: TokenSettings = _CHARACTERS,
    cancelled: Callable[[], bool] = never,
    most_bytes: int = _MOST_BYTES,
) -> CorpusFigures:
    """Read up to ``most_bytes`` of a corpus; nothing is fetched, and no problem is an error.

    Args:
        spec: As ``data.corpus``.
        validation: As ``data.validation``.
        settings: How it becomes tokens.
        cancelled: Polled between pieces.
        most_bytes: What is longer is read in part, and its figures are estimates.

    Raises:
        CancelledError: ``cancelled`` became true.
    """
    try:
        source = locate_corpus(spec, validation)
        if source is None:
            note = f"{spec} is not fetched yet"
            entry = CATALOGUE.get(spec)
            if entry is None:
                return CorpusFigures(note=note)
            size = entry.size_bytes or entry.about_bytes
            kept_apart = entry.validation.size_bytes if entry.validation else None
            if size is not None:
                size += kept_apart or 0
            return CorpusFigures(
                characters=size, tokens=size, validation_tokens=kept_apart, note=note
            )
        if not is_tokenizer_file(settings.tokenizer) and (
            note := tokenizer_kind(settings.tokenizer).to_fetch()
        ):
            return CorpusFigures(note=note)
        return _scan(source, settings, cancelled, most_bytes)
    except UserError as error:
        return CorpusFigures(note=str(error), is_missing=True)


def _scan(
    source: TextSource, settings: TokenSettings, cancelled: Callable[[], bool], most_bytes: int
) -> CorpusFigures:
    size_bytes = source.whole.size_bytes
    validation = source.validation
    note, is_one_character = "", False
    if size_bytes > most_bytes:
        note = f"{source.name} is large: figures from its first {most_bytes // 2**20} MiB"
        read = list(beginning(source, most_bytes))
        read_bytes = sum(len(text.encode("utf-8")) for text in read)
        characters = round(sum(map(len, read)) * size_bytes / read_bytes)
    else:
        survey = whole_survey(source, cancelled=cancelled)
        characters, is_one_character = survey.characters, len(survey.vocabulary) == 1
    tokenizer = open_tokenizer(settings, source, cancelled=cancelled, most_bytes=most_bytes)
    first = next(source.iter_text())
    tokens = round(characters * len(tokenizer.encode(first)) / len(first))
    share = validation.size_bytes / size_bytes if validation else 0.0
    return CorpusFigures(
        characters=characters,
        tokens=tokens,
        validation_tokens=round(share * tokens) if validation else None,
        vocab_size=tokenizer.vocab_size,
        is_one_character=is_one_character,
        note=note,
    )


TIGHT_SHARE = 0.8
"""Of the free memory; what takes more may push other programs, or itself, out."""

# What the C library's allocator holds for the activations of a step, over what they are: kept ones
# lie between short-lived ones of other sizes. Measured, from 1.2 to 1.4 (docs/benchmarks.md).
_HELD_SHARE = 1.3
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
    step: int
    """At the peak of a step: gradients grow while activations are given up."""
    between: int
    """Of what comes between steps: a pass of an evaluation, or what samples and saves copy."""

    @property
    def total(self) -> int:
        """The most at any moment; what a step or what comes between gives back, the other takes."""
        return self.weights + self.optimizer + max(self.step, self.between)

    def words(self, available: int) -> str:
        """What training takes, and what there is."""
        return (
            f"training takes about {format_bytes(self.total)} of memory, and "
            f"{format_bytes(available)} are free"
        )

    def parts(self) -> str:
        return (
            f"weights {format_bytes(self.weights)}, gradients {format_bytes(self.gradients)}, "
            f"optimiser {format_bytes(self.optimizer)}, activations "
            f"{format_bytes(self.activations)}, evaluations {format_bytes(self.between)}"
        )


def expects_half(config: Config, *, is_cpu: bool, has_bf16: bool) -> bool:
    """Whether matrix products will run in bfloat16, as far as can be told without measuring.

    Args:
        config: What would be trained; ``auto`` takes what is faster when the run begins.
        is_cpu: It is trained on the processor.
        has_bf16: The processor has instructions for such products.
    """
    precision = config.training.precision
    if backend_of(config.training.backend) == "numpy":
        return False
    return precision == "bfloat16" or (precision == "auto" and (has_bf16 or not is_cpu))


def estimate_memory(
    config: Config, vocab_size: int, *, is_half: bool = False, is_fused: bool = False
) -> MemoryEstimate:
    """The memory of training at its peak.

    Args:
        config: What would be trained.
        vocab_size: Number of token ids.
        is_half: Matrix products run in bfloat16.
        is_fused: Attention and dropout have fused kernels, as on CUDA devices.
    """
    weights = count_parameters(config.model, vocab_size) * _FULL_BYTES
    gradients = _learning(config, vocab_size) * _FULL_BYTES
    if backend_of(config.training.backend) == "numpy":
        activations = numpy_activation_bytes(config, vocab_size)
        gradients *= blas_threads()  # each thread has some of its own
        step = gradients + activations
        # Its gradients stay.
        between = gradients + evaluation_bytes(config, vocab_size, is_fused=False)
    else:
        activations = activation_bytes(config, vocab_size, is_half=is_half, is_fused=is_fused)
        held = activations if is_fused else round(_HELD_SHARE * activations)
        step = _step_bytes(config, vocab_size, gradients, held)
        between = max(
            evaluation_bytes(config, vocab_size),
            _sampling_bytes(config, vocab_size),
        )
    if config.logging.layers_every:
        # Measuring layers copies what learns, beside its gradients and after the activations.
        step = max(step, gradients + _learning(config, vocab_size) * _FULL_BYTES)
    return MemoryEstimate(
        weights=weights,
        gradients=gradients,
        optimizer=_optimizer_elements(config, vocab_size) * _FULL_BYTES,
        activations=activations,
        step=step,
        between=between,
    )


def _step_bytes(config: Config, vocab_size: int, gradients: int, activations: int) -> int:
    """Gradients and activations at their most, from the start to the end of a backward pass."""
    if config.training.grad_accumulation > 1:
        return gradients + activations
    learns_all = not config.training.lora_rank and config.training.train_blocks is None
    # Of the output layer, whose gradient is the first. Tied, it is there twice in the end: once
    # more of the embedding.
    head = _FULL_BYTES * vocab_size * config.model.d_model if learns_all else 0
    return max(activations + head, gradients + (head if config.model.tie_weights else 0))


def evaluation_bytes(config: Config, vocab_size: int, *, is_fused: bool = True) -> int:
    """Bytes of an evaluation's pass beside the weights, always in float32."""
    model = config.model
    windows = evaluation_windows(model, config.seq_len, is_fused=is_fused)
    tokens = windows * config.seq_len
    numbers = tokens * pass_numbers(model, config.seq_len, is_fused=is_fused)
    # Logits and their logarithms.
    return _FULL_BYTES * (numbers + 2 * min(tokens * vocab_size, MOST_LOGITS))


def _sampling_bytes(config: Config, vocab_size: int) -> int:
    """Weights rearranged for samples: those of products twice, and the embedding."""
    weights = count_parameters(config.model, vocab_size) * _FULL_BYTES
    if config.training.lora_rank or weights > MOST_COPIED:
        return 0
    return 2 * weights + _FULL_BYTES * vocab_size * config.model.d_model


def _optimizer_elements(config: Config, vocab_size: int) -> int:
    """Two running means a parameter for Adam, one for momentum; Muon has one for the matrices."""
    training = config.training
    parameters = _learning(config, vocab_size)
    averaged = parameters if training.ema_decay else 0
    if training.optimizer == "sgd":
        return averaged + (parameters if training.momentum else 0)
    by_muon = 0
    if training.optimizer == "muon":
        by_muon = _matrix_elements(config.model) * _learning_blocks(config) // config.model.n_layers
    return averaged + 2 * parameters - by_muon


def _learning(config: Config, vocab_size: int) -> int:
    return parameter_report(config.model, vocab_size, config.training).trained


def _learning_blocks(config: Config) -> int:
    """The blocks that gradients go through: below the first that learns there are none."""
    return min(config.training.train_blocks or config.model.n_layers, config.model.n_layers)


def _matrix_elements(model: ModelConfig) -> int:
    """Elements of the blocks' matrices, without biases."""
    matrices = 3 if model.activation == "swiglu" else 2
    width = model.d_model
    attention = width * (model.qkv_width + model.attention_width)
    return model.n_layers * (attention + matrices * width * model.feedforward_width)


def activation_bytes(
    config: Config, vocab_size: int, *, is_half: bool = False, is_fused: bool = False
) -> int:
    """Bytes of activations at the peak of a step of PyTorch.

    Letters: T seq_len, C d_model, F feed-forward width, H heads, V vocabulary. Counts are of
    elements a token; a "full" element has 4 bytes, a "half" one 2 under bfloat16 and 4 under
    float32. What a block keeps of each token until its backward pass:

    - two norms: C full each (LayerNorm its input, RMSNorm the normed values), and C half, the
      result as the next matrix product reads it (SwiGLU reads its own copy once more under
      bfloat16); LayerNorm 2 and RMSNorm 1 full of statistics;
    - queries, keys, values: their width; with rotary positions or QK-norm queries and keys once
      more under float32, since they are made anew while the values hold the projection;
    - QK-norm: full normed queries and keys, and a full scale for each of their heads;
    - attention: its result, and H full of log-sums; with dropout on a CPU there is no fused kernel:
      then H·T full for each of probabilities, mask and product;
    - feed-forward: F half before and after the non-linearity; SwiGLU twice that; with a short
      convolution before it C full, what that reads;
    - dropout: a mask of C for each of the two residual additions, of bytes where the kernel is
      fused.

    Beside the blocks: the last norm, the log-probabilities (V full), the token ids, and the
    weights' half copies under bfloat16. The peak is at the start of the backward pass, where two
    more V are alive, or in the last block, where gradients of F (or of H·T) are, while what lies
    behind has been given up. Under bfloat16 on a CPU attention computes in float32, and is counted
    full there.
    """
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
    if model.short_convolution:
        feedforward += _FULL_BYTES * width
    block = 2 * norm + attention + feedforward + 2 * mask
    kept = norm + embedding_mask + 2 * _TOKEN_ID_BYTES
    if config.training.grad_checkpointing:
        # What goes into each block, and all of the one that is computed again.
        kept += _learning_blocks(config) * _FULL_BYTES * width + block
    else:
        kept += _learning_blocks(config) * block
    copies = half * (_matrix_elements(model) + width * vocab_size) if is_half else 0
    if tokens * vocab_size > MOST_LOGITS:
        kept += _FULL_BYTES * width  # the gradient of what the output layer reads
        return tokens * kept + _head_bytes(config, vocab_size, half) + copies
    kept += _FULL_BYTES * vocab_size
    given_up = _FULL_BYTES * (vocab_size + width)
    transient = max(2 * _FULL_BYTES * vocab_size, half * gates * inner - given_up)
    if _is_unfused(config, is_fused):
        given_up += feedforward + norm + mask
        transient = max(transient, _FULL_BYTES * heads * config.seq_len - given_up)
    return tokens * (kept + transient) + copies


def _head_bytes(config: Config, vocab_size: int, half: int) -> int:
    """Of a large vocabulary's loss: logits in pieces, or the weight's gradient being scaled."""
    learns_all = not config.training.lora_rank and config.training.train_blocks is None
    # One of two such gradients is counted with the others.
    weight = _FULL_BYTES * vocab_size * config.model.d_model if learns_all else 0
    pieces = MOST_LOGITS * (2 * _FULL_BYTES + (half if half < _FULL_BYTES else 0))
    return max(pieces, weight)


# Of the up-projection's width: what an activation keeps for its gradient, the result included, and
# what that gradient makes on the way.
_KEPT_BY_ACTIVATION = {"gelu": 3, "relu2": 2, "swiglu": 4}
_MADE_BY_ACTIVATION = {"gelu": 4, "relu2": 3, "swiglu": 4}


def numpy_activation_bytes(config: Config, vocab_size: int) -> int:
    """Bytes of activations at the peak of a step of the NumPy backend, whose attention is whole."""
    model, drops = config.model, config.model.dropout > 0
    width, inner = model.d_model, model.feedforward_width
    scores = model.n_heads * config.seq_len
    queries_keys = (model.n_heads + model.key_heads) * model.head_width
    # What is normed, and what is turned or else the result of the norm.
    remade = queries_keys * (model.qk_norm + (model.positions == "rope" or model.qk_norm))
    # Dropout keeps its result beside what went in, and a byte a number of what was dropped.
    attention = model.qkv_width + remade + model.attention_width + scores * (2.25 if drops else 1)
    block = 4 * width + attention + _KEPT_BY_ACTIVATION[model.activation] * inner
    block += width if model.short_convolution else 0
    masks = width / 4 if drops else 0
    kept = model.n_layers * (block + 2 * masks) + masks + 2 * width + vocab_size
    made = 3 * width + max(
        _MADE_BY_ACTIVATION[model.activation] * inner, scores * (3 if drops else 2)
    )
    tokens = config.training.batch_size * config.seq_len
    return int(tokens * (kept + max(made, vocab_size)) * _FULL_BYTES)


def _is_unfused(config: Config, is_fused: bool) -> bool:
    return config.model.dropout > 0 and not is_fused


def _norm_bytes(model: ModelConfig, half: int) -> int:
    statistics = 2 if model.norm == "layernorm" else 1
    return _FULL_BYTES * (model.d_model + statistics) + half * model.d_model


def _attention_bytes(config: Config, half: int, is_fused: bool) -> int:
    """What one block's attention keeps of a token."""
    model = config.model
    width, heads = model.attention_width, model.n_heads
    # Without fused kernels (CPU), autocast leaves attention in float32.
    element = half if is_fused else _FULL_BYTES
    is_cast = element != half
    queries_keys = (heads + model.key_heads) * model.head_width
    normed = _FULL_BYTES * (queries_keys + heads + model.key_heads) if model.qk_norm else 0
    by_matrices = _is_unfused(config, is_fused)
    is_remade = model.positions == "rope" or model.qk_norm
    if is_cast or by_matrices or not is_remade:
        queries = element * model.qkv_width
    else:
        queries = element * (model.qkv_width + queries_keys)
    if by_matrices:
        return normed + queries + 3 * _FULL_BYTES * heads * config.seq_len + half * width
    result = element * width + (half * width if is_cast else 0)
    return normed + queries + result + _FULL_BYTES * heads


EVALUATION_SHARE = 0.05
"""Time of evaluations as a share of the training between them; the trainer keeps them below it."""


@dataclass(frozen=True, kw_only=True)
class Preflight:
    """What a run will be; None where it is not known.

    Attributes:
        parameters: By component, and which of them are trained.
        memory: Bytes in training.
        tokens_per_step: Tokens that one optimiser step learns from.
        steps: Optimiser steps; with a time budget only known with the speed.
        tokens: Tokens seen in all, with repetitions.
        epochs: How often the training text is seen.
        weight_decay: What so much text asks for; see ``Config.decay_for``.
        tokens_per_second: Training speed.
        seconds: The whole run, evaluations included, the exact one at the end, too.
        is_budget: The time is given, and what can be done in it follows.
        problem: Why training could not begin; empty where nothing is in the way.
    """

    parameters: ParameterReport
    memory: MemoryEstimate
    tokens_per_step: int
    steps: float | None
    tokens: float | None
    epochs: float | None
    weight_decay: float | None
    tokens_per_second: float | None
    seconds: float | None
    is_budget: bool = False
    problem: str = ""

    @property
    def parameter_count(self) -> int:
        """All parameters of the model."""
        return self.parameters.model.parameters

    @property
    def tokens_per_parameter(self) -> float | None:
        """Tokens seen for each parameter; large models are balanced at about 20 (2203.15556)."""
        return None if self.tokens is None else self.tokens / self.parameter_count


def preflight(
    config: Config,
    corpus: CorpusFigures,
    *,
    tokens_per_second: float | None = None,
    is_half: bool = False,
    is_fused: bool = False,
    is_compared: bool = False,
) -> Preflight:
    """Work the figures out, by arithmetic alone.

    Args:
        config: What would be trained.
        corpus: Size and vocabulary.
        tokens_per_second: Training speed on this machine, where it is known.
        is_half: As for ``estimate_memory``.
        is_fused: As for ``estimate_memory``.
        is_compared: Whether it belongs to an experiment, where each run is measured exactly.
    """
    training = config.training
    tokens_per_step = config.tokens_per_step
    seconds = steps = None
    in_training = corpus.train_tokens(config.data.val_fraction)
    val_tokens = (corpus.tokens or 0) - in_training
    exact = evaluation_seconds(val_tokens, tokens_per_second or 0.0, is_rounded=is_half)
    if training.minutes is None:
        steps = float(training.max_steps)
        if tokens_per_second:
            seconds = steps * tokens_per_step / tokens_per_second * (1 + EVALUATION_SHARE) + exact
    else:
        seconds = training.minutes * 60
        # Where the exact evaluation does not fit, it is left to eval, or comes after the time.
        fits = exact <= MOST_OF_BUDGET * seconds
        left = seconds - exact if fits else seconds
        if is_compared and not fits:
            seconds += exact
        if tokens_per_second:
            steps = left / (1 + EVALUATION_SHARE) * tokens_per_second / tokens_per_step
    tokens = None if steps is None else steps * tokens_per_step
    epochs = tokens / in_training if tokens is not None and in_training else None
    return Preflight(
        parameters=parameter_report(config.model, corpus.vocab_size, training),
        memory=estimate_memory(config, corpus.vocab_size, is_half=is_half, is_fused=is_fused),
        tokens_per_step=tokens_per_step,
        steps=steps,
        tokens=tokens,
        epochs=epochs,
        weight_decay=config.decay_for(in_training, epochs) if in_training else None,
        tokens_per_second=tokens_per_second,
        seconds=seconds,
        is_budget=training.minutes is not None,
        problem=corpus.problem(config.data.val_fraction, config.seq_len),
    )
