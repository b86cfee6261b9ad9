"""Everything that a training run needs: made for a new run, or opened where one left off."""

import contextlib
import dataclasses
import functools
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from shakespeare_tui.config.estimate.figures import (
    TIGHT_SHARE,
    estimate_memory,
    expects_half,
)
from shakespeare_tui.config.load import parse_config
from shakespeare_tui.config.schema import Config, TrainingConfig
from shakespeare_tui.config.write import config_to_yaml
from shakespeare_tui.data.catalogue import CATALOGUE
from shakespeare_tui.data.inspect.ngrams import baselines
from shakespeare_tui.data.source import TextSource, open_corpus
from shakespeare_tui.data.tokenizers.file import tokenizer_file
from shakespeare_tui.data.tokenizers.kinds import is_tokenizer_file, token_noun
from shakespeare_tui.data.tokenizers.tokenizer import (
    TokenArray,
    Tokenizer,
    UnknownCharacterError,
    text_size,
)
from shakespeare_tui.data.tokens import (
    check_variety,
    encode_split,
    foretold_size,
    open_tokenizer,
    split_tokens,
    stream_split,
    whole_survey,
)
from shakespeare_tui.data.windows import Windows, gather_windows
from shakespeare_tui.decoding.decoder import Precision
from shakespeare_tui.decoding.factory import Model
from shakespeare_tui.errors import CancelledError, UserError, never
from shakespeare_tui.files import as_number, write_atomically, write_json_atomically
from shakespeare_tui.machine import has_bf16_products, has_torch, launched
from shakespeare_tui.models.parameters import count_parameters
from shakespeare_tui.paths import cache_folder
from shakespeare_tui.runs.event_log import truncate_after
from shakespeare_tui.runs.events import DiagnosisRaised, EvalCompleted, SampleGenerated
from shakespeare_tui.runs.folder import (
    Checkpoint,
    NewerFormatError,
    RunFolder,
    create_run_folder,
    find_checkpoint,
    find_run,
    new_run_info,
    pretrained_note,
)
from shakespeare_tui.runs.length import RunLength
from shakespeare_tui.settings_files import read_json_file
from shakespeare_tui.training.backends import NO_TORCH, choose_backend
from shakespeare_tui.training.checkpoints import (
    Fingerprint,
    Progress,
    SavedState,
    differences,
    exact_settings,
    fingerprint_of,
    name_last,
    prune,
    read_state,
    read_weights,
    restore,
    rounding_differences,
)
from shakespeare_tui.training.distillation import (
    check_teachers,
    open_soft_targets,
    teacher_digest,
    teacher_reference,
)
from shakespeare_tui.training.measure_speed import measure_throughput
from shakespeare_tui.training.request import TrainingRequest
from shakespeare_tui.training.train_state import Arrays, Backend, TrainState


