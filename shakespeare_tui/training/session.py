"""Make everything a training run needs, for a new run and for one that goes on."""

import contextlib
import functools
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from shakespeare_tui.config.estimate.figures import TIGHT_SHARE, estimate_memory
from shakespeare_tui.config.schema import Config
from shakespeare_tui.data.catalogue import CATALOGUE
from shakespeare_tui.data.inspect.ngrams import baselines
from shakespeare_tui.data.source import TextSource, open_corpus
from shakespeare_tui.data.tokenizers import TokenArray, Tokenizer, UnknownCharacterError, text_size
from shakespeare_tui.data.tokens import (
    check_variety,
    fit_tokenizer,
    split_tokens,
    tokenize_corpus,
)
from shakespeare_tui.errors import CancelledError, UserError
from shakespeare_tui.files import as_number, write_json_atomically
from shakespeare_tui.models.parameters import count_parameters
from shakespeare_tui.paths import cache_folder
from shakespeare_tui.runs.folder import (
    Checkpoint,
    RunFolder,
    create_run_folder,
    new_run_info,
)
from shakespeare_tui.settings_files import read_json_file
from shakespeare_tui.training.checkpoints import (
    Fingerprint,
    Progress,
    fingerprint_of,
    read_weights,
)
from shakespeare_tui.training.train_state import Arrays, Backend, TrainState


def choose_backend(config: Config) -> Backend:
    """The backend of a config on its device; this loads its library.

    Raises:
        UserError: The device is not there.
    """
    from shakespeare_tui.training.torch_state import TorchBackend

    return TorchBackend(config.training.device)


@dataclass
class Hooks:
    """How setting up tells the user what goes on, asks, and learns that it is no longer wanted."""

    report: Callable[[str, int, int | None], None] = lambda what, done, total: None
    notice: Callable[[str], None] = lambda text: None
    confirm: Callable[[str], bool] = lambda question: True
    cancelled: threading.Event = field(default_factory=threading.Event)


