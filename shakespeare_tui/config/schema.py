"""The declaration of every setting: type, default, range and one sentence of help.

The form on the screen, ``--set``, the comments in saved YAML and the JSON Schema come from here.
"""

import math
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    AllowInfNan,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    Strict,
    StrictInt,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import PydanticKnownError, core_schema

from shakespeare_tui.data.tokenizers.kinds import TOKENIZER_FILE, TOKENIZERS
from shakespeare_tui.formatting import (
    DURATION_PATTERN,
    context_note,
    parse_duration,
    parse_integer,
    ungrouped,
)

if TYPE_CHECKING:
    from shakespeare_tui.data.tokens import TokenSettings
    from shakespeare_tui.data.windows import WindowCut


@dataclass(frozen=True, eq=False)
class OneOf:
    """The values that a setting may have: the names of a registry, which may grow, or more.

    Attributes:
        names: Of the registry.
        others: A pattern that other values hold; None where there are none.
        others_help: What those are.
    """

    names: Collection[str]
    others: str | None = None
    others_help: str = ""

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        """Refuse what is no name, as ``Literal`` does."""
        return core_schema.no_info_plain_validator_function(self._checked)

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Name them, as of a ``Literal``."""
        known = core_schema.literal_schema(list(self.names))
        if self.others is None:
            return handler(known)
        others = core_schema.str_schema(pattern=self.others)
        return handler(core_schema.union_schema([known, others]))

    def _checked(self, value: Any) -> str:
        if isinstance(value, str) and (
            value in self.names
            or (self.others is not None and re.search(self.others, value, re.IGNORECASE))
        ):
            return value
        names = " or ".join(map(repr, self.names))
        raise PydanticKnownError("literal_error", {"expected": names})


@dataclass(frozen=True)
class Rule:
    """A condition over the settings ``paths``, given to ``problem`` in that order.

    ``problem`` returns what is wrong and what to do about it, or None.
    """

    paths: tuple[str, ...]
    problem: Callable[..., str | None]

    @property
    def section(self) -> str | None:
        """The one section that all of ``paths`` are in; None where they are in several."""
        sections = {path.partition(".")[0] for path in self.paths}
        return sections.pop() if len(sections) == 1 else None


def _heads_problem(n_heads: int, d_model: int, head_dim: int | None) -> str | None:
    if head_dim is not None or d_model % n_heads == 0:
        return None
    divisors = [heads for heads in range(1, min(256, d_model) + 1) if d_model % heads == 0]
    fewer = max(heads for heads in divisors if heads < n_heads)
    more = [heads for heads in divisors if heads > n_heads][:1]
    choice = " or ".join(str(heads) for heads in (fewer, *more))
    return (
        f"d_model {d_model} is not divisible by n_heads {n_heads}; "
        f"with this d_model, n_heads can be {choice}"
    )


def _key_heads_problem(n_kv_heads: int | None, n_heads: int) -> str | None:
    if n_kv_heads is None or n_heads % n_kv_heads == 0:
        return None
    return (
        f"n_kv_heads {n_kv_heads} does not divide n_heads {n_heads}; each head of keys and values "
        "serves as many heads of queries"
    )


def _rope_problem(n_heads: int, d_model: int, positions: str, head_dim: int | None) -> str | None:
    if positions != "rope":
        return None
    if head_dim is not None:
        if head_dim % 2 == 0:
            return None
        return f"positions rope needs an even head_dim, got {head_dim}; take {head_dim + 1}"
    width, rest = divmod(d_model, n_heads)
    if rest or width % 2 == 0:
        return None
    return (
        f"positions rope needs an even width per head, but d_model {d_model} / n_heads {n_heads} "
        f"is {width}; change one of them or take positions learned"
    )


def _sines_problem(d_model: int, positions: str) -> str | None:
    if positions != "sinusoidal" or d_model % 2 == 0:
        return None
    return f"positions sinusoidal needs an even d_model, got {d_model}; take {d_model + 1}"


def _ngrams_problem(ngram_embedding: int) -> str | None:
    if ngram_embedding != 1:
        return None
    return "ngram_embedding 1 would be the token's own embedding; take 0, 2 or 3"


def _rates_problem(min_lr: float | None, learning_rate: float) -> str | None:
    if min_lr is None or min_lr <= learning_rate:
        return None
    return (
        f"min_lr {min_lr:g} is above learning_rate {learning_rate:g}; "
        f"lower min_lr, or leave it empty for a tenth of learning_rate"
    )


def _lora_problem(
    lora_rank: int, train_blocks: int | None, optimizer: str, ema_decay: float
) -> str | None:
    if not lora_rank:
        return None
    if train_blocks is not None:
        return "lora_rank and train_blocks are two ways to learn less; leave one of them empty"
    if optimizer == "muon":
        return "lora_rank learns thin matrices, which muon is not for; take optimizer adamw"
    if ema_decay:
        return f"lora_rank keeps no averaged weights; set ema_decay to 0, got {ema_decay:g}"
    return None


def _backend_problem(
    backend: str, device: str, precision: str, checkpointing: bool, lora: int, blocks: int | None
) -> str | None:
    if backend != "numpy":
        return None
    return numpy_problem(device, precision, checkpointing, lora, blocks)


def numpy_problem(
    device: str, precision: str, checkpointing: bool, lora: int, blocks: int | None
) -> str | None:
    """What of a config the NumPy backend cannot do; None where it can do all of it."""
    needs = {
        f"training.device {device}": device not in ("auto", "cpu"),
        f"training.precision {precision}": precision == "bfloat16",
        "training.grad_checkpointing": checkpointing,
        "training.lora_rank": lora > 0,
        "training.train_blocks": blocks is not None,
    }
    found = [name for name, is_needed in needs.items() if is_needed]
    return (
        f"{' and '.join(found)} needs backend torch; take it, or leave that out" if found else None
    )


def _window_problem(seq_len: int | None, max_seq_len: int) -> str | None:
    if seq_len is None or seq_len <= max_seq_len:
        return None
    return (
        f"data.seq_len {seq_len} is above model.max_seq_len {max_seq_len}; "
        f"lower seq_len, or leave it empty to use the whole context"
    )


RULES: tuple[Rule, ...] = (
    Rule(("model.n_heads", "model.d_model", "model.head_dim"), _heads_problem),
    Rule(("model.n_kv_heads", "model.n_heads"), _key_heads_problem),
    Rule(("model.n_heads", "model.d_model", "model.positions", "model.head_dim"), _rope_problem),
    Rule(("model.d_model", "model.positions"), _sines_problem),
    Rule(("model.ngram_embedding",), _ngrams_problem),
    Rule(("training.min_lr", "training.learning_rate"), _rates_problem),
    Rule(
        (
            "training.lora_rank",
            "training.train_blocks",
            "training.optimizer",
            "training.ema_decay",
        ),
        _lora_problem,
    ),
    Rule(
        (
            "training.backend",
            "training.device",
            "training.precision",
            "training.grad_checkpointing",
            "training.lora_rank",
            "training.train_blocks",
        ),
        _backend_problem,
    ),
    Rule(("data.seq_len", "model.max_seq_len"), _window_problem),
)


def broken_rules(values: Mapping[str, Any], section: str | None) -> list[str]:
    """The messages of the rules of ``section`` (None: across sections) that ``values`` break.

    ``values`` holds every setting of the section, or of all sections, by its path.
    """
    messages = (
        rule.problem(*(values[path] for path in rule.paths))
        for rule in RULES
        if rule.section == section
    )
    return [message for message in messages if message]


_WORDS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_MOST_STEPS = 100_000_000
_MOST_DECAY = 100.0
_REMEMBERED_EPOCHS, _USUAL_EPOCHS, _USUAL_TOKENS = 1.15, 12, 1_000_000
# With fewer, weights would be nothing but their last updates.
_LEAST_REMEMBERED = 5


def _read_number(value: Any) -> Any:
    """Turn ``1e-3``, ``1,000`` and other written numbers into numbers; leave the rest alone."""
    if not isinstance(value, str):
        return value
    value = ungrouped(value)
    try:
        return int(value)
    except ValueError:
        try:
            return float(value)
        except ValueError:
            return value


def _read_integer(value: Any) -> Any:
    whole = parse_integer(value) if isinstance(value, str) else value
    if isinstance(whole, float) and whole.is_integer():
        return int(whole)
    return _read_number(value) if whole is None else whole


def _read_float(value: Any) -> Any:
    number = _read_number(value)
    if isinstance(number, int) and not isinstance(number, bool):
        try:
            return float(number)
        except OverflowError:
            return float("inf")
    return number


def _read_minutes(value: Any) -> Any:
    seconds = parse_duration(value) if isinstance(value, str) else None
    return _read_float(value) if seconds is None else seconds / 60


def _read_corpus(value: Any) -> Any:
    """One text for a list of corpora, each a name or a path, or with its weight beside it."""
    if not isinstance(value, list):
        return value
    members = []
    for member in value:
        is_weighted = isinstance(member, Mapping) and set(member) <= {"path", "weight"}
        path = member.get("path") if is_weighted else member
        weight = _read_integer(member.get("weight", 1)) if is_weighted else 1
        if not isinstance(path, str) or type(weight) is not int:
            return value
        members.append(path if weight == 1 else f"{path}*{weight}")
    return " + ".join(members)


def _read_boolean(value: Any) -> Any:
    return _WORDS.get(value.lower(), value) if isinstance(value, str) else value


# Strict, so that `true` is not the number 1 and 1 is not `true`. What may be empty is a type of its
# own: with `Integer | None`, pydantic would not find a field's range for the JSON Schema.
_Finite = Annotated[float, Strict(), AllowInfNan(False)]
Integer = Annotated[int, BeforeValidator(_read_integer), Strict()]
OptionalInteger = Annotated[StrictInt | None, BeforeValidator(_read_integer)]
Number = Annotated[_Finite, BeforeValidator(_read_float)]
OptionalNumber = Annotated[_Finite | None, BeforeValidator(_read_float)]
Boolean = Annotated[bool, BeforeValidator(_read_boolean), Strict()]
_MinutesRange = Annotated[_Finite, Field(gt=0, le=100_000)]
# A bare number is minutes; with units it is any duration: 100s, 1m 40s, 2h.
Minutes = Annotated[
    _MinutesRange,
    BeforeValidator(
        _read_minutes,
        json_schema_input_type=_MinutesRange | Annotated[str, Field(pattern=DURATION_PATTERN)],
    ),
]


def _title(name: str, info: object) -> str:
    return name


_CLOSED = ConfigDict(
    extra="forbid",
    frozen=True,
    use_attribute_docstrings=True,
    field_title_generator=_title,
    # A file or a section with nothing but comments is null to YAML, and means the defaults.
    json_schema_extra={"type": ["object", "null"]},
)


class Section(BaseModel):
    """A frozen group of settings that refuses unknown keys."""

    model_config = _CLOSED
    name: ClassVar[str]

    @model_validator(mode="after")
    def _check_rules(self) -> Self:
        values = {f"{self.name}.{key}": value for key, value in self}
        if messages := broken_rules(values, self.name):
            raise ValueError("; ".join(messages))
        return self


class ModelConfig(Section):
    """The transformer's shape."""

    name: ClassVar[str] = "model"

    d_model: Integer = Field(default=128, ge=1, le=16384)
    """Width of the residual stream."""
    n_heads: Integer = Field(default=4, ge=1, le=256)
    """Attention heads; must divide d_model."""
    n_layers: Integer = Field(default=4, ge=1, le=256)
    """Transformer blocks."""
    d_ff: OptionalInteger = Field(default=None, ge=1, le=65536)
    """Width of the feed-forward layer; empty means 4 × d_model."""
    max_seq_len: Integer = Field(default=128, ge=2, le=131072)
    """Context: how many tokens the model can look back on."""
    dropout: Number = Field(default=0.0, ge=0, lt=1)
    """Share of activations dropped in training; helps where a small corpus is seen many times."""
    tie_weights: Boolean = True
    """Use the token embedding as the output layer too: fewer parameters."""
    positions: Literal["sinusoidal", "learned", "rope"] = "rope"
    """How a token's place is told: fixed sines, a learned table, or rotary embedding."""
    ngram_embedding: Integer = Field(default=0, ge=0, le=3)
    """Embeddings of the last 2, or 2 and 3, tokens together are added: short runs learn sooner."""
    short_convolution: Integer = Field(default=0, ge=0, le=16)
    """Feed-forward layers read a weighted sum of as many last tokens; 0: each token by itself."""
    activation: Literal["gelu", "relu2", "swiglu"] = "gelu"
    """Non-linearity of the feed-forward layer; swiglu adds a third matrix."""
    norm: Literal["layernorm", "rmsnorm"] = "layernorm"
    """Normalisation before each sub-layer."""
    norm_eps: Number = Field(default=1e-5, gt=0, le=0.1)
    """Added to the variance before the root, for numerical safety."""
    qk_norm: Boolean = False
    """Normalise queries and keys in each head: allows higher learning rates."""
    bias: Boolean = False
    """Bias terms in linear layers and LayerNorm."""
    rope_theta: Number = Field(default=10000.0, gt=1, le=1e9)
    """Base of the rotary embedding's wavelengths."""
    rope_factor: Number = Field(default=1.0, ge=1, le=1e6)
    """Longer wavelengths for a longer context than a model began with; 1 leaves them."""
    rope_base_context: OptionalInteger = Field(default=None, ge=1, le=131072)
    """Context before rope_factor, which then spares short waves (Llama 3.1); empty: all alike."""
    n_kv_heads: OptionalInteger = Field(default=None, ge=1, le=256)
    """Heads of keys and values, each shared by several of queries; empty means n_heads."""
    head_dim: OptionalInteger = Field(default=None, ge=1, le=1024)
    """Width of a head; empty means d_model / n_heads."""
    attention_bias: Literal["none", "qkv", "all"] = "none"
    """Bias terms in attention where bias is off: of queries, keys and values, or the output too."""

    @property
    def head_width(self) -> int:
        """``head_dim`` or its default of ``d_model`` / ``n_heads``."""
        return self.head_dim or self.d_model // self.n_heads

    @property
    def key_heads(self) -> int:
        """``n_kv_heads`` or its default of ``n_heads``."""
        return self.n_kv_heads or self.n_heads

    @property
    def attention_width(self) -> int:
        """Width of all heads of queries together."""
        return self.n_heads * self.head_width

    @property
    def qkv_width(self) -> int:
        """Width of all heads of queries, keys and values together."""
        return (self.n_heads + 2 * self.key_heads) * self.head_width

    @property
    def has_qkv_bias(self) -> bool:
        """Whether the projections to queries, keys and values add a bias."""
        return self.bias or self.attention_bias != "none"

    @property
    def has_out_bias(self) -> bool:
        """Whether attention's output projection adds a bias."""
        return self.bias or self.attention_bias == "all"

    @property
    def feedforward_width(self) -> int:
        """``d_ff`` or its default of 4 × ``d_model``."""
        return self.d_ff or 4 * self.d_model

    @property
    def embedding_scale(self) -> float:
        """What token embeddings are multiplied by before positions are added to them.

        √d_model with fixed sines (arXiv:1706.03762, section 3.4), whose amplitude is 1: embeddings
        that double as output weights are far smaller, and would be lost in them.
        """
        return math.sqrt(self.d_model) if self.positions == "sinusoidal" else 1.0