def open_model(
    checkpoint: Checkpoint,
    device: str = "auto",
    cancelled: Callable[[], bool] = never,
    *,
    precision: Precision = "auto",
) -> tuple[Model, Tokenizer]:
    """A checkpoint's model, with its tokenizer, to be decoded with and evaluated.

    By NumPy, and without PyTorch, where that trained it or is all there is; a device or a precision
    that only PyTorch has goes before that.

    Raises:
        UserError: It is damaged, does not fit into memory, or the device is not there.
        CancelledError: ``cancelled``, polled between arrays, became true.
    """
    needs = {
        f"device {device}": device not in ("auto", "cpu"),
        f"precision {precision}": precision not in ("auto", "float32"),
    }
    wanted = [name for name, is_needed in needs.items() if is_needed]
    is_numpy = checkpoint.run.config().training.backend == "numpy" and not wanted
    if not is_numpy and has_torch():
        from shakespeare_tui.training import torch_state
        from shakespeare_tui.training.device import resolve_device

        return torch_state.load_model(checkpoint, resolve_device(device), cancelled)
    if wanted:
        raise UserError(NO_TORCH.format(" and ".join(wanted)))
    from shakespeare_tui.training.numpy_state import load_model

    return load_model(checkpoint, cancelled)


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
        train: Training tokens, shape [n]; of a streamed corpus those that come first.
        val: Validation tokens.
        windows: The training windows of each batch.
        backend: What computes, on its device.
        state: Model, optimisers and random generators.
        fingerprint: What its steps depend on.
        progress: Where the run stands.
        prompts: The config's prompts in tokens, beside their text.
        baselines: Reference losses on the validation split, nats per token.
        is_new: Whether the run starts from nothing.
        soft_targets: What teachers foretell at the windows of each batch, [batch, seq_len, V], for
            ``TrainState.step``; None without teachers.
    """

    run: RunFolder
    config: Config
    tokenizer: Tokenizer
    train: TokenArray
    val: TokenArray
    windows: Windows
    backend: Backend
    state: TrainState
    fingerprint: Fingerprint
    progress: Progress
    prompts: list[tuple[str, list[int]]]
    baselines: dict[str, float] = field(default_factory=dict)
    is_new: bool = True
    soft_targets: Callable[[int], NDArray[np.float16]] | None = None

    @functools.cached_property
    def characters_per_token(self) -> float:
        """Of the validation split: what turns nats per token into nats per character.

        0 where the tokens do not say that text.
        """
        if not self.tokenizer.is_lossless and self.run.info().bytes_per_token is None:
            return 0.0
        return text_size(self.tokenizer, self.val).characters / len(self.val)

    @property
    def length(self) -> RunLength:
        """Where the run ends, as things stand."""
        training, progress = self.config.training, self.progress
        return RunLength(
            training.max_steps, training.minutes, progress.extra_steps, progress.extra_minutes
        )


ChooseBackend = Callable[[Config], Backend]
"""Finds what computes a config; it raises UserError where nothing here can."""


@contextlib.contextmanager
def open_session(
    request: TrainingRequest,
    hooks: Hooks | None = None,
    choose: ChooseBackend = choose_backend,
) -> Iterator[Session]:
    """Make a new run, or open one where it left off, and hold its lock.

    The calling thread is the one to train on: it has all threads of the backend meanwhile.

    Args:
        request: What to train.
        hooks: Progress and cancellation.
        choose: What computes.

    Raises:
        UserError: Corpus, config, name or checkpoint are no good, the run to be resumed is being
            trained, its checkpoints are damaged, or something that its steps depend on has changed.
        CancelledError: The hooks said so.
        OSError: The folder or the cache cannot be written.
    """
    hooks = hooks or Hooks()
    request.check()
    if request.resume is not None:
        opened = _resumed_session(request, hooks, choose)
    else:
        assert request.config is not None
        opened = _new_session(request.config, request, hooks, choose)
    with opened as session:
        yield session


@contextlib.contextmanager
def _new_session(
    config: Config,
    request: TrainingRequest,
    hooks: Hooks,
    choose: ChooseBackend,
    begin_in: RunFolder | None = None,
) -> Iterator[Session]:
    """Make a new run; nothing is made where the input is wrong.

    ``begin_in`` is the folder of a run that ended before its first checkpoint, to be begun again.
    """
    start_from = find_checkpoint(request.start_from, request.root) if request.start_from else None
    teachers = [find_checkpoint(reference, request.root) for reference in request.teachers]
    backend = choose(config)
    source = open_corpus(
        config.data.corpus,
        report=lambda done, total: hooks.report("fetching the corpus", done, total),
        notice=hooks.notice,
        validation=config.data.validation,
        fallback_to_sample=request.fallback_to_sample,
        cancelled=hooks.cancelled,
    )
    if config.data.corpus in CATALOGUE and source.name != config.data.corpus:
        # The sample stands in: the run is of what it learned from, also when it resumes.
        data = config.data.model_copy(update={"corpus": source.name, "validation": ""})
        config = config.model_copy(update={"data": data})
    survey = whole_survey(source, hooks.report, hooks.cancelled.is_set)
    origin = start_from or next(iter(teachers), None)
    if origin is None:
        tokenizer = open_tokenizer(
            config.tokens, source, hooks.report, hooks.cancelled.is_set, survey=survey
        )
    else:
        tokenizer = _tokenizer_of(origin, config.data.tokenizer)
        kind = origin.run.config().data.tokenizer
        is_word = token_noun(kind) == "word"  # a file does not tell, and losses are by word
        data = config.data.model_copy(update={"tokenizer": kind if is_word else tokenizer.name})
        config = config.model_copy(update={"data": data})
    is_streamed = config.data.windows == "streamed"
    if teachers:
        check_teachers(
            teachers, tokenizer, source, config.data.val_fraction, is_streamed=is_streamed
        )
    # What is too short is refused before anything is written.
    if source.size_bytes <= _SHORT_BYTES and source.validation is None:
        tokens = tokenizer.encode("".join(source.iter_text()))
        split_tokens(tokens, config.data.val_fraction, config.seq_len, tokenizer)
    origins = [start_from.run.info()] if start_from else []
    origins += [teacher.run.info() for teacher in teachers]
    pretrained = next((info.pretrained for info in origins if info.pretrained), None)
    if pretrained is not None:
        hooks.notice(pretrained_note(pretrained))
    elif config.context_note:
        hooks.notice(config.context_note)
    check_variety(len(survey.vocabulary) == 1)
    check_fits(config, tokenizer, backend, hooks)
    backend.prepare(config, hooks.report, hooks.cancelled.is_set)
    weights = _starting_weights(start_from, config, tokenizer, hooks) if start_from else None
    train, val, windows = load_tokens(source, tokenizer, config, hooks)
    if request.notice:
        hooks.notice(request.notice)
    if config.training.weight_decay is None:
        config = _with_decay(config, request, source, tokenizer.vocab_size, len(train), hooks)
    digests = {teacher_reference(t, request.root): teacher_digest(t) for t in teachers}
    with backend.training_threads():
        taught = _soft_targets(digests, request.root, config, tokenizer, train, backend, hooks)
    run = begin_in or create_run_folder(request.root, request.name, request.stem)
    with backend.training_threads(), run.locked():
        run.clear_blank()
        try:
            size = foretold_size(source, tokenizer, val)
            info = new_run_info(
                name=run.name,
                corpus=source.name,
                corpus_sha256=source.sha256(),
                characters=survey.characters,
                vocab_size=tokenizer.vocab_size,
                tokenizer_sha256=tokenizer.fingerprint,
                bytes_per_token=size.bytes / (len(val) - 1) if size else None,
                parameters=count_parameters(config.model, tokenizer.vocab_size),
                parent=start_from.reference if start_from else None,
                pretrained=pretrained,
                teachers=digests or None,
                embedding_scale=(
                    start_from.run.info() if start_from else config.model
                ).embedding_scale,
                experiment=request.experiment,
                variant=request.variant,
            )
            chat_template = start_from.run.chat_template() if start_from else None
            run.write_definition(info, config, tokenizer, chat_template)
            state = backend.new_state(config, info, hooks.cancelled.is_set)
            if weights is not None and start_from is not None:
                state.load_weights(weights, str(start_from.weights_path), hooks.cancelled.is_set)
                weights = None  # not to be there twice as long as the run is trained
            yield Session(
                run=run,
                config=config,
                tokenizer=tokenizer,
                train=train,
                val=val,
                windows=windows,
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
                soft_targets=taught,
            )
        except BaseException:
            if begin_in is None and not run.events_path.exists():
                shutil.rmtree(run.path, ignore_errors=True)
            raise


_SHORT_BYTES = 1 << 20


def _with_decay(
    config: Config,
    request: TrainingRequest,
    source: TextSource,
    vocab_size: int,
    train_tokens: int,
    hooks: Hooks,
) -> Config:
    """A config with a number for its empty weight decay, which is said."""
    training, seen, epochs = config.training, "", None
    if request.start_from is not None:
        # What the weights know is not of this text, and is not to be taken from them.
        usual = TrainingConfig().decay
        hooks.notice(f"weight_decay is {usual:g}, the usual where weights are taken from a run")
        changed = training.model_copy(update={"weight_decay": usual})
        return config.model_copy(update={"training": changed})
    if config.data.windows == "streamed":
        train_tokens = source.size_bytes  # of which only the first part is there yet
    # An experiment's runs are to be alike, and a machine's speed is not that of several.
    if training.minutes is not None and not request.experiment and launched() is None:
        hooks.report("measuring the speed", 0, None)
        speed = measure_throughput(config, cancelled=hooks.cancelled.is_set, vocab_size=vocab_size)
        epochs = 60 * training.minutes * speed / train_tokens
        seen = f", seen about {epochs:,.0f} times" if epochs >= 1 else ""
    config = config.with_decay(train_tokens, epochs)
    decay = config.training.decay
    hooks.notice(f"weight_decay is {decay:g}, by the {train_tokens:,} tokens to train on{seen}")
    return config


def _soft_targets(
    teachers: Mapping[str, str],
    root: Path,
    config: Config,
    tokenizer: Tokenizer,
    train: TokenArray,
    backend: Backend,
    hooks: Hooks,
) -> Callable[[int], NDArray[np.float16]] | None:
    """What teachers foretell at the windows of each batch; None without teachers."""
    if not teachers:
        return None
    cancelled = hooks.cancelled.is_set
    table = open_soft_targets(
        teachers,
        root,
        train,
        tokenizer.vocab_size,
        cache_folder() / "soft_targets",
        lambda checkpoint: backend.load_model(checkpoint, cancelled),
        lambda done, total: hooks.report("reading the teachers", done, total),
        hooks.notice,
        cancelled,
    )
    sampler, places = config.window_cut.sampler(len(train)), np.arange(config.seq_len)
    return lambda batch: np.asarray(table[sampler.starts(batch)[:, None] + places])


def _tokenizer_of(start_from: Checkpoint, spec: str) -> Tokenizer:
    """The tokenizer of a checkpoint's run, which must be the one in a file that was named."""
    own = start_from.run.tokenizer()
    if is_tokenizer_file(spec) and spec != start_from.run.config().data.tokenizer:
        from shakespeare_tui.data.tokenizers.hugging_face import HuggingFaceTokenizer

        named = tokenizer_file(spec)
        if isinstance(named, HuggingFaceTokenizer):
            named = named.padded(own.vocab_size)
        if named.fingerprint != own.fingerprint:
            raise UserError(
                f"the tokenizer {spec} is not that of the weights of {start_from.reference}; leave "
                "data.tokenizer out: the run's own is taken"
            )
    return own


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
        is_half=expects_half(config, is_cpu=device == "cpu", has_bf16=has_bf16_products()),
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


