"""Make everything a training run needs, for a new run and for one that goes on."""

import contextlib
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch

from shakespeare_tui.core.config import Config
from shakespeare_tui.core.corpus.catalogue import CATALOGUE
from shakespeare_tui.core.corpus.ngrams import baselines
from shakespeare_tui.core.corpus.source import TextSource, open_corpus
from shakespeare_tui.core.errors import UserError
from shakespeare_tui.core.files import write_json_atomically
from shakespeare_tui.core.formatting import format_bytes, format_count
from shakespeare_tui.core.loose_values import as_number
from shakespeare_tui.core.machine import memory
from shakespeare_tui.core.parameters import count_parameters
from shakespeare_tui.core.paths import cache_folder
from shakespeare_tui.core.runs import (
    Checkpoint,
    RunFolder,
    RunInfo,
    create_run_folder,
    new_run_info,
)
from shakespeare_tui.core.settings_files import read_json_file
from shakespeare_tui.core.token_cache import tokenize_corpus
from shakespeare_tui.core.tokenizers import TokenArray, Tokenizer, UnknownCharacterError
from shakespeare_tui.core.tokens import (
    check_length,
    check_vocabulary,
    fit_char_tokenizer,
    split_tokens,
)
from shakespeare_tui.engine.checkpoints import Progress, load_weights, read_weights
from shakespeare_tui.engine.device import (
    allow_tf32,
    cuda_has_bf16,
    measured_precision,
    resolve_device,
)
from shakespeare_tui.engine.fingerprint import Fingerprint, fingerprint_of
from shakespeare_tui.engine.learner import Learner
from shakespeare_tui.engine.memory import keep_freed_memory
from shakespeare_tui.engine.model import Transformer
from shakespeare_tui.engine.precision_memory import PRECISIONS, remembered_precision


@dataclass
class Hooks:
    """How setting up tells the user what goes on, and learns that it is no longer wanted."""

    report: Callable[[str, int, int | None], None] = lambda what, done, total: None
    notice: Callable[[str], None] = lambda text: None
    cancelled: Callable[[], bool] = lambda: False


@dataclass
class Session:
    """A run ready to be trained.

    Attributes:
        run: Its folder, locked.
        config: The resolved config.
        tokenizer: Fitted on the corpus.
        train: Training tokens, shape [n].
        val: Validation tokens.
        learner: Model and optimisers on their device.
        fingerprint: What its steps depend on.
        progress: Where the run stands.
        prompts: The config's prompts in tokens, beside their text.
        baselines: Reference losses on the validation split, nats per token.
        is_new: Whether the run starts from nothing.
    """

    run: RunFolder
    config: Config
    tokenizer: Tokenizer
    train: TokenArray
    val: TokenArray
    learner: Learner
    fingerprint: Fingerprint
    progress: Progress
    prompts: list[tuple[str, list[int]]]
    baselines: dict[str, float] = field(default_factory=dict)
    is_new: bool = True


@contextlib.contextmanager
def new_session(
    config: Config,
    *,
    root: Path,
    name: str | None = None,
    stem: str = "run",
    begin_in: RunFolder | None = None,
    start_from: Checkpoint | None = None,
    fallback_to_sample: bool = False,
    hooks: Hooks | None = None,
) -> Iterator[Session]:
    """Make a new run and hold its lock; nothing is made where the input is wrong.

    Args:
        config: What to train.
        root: Folder of all runs.
        name: The run's name; None numbers ``stem``.
        stem: What unnamed runs are called.
        begin_in: The folder of a run that ended before its first checkpoint, to be begun again.
        start_from: Take the weights and tokenizer of this checkpoint (fine-tuning); its model must
            have the same shape.
        fallback_to_sample: Train on the shipped sample where the corpus cannot be had.
        hooks: Progress and cancellation.

    Raises:
        UserError: Corpus, config, name or checkpoint are no good.
        OSError: The folder or the cache cannot be written.
    """
    hooks = hooks or Hooks()
    keep_freed_memory()
    allow_tf32()
    device = resolve_device(config.training.device)
    source = open_corpus(
        config.data.corpus,
        report=lambda done, total: hooks.report("fetching the corpus", done, total),
        notice=hooks.notice,
        fallback_to_sample=fallback_to_sample,
    )
    if config.data.corpus in CATALOGUE and source.name != config.data.corpus:
        # The sample stands in: the run is of what it learned from, also when it resumes.
        data = config.data.model_copy(update={"corpus": source.name})
        config = config.model_copy(update={"data": data})
    fitted, characters = fit_char_tokenizer(source, hooks.cancelled)
    tokenizer = start_from.run.tokenizer() if start_from else fitted
    check_length(characters, config.data.val_fraction, config.seq_len)
    if config.context_note:
        hooks.notice(config.context_note)
    check_vocabulary(fitted.vocab_size)
    check_memory(config, tokenizer.vocab_size, device)
    weights = _starting_weights(start_from, config, tokenizer) if start_from else None
    train, val = load_tokens(source, tokenizer, config, hooks)
    run = begin_in or create_run_folder(root, name, stem)
    with run.locked():
        run.clear_blank()
        try:
            info = new_run_info(
                name=run.name,
                corpus=source.name,
                corpus_sha256=source.sha256(),
                characters=characters,
                vocab_size=tokenizer.vocab_size,
                tokenizer_sha256=tokenizer.fingerprint,
                parameters=count_parameters(config.model, tokenizer.vocab_size),
                parent=start_from.reference if start_from else None,
                embedding_scale=(
                    start_from.run.info() if start_from else config.model
                ).embedding_scale,
            )
            run.write_definition(info, config, tokenizer)
            learner, progress = _new_learner(config, info, device)
            if weights is not None and start_from is not None:
                load_weights(learner.model, weights, str(start_from.weights_path))
            yield Session(
                run=run,
                config=config,
                tokenizer=tokenizer,
                train=train,
                val=val,
                learner=learner,
                fingerprint=fingerprint_of(
                    config, info, info.corpus_sha256, tokenizer, device.type
                ),
                progress=progress,
                prompts=encode_prompts(config, tokenizer, val, hooks.notice),
                baselines=load_baselines(source, tokenizer, config, train, val),
            )
        except BaseException:
            if begin_in is None and not run.events_path.exists():
                shutil.rmtree(run.path, ignore_errors=True)
            raise