class TrainingConfig(Section):
    """How the model learns."""

    name: ClassVar[str] = "training"

    learning_rate: Number = Field(default=1e-3, gt=0, le=100)
    """Peak learning rate (AdamW, Adam, SGD; with Muon, of everything but matrices)."""
    batch_size: Integer = Field(default=16, ge=1, le=65536)
    """Sequences in one forward pass."""
    max_steps: Integer = Field(default=2000, ge=1, le=_MOST_STEPS)
    """Optimiser steps; not used where minutes sets a time budget."""
    minutes: Minutes | None = Field(default=None, examples=["1m 40s", "2h"])
    """Time budget, as 100s, 1m 40s, 2h, or a number of minutes; the schedule then follows it."""
    warmup_steps: Integer = Field(default=100, ge=0, le=_MOST_STEPS)
    """Steps over which the LR rises linearly from zero."""
    scheduler: Literal["cosine", "linear", "one_cycle", "wsd", "constant"] = "cosine"
    """Course of the LR after warm-up; wsd is warm-up, stable, decay."""
    min_lr: OptionalNumber = Field(default=None, ge=0, le=100)
    """The LR at the end of the schedule; empty means a tenth of learning_rate."""
    decay_fraction: Number = Field(default=0.4, gt=0, le=1)
    """Share of the run over which wsd decays linearly."""
    optimizer: Literal["adamw", "adam", "sgd", "muon"] = "adamw"
    """The optimiser; adam is an alias of adamw, and muon leaves all but matrices to AdamW."""
    beta1: Number = Field(default=0.9, ge=0, lt=1)
    """Decay of the gradient's running mean."""
    beta2: Number = Field(default=0.99, ge=0, lt=1)
    """Decay of the gradient's running square."""
    momentum: Number = Field(default=0.9, ge=0, lt=1)
    """Momentum of sgd."""
    weight_decay: OptionalNumber = Field(default=0.1, ge=0, le=_MOST_DECAY)
    """Decoupled weight decay of matrices (times the LR); empty: by the corpus, more for little."""
    muon_learning_rate: Number = Field(default=0.03, gt=0, le=10)
    """Peak LR of the matrices under Muon."""
    muon_momentum: Number = Field(default=0.95, ge=0, lt=1)
    """Momentum of Muon."""
    muon_steps: Integer = Field(default=5, ge=1, le=20)
    """Newton–Schulz iterations of Muon; three are faster and nearly as good."""
    muon_beta2: Number = Field(default=0.0, ge=0, lt=1)
    """Decay of the mean square of each neuron's updates, which evens them (NorMuon); 0 is Muon."""
    grad_clip: Number = Field(default=1.0, ge=0, le=1e6)
    """Largest gradient norm; 0 does not clip."""
    grad_accumulation: Integer = Field(default=1, ge=1, le=65536)
    """Forward passes in one optimiser step."""
    grad_checkpointing: Boolean = False
    """Compute activations twice instead of keeping them: a third slower, far less memory."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Arithmetic of matrix products; auto takes bfloat16 where it is known or measured to gain."""
    train_blocks: OptionalInteger = Field(default=None, ge=1, le=256)
    """Only the last so many blocks, and the last norm, learn; empty: all of the model."""
    lora_rank: Integer = Field(default=0, ge=0, le=1024)
    """Learn products of this rank beside frozen matrices (LoRA): fine-tuning; 0 learns all."""
    lora_alpha: Number = Field(default=16.0, gt=0, le=10_000)
    """Weight of those products, divided by their rank."""
    lora_matrices: Literal["attention", "feedforward", "all"] = "all"
    """Which of the blocks' matrices get such products."""
    distill_weight: Number = Field(default=0.5, ge=0, le=1)
    """Share of what is learned from teachers, not from the text; unused where there are none."""
    ema_decay: Number = Field(default=0.0, ge=0, lt=1)
    """Decay of the running mean of weights that is evaluated and saved; 0 turns it off."""
    eval_every: Integer = Field(default=250, ge=1, le=_MOST_STEPS)
    """Steps between evaluations."""
    patience: Integer = Field(default=0, ge=0, le=_MOST_STEPS)
    """Stop after this many evaluations without a better validation loss; 0 never."""
    target_loss: OptionalNumber = Field(default=None, gt=0, le=100)
    """Stop when the validation loss is at or below this; empty never."""
    target_train_loss: OptionalNumber = Field(default=None, gt=0, le=100)
    """Stop when the running mean of the training loss is at or below this; empty never."""
    train_loss_steps: Integer = Field(default=25, ge=1, le=10_000)
    """Time constant of that mean, which is exponential; as many steps are made at least."""
    on_nan: Literal["stop", "rollback"] = "stop"
    """At a non-finite loss: stop, or roll back to an evaluated checkpoint and halve the LR."""
    seed: Integer = Field(default=1337, ge=0, lt=2**63)
    """Seed of weights, batches and dropout."""
    backend: Literal["auto", "torch", "numpy"] = "auto"
    """What computes: PyTorch, or NumPy with gradients by hand; auto is PyTorch where it is."""
    device: str = Field(
        default="auto",
        pattern=r"^(auto|cpu|mps|cuda(:\d{1,3})?)$",
        examples=["auto", "cpu", "mps", "cuda:0"],
    )
    """Where to compute: auto, cpu, mps, cuda, or cuda:N for one of several."""

    @property
    def final_learning_rate(self) -> float:
        """``min_lr`` or its default of a tenth of ``learning_rate``."""
        return self.learning_rate / 10 if self.min_lr is None else self.min_lr

    @property
    def decay(self) -> float:
        """``weight_decay``; 0 while it is empty, which it is for no run: its corpus tells it."""
        return self.weight_decay or 0.0