def check_fits(config: Config, tokenizer: Tokenizer, backend: Backend, hooks: Hooks) -> None:
    """Refuse a config that does not fit into memory, and ask where it may not.

    Raises:
        UserError: It does not fit, or the answer is no.
    """
    arithmetic = backend.arithmetic()
    part = config.shared_by(arithmetic.processes)
    check_memory(part, tokenizer.vocab_size, arithmetic.device, backend.free_memory(), hooks)


def load_tokens(
    source: TextSource, tokenizer: Tokenizer, config: Config, hooks: Hooks
) -> tuple[TokenArray, TokenArray, Windows]:
    """Both parts of a corpus as ids, encoded once and kept in the cache, and how they are cut.

    Of a streamed corpus the training part is encoded while it is trained on.
    """

    def report(done: int, total: int | None) -> None:
        hooks.report("encoding the corpus", done, total)

    data, seq_len, cut = config.data, config.seq_len, config.window_cut
    text = (source, tokenizer, data.val_fraction, seq_len, cache_folder() / "tokens")
    if data.windows == "streamed":
        parts, val = stream_split(*text, report, hooks.cancelled.is_set)
        streamed = cut.streamed(parts, parts.ahead)
        return streamed.first_tokens, val, streamed
    train, val = encode_split(*text, report, hooks.cancelled.is_set)
    sampler = cut.sampler(len(train))
    return train, val, lambda batch: gather_windows(train, sampler.starts(batch), seq_len)


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
    if config.data.windows == "streamed":
        key += "-streamed"
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