def _starting_weights(
    start_from: Checkpoint, config: Config, tokenizer: Tokenizer
) -> dict[str, torch.Tensor]:
    parent = start_from.run.config().model
    if parent.model_copy(update={"dropout": config.model.dropout}) != config.model:
        raise UserError(
            f"the model of {start_from.reference} has another shape; use its config: "
            f"--config {start_from.run.path / 'config.yaml'}"
        )
    weights = read_weights(start_from)
    if sum(w.numel() for w in weights.values()) != count_parameters(parent, tokenizer.vocab_size):
        raise UserError(f"{start_from.weights_path} does not fit its run's config")
    return weights


def check_memory(config: Config, vocab_size: int, device: torch.device) -> None:
    """Refuse a model that cannot fit, before a system short of memory ends other programs."""
    parameters = count_parameters(config.model, vocab_size)
    # Weights, gradients and two optimiser moments in float32; activations come on top.
    needed = 16 * parameters
    if device.type == "cuda":
        available = torch.cuda.get_device_properties(device).total_memory
    else:
        available = memory().total or needed
    if needed > available:
        raise UserError(
            f"the model has {format_count(parameters)} parameters and needs "
            f"{format_bytes(needed)} to train, but there are {format_bytes(available)} of memory; "
            "lower model.d_model or model.n_layers"
        )


def load_tokens(
    source: TextSource, tokenizer: Tokenizer, config: Config, hooks: Hooks
) -> tuple[TokenArray, TokenArray]:
    """Both parts of a corpus as ids, encoded once and kept in the cache."""
    tokens = tokenize_corpus(
        source,
        tokenizer,
        cache_folder() / "tokens",
        report=lambda done, total: hooks.report("encoding the corpus", done, total),
        cancelled=hooks.cancelled,
    )
    return split_tokens(tokens, config.data.val_fraction, config.seq_len)


def _new_learner(config: Config, info: RunInfo, device: torch.device) -> tuple[Learner, Progress]:
    generator = torch.Generator().manual_seed(config.training.seed)
    model = Transformer(
        config.model,
        info.vocab_size,
        generator,
        context=config.seq_len,
        embedding_scale=info.embedding_scale,
    )
    learner = Learner(model.to(device).train(), config.training, device, torch.float32)
    if config.training.precision == "auto" and device.type == "cuda":
        learner.precision = torch.bfloat16 if cuda_has_bf16(device) else torch.float32
    elif config.training.precision == "auto":
        rows = max(1, min(config.training.batch_size, 2048 // config.seq_len))
        window = torch.zeros(rows, config.seq_len + 1, dtype=torch.int64, device=device)
        learner.precision = remembered_precision(
            device,
            [config.model.model_dump(mode="json"), list(window.shape), info.vocab_size],
            lambda: measured_precision(device, lambda dtype: learner.gradient_pass(window, dtype)),
        )
    else:
        learner.precision = PRECISIONS[config.training.precision]
    # After the measurement, which may have drawn dropout from the global generators.
    torch.manual_seed(config.training.seed)
    return learner, Progress(precision=str(learner.precision).removeprefix("torch."))


def encode_prompts(
    config: Config, tokenizer: Tokenizer, val: TokenArray, notice: Callable[[str], None]
) -> list[tuple[str, list[int]]]:
    """The config's prompts with their ids; text of the corpus stands in for unknown characters."""
    prompts = []
    for prompt in config.sampling.prompts:
        try:
            prompts.append((prompt, tokenizer.encode(prompt)))
        except UnknownCharacterError as error:
            # Presets bring prompts that need not fit one's own corpus.
            tokens = [int(token) for token in val[:16]]
            notice(f"prompt {prompt!r}: {error}; the validation text's first words stand in")
            prompts.append((tokenizer.decode(tokens), tokens))
    return [(text, tokens) for text, tokens in prompts if tokens]


def load_baselines(
    source: TextSource, tokenizer: Tokenizer, config: Config, train: TokenArray, val: TokenArray
) -> dict[str, float]:
    """N-gram losses, measured once for a corpus and split."""
    key = f"{source.sha256()[:24]}-{tokenizer.fingerprint[:8]}-{config.data.val_fraction:g}"
    path = cache_folder() / "baselines" / f"{key}.json"
    if known := _known_baselines(path):
        return known
    measured = baselines(train, val, tokenizer.vocab_size)
    # A cache that cannot be written is no reason not to train.
    with contextlib.suppress(OSError):
        write_json_atomically(path, measured)
    return measured


def _known_baselines(path: Path) -> dict[str, float]:
    """What was measured before; empty where the file is missing or holds anything else."""
    try:
        record = read_json_file(path)
    except (OSError, UserError):
        return {}
    if not isinstance(record, dict):
        return {}
    losses = {str(name): as_number(loss) for name, loss in record.items()}
    known = {name: loss for name, loss in losses.items() if loss is not None and loss >= 0}
    return known if len(known) == len(losses) else {}