class DataConfig(Section):
    """What the model learns from."""

    name: ClassVar[str] = "data"

    corpus: Annotated[str, BeforeValidator(_read_corpus)] = Field(
        default="tiny_shakespeare", min_length=1
    )
    """A named corpus, a text file or a folder; or several: plays/*2 + letters.txt."""
    tokenizer: Annotated[
        str, OneOf(TOKENIZERS, TOKENIZER_FILE, "the path of a tokenizer.json or a GGUF file")
    ] = "char"
    """How text becomes tokens: characters, byte pairs (learned, or GPT-2's), words, or a file."""
    vocab_size: OptionalInteger = Field(default=None, ge=2, le=1_000_000)
    """Tokens of a bpe or word tokenizer; empty means 512 for bpe and every word for word."""
    val_fraction: Number = Field(default=0.1, gt=0, lt=1)
    """Share of the text, at its end, kept for validation, unless the corpus brings such a text."""
    validation: str = ""
    """A text to measure losses on; empty means the one that the corpus brings, or its end."""
    seq_len: OptionalInteger = Field(default=None, ge=1, le=131072)
    """Tokens in a training window; empty means the model's max_seq_len."""
    windows: Literal["random", "shuffled", "streamed"] = "random"
    """Random places; every window once an epoch; or that part by part, for very large corpora."""
    stride: OptionalInteger = Field(default=None, ge=1, le=1_000_000_000)
    """Distance between the starts of shuffled windows; empty means seq_len (no overlap)."""