@dataclass
class Session:
    """A run ready to be trained.

    Attributes:
        run: Its folder, locked.
        config: The resolved config.
        tokenizer: Fitted on the corpus.
        train: Training tokens, shape [n].
        val: Validation tokens.
        backend: What computes, on its device.
        state: Model, optimisers and random generators.
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
    backend: Backend
    state: TrainState
    fingerprint: Fingerprint
    progress: Progress
    prompts: list[tuple[str, list[int]]]
    baselines: dict[str, float] = field(default_factory=dict)
    is_new: bool = True

    @functools.cached_property
    def characters_per_token(self) -> float:
        """Of the validation split: what turns nats per token into nats per character."""
        return text_size(self.tokenizer, self.val).characters / len(self.val)


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
    backend = choose_backend(config)
    source = open_corpus(
        config.data.corpus,
        report=lambda done, total: hooks.report("fetching the corpus", done, total),
        notice=hooks.notice,
        fallback_to_sample=fallback_to_sample,
        cancelled=hooks.cancelled,
    )
    if config.data.corpus in CATALOGUE and source.name != config.data.corpus:
        # The sample stands in: the run is of what it learned from, also when it resumes.
        data = config.data.model_copy(update={"corpus": source.name})
        config = config.model_copy(update={"data": data})
    tokenizer, text = fit_tokenizer(
        config.data.tokenizer,
        source.name,
        source.iter_text(),
        hooks.cancelled.is_set,
        known=start_from.run.tokenizer() if start_from else None,
    )
    if config.data.tokenizer != tokenizer.name:
        data = config.data.model_copy(update={"tokenizer": tokenizer.name})
        config = config.model_copy(update={"data": data})
    if text.is_whole:  # what is too short is refused before anything is written
        tokens = tokenizer.encode(text.beginning)
        split_tokens(tokens, config.data.val_fraction, config.seq_len, tokenizer)
    if config.context_note:
        hooks.notice(config.context_note)
    check_variety(text.is_one_character)
    device = backend.arithmetic().device
    check_memory(config, tokenizer.vocab_size, device, backend.free_memory(), hooks)
    weights = _starting_weights(start_from, config, tokenizer, hooks) if start_from else None
    train, val = load_tokens(source, tokenizer, config, hooks)
    run = begin_in or create_run_folder(root, name, stem)
    with run.locked():
        run.clear_blank()
        try:
            info = new_run_info(
                name=run.name,
                corpus=source.name,
                corpus_sha256=source.sha256(),
                characters=text.characters,
                vocab_size=tokenizer.vocab_size,
                tokenizer_sha256=tokenizer.fingerprint,
                parameters=count_parameters(config.model, tokenizer.vocab_size),
                parent=start_from.reference if start_from else None,
                embedding_scale=(
                    start_from.run.info() if start_from else config.model
                ).embedding_scale,
            )
            run.write_definition(info, config, tokenizer)
            state = backend.new_state(config, info, hooks.cancelled.is_set)
            if weights is not None and start_from is not None:
                state.load_weights(weights, str(start_from.weights_path), hooks.cancelled.is_set)
            yield Session(
                run=run,
                config=config,
                tokenizer=tokenizer,
                train=train,
                val=val,
                backend=backend,
                state=state,
                fingerprint=fingerprint_of(
                    config, info, info.corpus_sha256, tokenizer, backend.arithmetic()
                ),
                progress=Progress(precision=state.precision),
                prompts=encode_prompts(config, tokenizer, val, hooks.notice),
                baselines=load_baselines(
                    source, tokenizer, config, train, val, hooks.cancelled.is_set
                ),
            )
        except BaseException:
            if begin_in is None and not run.events_path.exists():
                shutil.rmtree(run.path, ignore_errors=True)
            raise


def _starting_weights(
    start_from: Checkpoint, config: Config, tokenizer: Tokenizer, hooks: Hooks
) -> Arrays:
    parent = start_from.run.config().model
    if parent.model_copy(update={"dropout": config.model.dropout}) != config.model:
        raise UserError(
            f"the model of {start_from.reference} has another shape; use its config: "
            f"--config {start_from.run.path / 'config.yaml'}"
        )
    weights = read_weights(start_from, hooks.cancelled.is_set)
    if sum(w.size for w in weights.values()) != count_parameters(parent, tokenizer.vocab_size):
        raise UserError(f"{start_from.weights_path} does not fit its run's config")
    return weights


def check_memory(
    config: Config, vocab_size: int, device: str, available: int | None, hooks: Hooks
) -> None:
    """Refuse what does not fit into memory, and ask where it is tight, before any of it is taken.

    Args:
        config: What would be trained.
        vocab_size: Number of token ids.
        device: The type of device: ``cpu``, ``cuda`` or ``mps``.
        available: Bytes that are free there, where that is known.
        hooks: Asked where it is tight.

    Raises:
        UserError: It does not fit.
        CancelledError: It is tight, and the answer was no.
    """
    need = estimate_memory(
        config,
        vocab_size,
        is_half=config.training.precision == "bfloat16",
        is_fused=device == "cuda",
    )
    if available is None or need.total <= available * TIGHT_SHARE:
        return
    if need.total > available:
        raise UserError(
            f"{need.words(available)} ({need.parts()}); lower model.d_model, model.n_layers or "
            "training.batch_size"
        )
    if not hooks.confirm(f"{need.words(available)}: other programs may be slowed down or ended"):
        raise CancelledError("the run was not started")


def load_tokens(
    source: TextSource, tokenizer: Tokenizer, config: Config, hooks: Hooks
) -> tuple[TokenArray, TokenArray]:
    """Both parts of a corpus as ids, encoded once and kept in the cache."""
    tokens = tokenize_corpus(
        source,
        tokenizer,
        cache_folder() / "tokens",
        report=lambda done, total: hooks.report("encoding the corpus", done, total),
        cancelled=hooks.cancelled.is_set,
    )
    return split_tokens(tokens, config.data.val_fraction, config.seq_len, tokenizer)


def encode_prompts(
    config: Config, tokenizer: Tokenizer, val: TokenArray, notice: Callable[[str], None]
) -> list[tuple[str, list[int]]]:
    """The config's prompts with their ids; text of the corpus stands in for unknown characters."""
    prompts = []
    for prompt in config.sampling.prompts:
        try:
            prompts.append((prompt, tokenizer.encode(prompt).tolist()))
        except UnknownCharacterError as error:
            # Presets bring prompts that need not fit one's own corpus.
            tokens = val[:16].tolist()
            notice(f"prompt {prompt!r}: {error}; the validation text's first words stand in")
            prompts.append((tokenizer.decode(tokens), tokens))
    return [(text, tokens) for text, tokens in prompts if tokens]


def load_baselines(
    source: TextSource,
    tokenizer: Tokenizer,
    config: Config,
    train: TokenArray,
    val: TokenArray,
    cancelled: Callable[[], bool],
) -> dict[str, float]:
    """N-gram losses, measured once for a corpus and split."""
    key = f"{source.sha256()[:24]}-{tokenizer.fingerprint[:8]}-{config.data.val_fraction:g}"
    path = cache_folder() / "baselines" / f"{key}.json"
    if known := _known_baselines(path):
        return known
    measured = baselines(train, val, tokenizer.vocab_size, cancelled=cancelled)
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