class ChangedRunError(UserError):
    """The run's conditions are not those of its state: no other checkpoint would mend that."""


@contextlib.contextmanager
def _resumed_session(
    request: TrainingRequest, hooks: Hooks, choose: ChooseBackend
) -> Iterator[Session]:
    """Open a run where it left off, however it ended.

    A damaged last checkpoint is passed over, with a notice, for the one before it. A run that ended
    before its first checkpoint starts from its config. What the log says of steps after the
    checkpoint is dropped: those steps come again, the same. Nothing is removed before everything
    that may be refused has been looked at.
    """
    name, step_text = request.resume_point
    run = find_run(name, request.root)
    if step_text in ("", "last") and run.is_blank():
        with _begun_again(run, request, hooks, choose) as session:
            yield session
        return
    with contextlib.ExitStack() as stack:
        stack.enter_context(run.locked())
        run.sweep()
        steps = _resume_points(run, step_text, hooks)
        before = run.config()
        config = _changed(run, before, request.overrides)
        source = open_corpus(
            config.data.corpus,
            notice=hooks.notice,
            validation=config.data.validation,
            cancelled=hooks.cancelled,
        )
        backend, tokenizer = choose(config), run.tokenizer()
        stack.enter_context(backend.training_threads())
        if count_parameters(config.model, tokenizer.vocab_size) == run.info().parameters:
            check_fits(config, tokenizer, backend, hooks)
        backend.prepare(config, hooks.report, hooks.cancelled.is_set)
        conditions = Conditions.of(run, before, config, source.sha256(), backend)
        state, progress = _restored(run, steps, conditions, backend, hooks)
        if config.context_note:
            hooks.notice(config.context_note)
        train, val, windows = load_tokens(source, tokenizer, config, hooks)
        teachers = run.info().teachers or {}
        taught = _soft_targets(teachers, request.root, config, tokenizer, train, backend, hooks)
        session = Session(
            run=run,
            config=config,
            tokenizer=tokenizer,
            train=train,
            val=val,
            windows=windows,
            backend=backend,
            state=state,
            fingerprint=conditions.now,
            progress=progress,
            prompts=encode_prompts(config, tokenizer, val, hooks.notice),
            baselines=load_baselines(source, tokenizer, config, train, val, hooks.cancelled.is_set),
            is_new=False,
            soft_targets=taught,
        )
        if config != before:
            write_atomically(run.path / "config.yaml", config_to_yaml(config))
        # In this order a crash leaves no gap between the log and the last checkpoint.
        name_last(run, progress.step)
        truncate_after(run.events_path, progress.step, _comes_again(progress, config))
        # What comes again, and what a save before the crash had replaced but not removed yet.
        prune(run, config.checkpoints, progress.step)
        yield session