class SamplingConfig(Section):
    """The samples that are drawn during training."""

    name: ClassVar[str] = "sampling"

    prompts: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        default=("ROMEO:",), max_length=100
    )
    """Texts to continue."""
    every: Integer = Field(default=500, ge=0, le=_MOST_STEPS)
    """Steps between samples; 0 draws only the last one."""
    max_tokens: Integer = Field(default=200, ge=1, le=1_000_000)
    """Length of a sample."""
    temperature: Number = Field(default=0.8, ge=0, le=100)
    """Randomness; 0 is greedy."""
    top_k: Integer = Field(default=0, ge=0, le=1_000_000)
    """Keep only the k likeliest tokens; 0 keeps all."""
    top_p: Number = Field(default=1.0, gt=0, le=1)
    """Keep the smallest set of tokens with this probability."""
    repetition_penalty: Number = Field(default=1.0, gt=0, le=100)
    """Divide the logits of tokens already seen; 1 does nothing."""
    seed: Integer = Field(default=42, ge=0, lt=2**63)
    """Seed of the samples; the same for every step, so that samples compare."""


class CheckpointConfig(Section):
    """What is kept of a run."""

    name: ClassVar[str] = "checkpoints"

    every: Integer = Field(default=0, ge=0, le=_MOST_STEPS)
    """Keep a checkpoint every so many steps for good; 0 keeps only the best and the last."""
    keep_best: Integer = Field(default=3, ge=1, le=1000)
    """How many of the best by validation loss to keep."""
    save_every: Integer = Field(default=0, ge=0, le=_MOST_STEPS)
    """Steps between saves of the resumable last state; 0 means at every evaluation."""


class LoggingConfig(Section):
    """What is written of a run."""

    name: ClassVar[str] = "logging"

    every: Integer = Field(default=1, ge=1, le=_MOST_STEPS)
    """Write every so many steps to events.jsonl."""
    layers_every: Integer = Field(default=20, ge=0, le=_MOST_STEPS)
    """Steps between gradient norms and update ratios of each layer; 0 measures none."""


class Config(BaseModel):
    """Everything that defines a run."""

    model_config = ConfigDict(**_CLOSED, title="shakespeare-tui config")

    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    data: DataConfig = DataConfig()
    sampling: SamplingConfig = SamplingConfig()
    checkpoints: CheckpointConfig = CheckpointConfig()
    logging: LoggingConfig = LoggingConfig()

    @model_validator(mode="after")
    def _check_rules(self) -> Self:
        if messages := broken_rules(self.by_path(), None):
            raise ValueError("; ".join(messages))
        return self

    def by_path(self) -> dict[str, Any]:
        """Every value by its ``section.key``."""
        return {f"{section}.{key}": value for section, settings in self for key, value in settings}

    def effective_values(self) -> dict[str, int | float]:
        """What settings that may be left empty come to, by their ``section.key``."""
        return {
            "model.d_ff": self.model.feedforward_width,
            "training.min_lr": self.training.final_learning_rate,
            "data.seq_len": self.seq_len,
            "data.stride": self.data.stride or self.seq_len,
        }

    @property
    def seq_len(self) -> int:
        """Tokens in a training window, and the context that the model is used with afterwards.

        Where it is shorter than ``model.max_seq_len``, later positions are never trained: nothing
        is evaluated, sampled or scored there.
        """
        return self.data.seq_len or self.model.max_seq_len

    @property
    def tokens_per_step(self) -> int:
        """Tokens that one optimiser step learns from."""
        return self.training.batch_size * self.training.grad_accumulation * self.seq_len

    def decay_for(self, train_tokens: int, epochs: float | None = None) -> float:
        """The weight decay with which matrices remember about an epoch of so many tokens, or less.

        What a step taught a matrix fades by 1/e within 1 / (LR · decay) steps at the peak LR. As a
        number of epochs the best such time depends little on model and corpus (Wang and Aitchison,
        arXiv:2405.13698), but it was found to fall where a text is seen more than a dozen times.
        Two digits, for its optimum is flat.

        Args:
            train_tokens: To learn from.
            epochs: How often they are seen; None takes what the steps come to, or with a time
                budget that in the same time a shorter text is seen more often.
        """
        training = self.training
        if epochs is None and training.minutes is None:
            epochs = training.max_steps * self.tokens_per_step / train_tokens
        share = math.sqrt(train_tokens / _USUAL_TOKENS)
        if epochs:
            # Two runs in the same time get the same, though one is a little faster.
            share = _USUAL_EPOCHS / 2 ** (round(2 * math.log2(epochs)) / 2)
        is_muon = training.optimizer == "muon"
        rate = training.muon_learning_rate if is_muon else training.learning_rate
        steps = _REMEMBERED_EPOCHS * min(1.0, share) * train_tokens / self.tokens_per_step
        # AdamW's matrices decay beside Muon's, at a rate of their own.
        most = 1 / (_LEAST_REMEMBERED * max(rate, training.learning_rate))
        return float(f"{min(1 / (rate * steps), most, _MOST_DECAY):.2g}")

    def with_decay(self, train_tokens: int, epochs: float | None = None) -> Self:
        """With a number for an empty ``training.weight_decay``; see ``decay_for``."""
        if self.training.weight_decay is not None:
            return self
        part = {"weight_decay": self.decay_for(train_tokens, epochs)}
        return self.model_copy(update={"training": self.training.model_copy(update=part)})

    def shared_by(self, processes: int) -> Self:
        """What each of so many processes computes of it: its part of each batch."""
        training = self.training
        part = {"batch_size": training.batch_size // processes}
        return self.model_copy(update={"training": training.model_copy(update=part)})

    @property
    def window_cut(self) -> "WindowCut":
        """How the training split is cut into windows."""
        from shakespeare_tui.data.windows import WindowCut  # with NumPy, which forms do without

        data, training = self.data, self.training
        return WindowCut(
            self.seq_len, data.stride, data.windows, training.batch_size, training.seed
        )

    @property
    def tokens(self) -> "TokenSettings":
        """How a corpus becomes tokens."""
        from shakespeare_tui.data.tokens import TokenSettings  # with NumPy, too

        data = self.data
        is_streamed = data.windows == "streamed"
        return TokenSettings(data.tokenizer, data.vocab_size, data.val_fraction, is_streamed)

    @property
    def context_note(self) -> str:
        """What to say beside figures where the context is not ``model.max_seq_len``; else empty."""
        return context_note(self.seq_len, self.model.max_seq_len)