def _changed(run: RunFolder, config: Config, overrides: Sequence[str]) -> Config:
    return parse_config(config_to_yaml(config), str(run.path / "config.yaml"), overrides)


@contextlib.contextmanager
def _begun_again(
    run: RunFolder, request: TrainingRequest, hooks: Hooks, choose: ChooseBackend
) -> Iterator[Session]:
    """Begin in the folder of a run that ended before its first checkpoint."""
    config, info = _changed(run, run.config(), request.overrides), run.info()
    begun = dataclasses.replace(
        request,
        start_from=info.parent,
        teachers=tuple(info.teachers or ()),
        experiment=info.experiment,
        variant=info.variant,
    )
    with _new_session(config, begun, hooks, choose, begin_in=run) as session:
        yield session


def _resume_points(run: RunFolder, step_text: str, hooks: Hooks) -> list[int]:
    """The steps to resume from, the wanted one first."""
    if step_text and step_text != "last":
        if not step_text.isdecimal() or len(step_text) > 12:
            raise UserError(f"resume from {run.name}, or from a step: {run.name}@STEP")
        return [int(step_text)]
    steps = run.steps()[::-1]
    try:
        # A crash right after the first save leaves a checkpoint that is not named yet.
        last = run.index().get("last", max(steps, default=None))
    except UserError as error:
        hooks.notice(f"{error}; taking the last checkpoint instead")
        last = max(steps, default=None)
    if last is None:
        raise UserError(
            f"run {run.name} has no checkpoint left to resume from; start a new run from its "
            f"config: --config {run.path / 'config.yaml'}"
        )
    return [last, *(step for step in steps if step < last)]


@dataclass(frozen=True)
class Conditions:
    """What a run is resumed with.

    Attributes:
        config: With the changes that were asked for.
        then: What checkpoints without a fingerprint were made with.
        now: What the next steps would be made with.
    """

    config: Config
    then: Fingerprint
    now: Fingerprint

    @classmethod
    def of(
        cls, run: RunFolder, before: Config, config: Config, corpus_sha256: str, backend: Backend
    ) -> Self:
        """Those of a run's folder, with ``config`` in place of the ``before`` that is in it.

        Raises:
            UserError: The folder is damaged.
        """
        info = run.info()
        now = fingerprint_of(config, info, corpus_sha256, run.tokenizer(), backend.arithmetic())
        then = dataclasses.replace(
            now, settings=exact_settings(before), corpus_sha256=info.corpus_sha256
        )
        return cls(config, then, now)

    def check(self, saved: SavedState) -> None:
        """Refuse what would make other steps than the uninterrupted run.

        Raises:
            ChangedRunError: Something differs; all of it is named.
        """
        found = list(differences(saved.fingerprint or self.then, self.now))
        precision = self.config.training.precision
        if precision not in ("auto", saved.progress.precision):
            found.append(f"training.precision is {precision}, was {saved.progress.precision}")
        if found:
            checkpoint = saved.checkpoint
            raise ChangedRunError(
                f"run {checkpoint.run.name} cannot be resumed exactly: {'; '.join(found)}; undo "
                f"that, or start a new run from its weights: --from {checkpoint.reference}"
            )


def _restored(
    run: RunFolder,
    steps: Sequence[int],
    conditions: Conditions,
    backend: Backend,
    hooks: Hooks,
) -> tuple[TrainState, Progress]:
    """A state as it was at the first of ``steps`` whose checkpoint can be used."""
    cancelled = hooks.cancelled.is_set
    state: TrainState | None = None
    problems: list[str] = []
    for step in steps:
        try:
            saved = read_state(run.checkpoint(step), cancelled)
            conditions.check(saved)
            state = state or make_state(run, conditions.config, backend, cancelled)
            progress = restore(saved, state, cancelled)
        except (ChangedRunError, NewerFormatError):
            raise
        except UserError as error:
            if len(steps) == 1:
                raise
            problems.append(f"{run.name}@{step} cannot be used: {error}")
            continue
        for problem in problems:
            hooks.notice(problem)
        if problems:
            hooks.notice(f"resuming from step {step}, the last good checkpoint")
        then = saved.fingerprint or conditions.then
        if found := list(rounding_differences(then, conditions.now)):
            hooks.notice(
                "the losses will equal those of an uninterrupted run only up to rounding: "
                + "; ".join(found)
            )
        return state, progress
    raise UserError(f"no checkpoint of run {run.name} can be used; {problems[0]}")


def make_state(
    run: RunFolder, config: Config, backend: Backend, cancelled: Callable[[], bool] = never
) -> TrainState:
    """A state of a run's shape, to be loaded.

    Raises:
        ChangedRunError: The run's folder holds files of different runs.
        CancelledError: ``cancelled`` became true.
    """
    info, vocab_size = run.info(), run.tokenizer().vocab_size
    # Before anything is allocated: a config that was tampered with may name any size.
    if count_parameters(config.model, vocab_size) != info.parameters:
        raise ChangedRunError(
            f"the config and the tokenizer of run {run.name} do not make its "
            f"{info.parameters:,} parameters; the run folder mixes files of different runs"
        )
    return backend.empty_state(config, dataclasses.replace(info, vocab_size=vocab_size), cancelled)


def _comes_again(progress: Progress, config: Config) -> Callable[[dict[str, Any]], bool]:
    """Which lines of the checkpoint's own step tell of what it does not know to be done."""
    is_evaluation_undone = False

    def comes_again(record: dict[str, Any]) -> bool:
        nonlocal is_evaluation_undone
        kind = record.get("type")
        if record.get("step") != progress.step:
            return False
        if kind == EvalCompleted.__name__:
            is_known = progress.evaluated_step == progress.step
            # The final exact figure, of another protocol, is measured again in any case.
            is_evaluation_undone = not is_known or record.get("protocol") != progress.protocol
            return is_evaluation_undone
        if kind == DiagnosisRaised.__name__:
            return is_evaluation_undone
        is_scheduled = record.get("prompt") in config.sampling.prompts
        is_sample_undone = is_scheduled and progress.sampled_step != progress.step
        return kind == SampleGenerated.__name__ and is_sample_undone

    return comes_again
