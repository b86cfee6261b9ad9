"""What ``import shakespeare_tui as st`` gives to notebooks and scripts; nothing of it prints.

Torch is loaded where a model is trained or opened, and not before.
"""

import contextlib
import json
import queue
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from shakespeare_tui.config.load import DEFAULT_PRESET, load_config, parse_config
from shakespeare_tui.config.schema import Config
from shakespeare_tui.config.write import config_to_yaml
from shakespeare_tui.data.tokenizers.tokenizer import CharTokenizer, Tokenizer
from shakespeare_tui.data.windows import TextDataset, WindowSampler, gather_windows
from shakespeare_tui.errors import RunFailedError, UserError
from shakespeare_tui.paths import runs_folder
from shakespeare_tui.runs import events
from shakespeare_tui.runs.commands import CommandInbox, Stop
from shakespeare_tui.runs.event_log import read_events
from shakespeare_tui.runs.folder import Checkpoint, RunFolder, find_checkpoint, find_run
from shakespeare_tui.runs.losses import perplexity
from shakespeare_tui.sampling import Strategy, parse_strategy
from shakespeare_tui.training.request import TrainingRequest, text_of

if TYPE_CHECKING:
    from shakespeare_tui.decoding import factory
    from shakespeare_tui.decoding.score import Surprise

__all__ = [
    "CharTokenizer",
    "Config",
    "History",
    "Model",
    "Run",
    "RunFailedError",
    "Strategy",
    "TextDataset",
    "TinyGPT",
    "UserError",
    "events",
    "load",
    "load_config",
    "open_run",
    "parse_strategy",
    "train",
    "train_events",
    "train_model",
]


@dataclass(frozen=True)
class Run:
    """A run on disk, in training or ended."""

    folder: RunFolder

    @property
    def name(self) -> str:
        """How it is addressed."""
        return self.folder.name

    @property
    def path(self) -> Path:
        """Its folder."""
        return self.folder.path

    @property
    def config(self) -> Config:
        """The resolved config."""
        return self.folder.config()

    @property
    def steps(self) -> list[int]:
        """The steps of which there is a checkpoint."""
        return self.folder.steps()

    @property
    def val_loss(self) -> float | None:
        """Validation loss of the best checkpoint, nats per token; None before an evaluation."""
        best = self.folder.best()
        loss = best.info.loss if best else None
        return loss.value if loss else None

    @property
    def accuracy(self) -> float | None:
        """The share of tokens that it foretells, measured with ``val_loss``; None as there."""
        best = self.folder.best()
        loss = best.info.loss if best else None
        return loss.accuracy if loss else None

    def events(self) -> list[events.Event]:
        """Everything that happened so far, in order."""
        return list(read_events(self.folder.events_path))

    def load(self, where: str | int = "best", *, device: str = "auto") -> "Model":
        """The model of a checkpoint: ``best``, ``last`` or a step.

        Raises:
            UserError: There is no such checkpoint, or it is damaged.
        """
        return load(f"{self.path}@{where}", device=device)


@dataclass(frozen=True)
class Model:
    """A trained model with its tokenizer, ready to be used.

    Attributes:
        checkpoint: Where it comes from.
        tokenizer: Turns text into its tokens and back.
        network: PyTorch's module in evaluation mode, or NumPy's model.
    """

    checkpoint: Checkpoint
    tokenizer: Tokenizer
    network: "factory.Model" = field(repr=False)

    def stream(
        self,
        prompt: str,
        *,
        strategy: str | Strategy = "temperature=0.8",
        max_tokens: int = 200,
        seed: int = 42,
        stop: Sequence[str] = (),
        past_end: bool = False,
    ) -> Iterator[str]:
        """Continue ``prompt``, piece by piece as it is written.

        Args:
            prompt: The text to continue; it is not given back.
            strategy: Steps in their order, as ``generate --strategy`` has them.
            max_tokens: The most tokens to write.
            seed: The same seed gives the same text.
            stop: Texts after which to end; they are part of what is written.
            past_end: Write on where the model ends its text by a token of its own.

        Raises:
            UserError: The prompt is empty or has a character that the model does not know, or the
                strategy cannot be read.
        """
        from shakespeare_tui.decoding.columns import Column, generate_columns
        from shakespeare_tui.decoding.factory import make_decoder
        from shakespeare_tui.decoding.streaming_text import StopTexts, StreamedText

        if isinstance(strategy, str):
            strategy = parse_strategy(strategy, self.tokenizer.sampling_defaults())
        for text in stop:
            self.tokenizer.encode(text)  # what the model can never write is refused
        stops = StopTexts(filter(None, stop), self.tokenizer, past_end=past_end)
        rows = generate_columns(
            make_decoder(self.network, 1),
            self.tokenizer.encode(prompt).tolist(),
            [Column(strategy=strategy, seed=seed)],
            max_tokens=max_tokens,
            stop=stops or None,
        )

        def pieces() -> Iterator[str]:
            text = StreamedText(self.tokenizer, stops)
            yield from filter(None, (text.feed(row[0]) for row in rows))
            if left := text.flush():
                yield left

        return pieces()

    def generate(
        self,
        prompt: str,
        *,
        strategy: str | Strategy = "temperature=0.8",
        max_tokens: int = 200,
        seed: int = 42,
        stop: Sequence[str] = (),
        past_end: bool = False,
    ) -> str:
        """All of what ``stream`` writes, in one text."""
        return "".join(
            self.stream(
                prompt,
                strategy=strategy,
                max_tokens=max_tokens,
                seed=seed,
                stop=stop,
                past_end=past_end,
            )
        )

    def logits(self, text: str) -> npt.NDArray[np.float32]:
        """Logits [T, V] of what comes after each of the T tokens of ``text``.

        Raises:
            UserError: The text has a character that the model does not know.
        """
        from shakespeare_tui.decoding.score import logits_of

        return logits_of(self.network, self.tokenizer.encode(text))

    def score(self, text: str) -> "Surprise":
        """How surprised the model is by every token of ``text``: nats, entropy and rank.

        Raises:
            UserError: The text is shorter than two tokens, or has a character that the model does
                not know.
        """
        from shakespeare_tui.decoding.score import score_tokens

        return score_tokens(self.network, self.tokenizer.encode(text))


def open_run(name: str | PathLike[str]) -> Run:
    """The run of a name or a path.

    Raises:
        UserError: There is no such run.
    """
    return Run(find_run(str(name), runs_folder()))


def load(reference: str | PathLike[str], *, device: str = "auto") -> Model:
    """The model of ``RUN`` (its best checkpoint), ``RUN@last``, ``RUN@STEP`` or a path.

    Raises:
        UserError: There is no such checkpoint, it is damaged, or the device is not there.
    """
    from shakespeare_tui.training.session import open_model

    checkpoint = find_checkpoint(str(reference), runs_folder())
    network, tokenizer = open_model(checkpoint, device)
    return Model(checkpoint, tokenizer, network)


def train(
    config: str | Path | Config | None = None,
    *,
    corpus: str | PathLike[str] | None = None,
    name: str | None = None,
    start_from: str | None = None,
    distill: Sequence[str] = (),
    resume: str | None = None,
    on_event: Callable[[events.Event], object] | None = None,
    **sections: Mapping[str, object],
) -> Run:
    """Train to the end, calling ``on_event`` with each event; the rest is as in ``train_events``.

    An exception of ``on_event``, or an interrupt, comes out of here once the run has saved its
    state and ended in order.
    """
    stream = train_events(
        config,
        corpus=corpus,
        name=name,
        start_from=start_from,
        distill=distill,
        resume=resume,
        **sections,
    )
    with contextlib.closing(stream):
        while True:
            try:
                event = next(stream)
            except StopIteration as ended:
                run: Run = ended.value
                return run
            if on_event is not None:
                on_event(event)


def train_events(
    config: str | Path | Config | None = None,
    *,
    corpus: str | PathLike[str] | None = None,
    name: str | None = None,
    start_from: str | None = None,
    distill: Sequence[str] = (),
    resume: str | None = None,
    **sections: Mapping[str, object],
) -> Generator[events.Event, None, Run]:
    """Train, and yield each event as it comes; the generator's value is the run.

    Training begins with the first event that is asked for, in a thread of its own, and does not
    wait for the reader. A reader that leaves early stops the run, which saves its state.

    Args:
        config: A preset, a YAML file or a config; ``quick`` where nothing is given.
        corpus: A named corpus, a text file or a folder; in place of the config's.
        name: Of the run; None numbers the config's name.
        start_from: Take the weights of this checkpoint.
        distill: Learn from the mean probabilities of these checkpoints, too; corpus and tokenizer
            are theirs, and the config where none is given.
        resume: Go on with this run, exactly where it stopped, instead of a new one.
        sections: Settings in place of the config's, by section: ``training={"max_steps": 100}``.

    Raises:
        UserError: What was given is wrong.
        RunFailedError: Training diverged, the disk is full or memory ran out.
    """
    if resume is not None and (config, name, start_from, *distill) != (None, None, None):
        raise UserError("resume keeps the run's own config and name; give settings by section")
    overrides = _overrides(corpus, sections)
    stream: queue.SimpleQueue[events.Event | None] = queue.SimpleQueue()
    stop = _StopRequest()

    def work() -> Run:
        from shakespeare_tui.training.loop import run_training
        from shakespeare_tui.training.session import Hooks, open_session

        if resume is None:
            request = _new_run(config, overrides, name, start_from, distill)
        else:
            request = TrainingRequest(root=runs_folder(), resume=resume, overrides=overrides)
        with open_session(request, Hooks(cancelled=stop.requested)) as session:
            inbox = CommandInbox(session.run.commands_path)
            stop.attach(inbox)
            run_training(session, inbox, stream.put)
            return Run(session.run)

    with ThreadPoolExecutor(1, "training") as pool:
        trained = pool.submit(work)
        trained.add_done_callback(lambda _: stream.put(None))
        try:
            while (event := stream.get()) is not None:
                yield event
        finally:
            stop.request()
        return trained.result()


class TinyGPT:
    """A small GPT in NumPy, by itself: no run, no files, no PyTorch.

    Args:
        vocab_size: Number of token ids.
        d_model: Width of the residual stream.
        n_heads: Attention heads; must divide ``d_model``.
        n_layers: Blocks.
        max_seq_len: Context.
        seed: Of the weights.
        options: Other settings of the model section: ``norm="rmsnorm"``, ``dropout=0.1`` …

    Attributes:
        network: The model, whose ``weights`` and ``gradients`` are arrays by name.

    Raises:
        UserError: The shape makes no sense.
    """

    def __init__(
        self,
        vocab_size: int,
        d_model: int = 128,
        n_heads: int = 4,
        n_layers: int = 4,
        max_seq_len: int = 128,
        *,
        seed: int = 1337,
        **options: object,
    ) -> None:
        from shakespeare_tui.models.numpy_gpt import GPT

        shape = {
            "d_model": d_model,
            "n_heads": n_heads,
            "n_layers": n_layers,
            "max_seq_len": max_seq_len,
            "d_ff": None,
        }
        config = load_config("tiny", _overrides(None, {"model": shape | options}))
        self.network = GPT(config.model, vocab_size, np.random.default_rng(seed))

    @property
    def parameters(self) -> int:
        """How many numbers it learns."""
        return sum(weight.size for weight in self.network.weights.values())

    def forward(self, tokens: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Logits [B, T, V] of what comes after each of ``tokens`` [B, T]; [T, V] of [T].

        Raises:
            ValueError: There are more than fit into the context.
        """
        ids = np.asarray(tokens, np.int64)
        logits, _ = self.network.forward(np.atleast_2d(ids), is_saving=False)
        return logits if ids.ndim > 1 else logits[0]

    def generate(
        self,
        tokens: npt.ArrayLike,
        max_new_tokens: int = 200,
        *,
        strategy: str | Strategy = "temperature=0.8",
        seed: int = 42,
    ) -> list[int]:
        """Ids that continue ``tokens`` [T], which are not given back.

        Raises:
            UserError: There are no tokens, or the strategy cannot be read.
        """
        from shakespeare_tui.decoding.columns import Column, generate_columns
        from shakespeare_tui.decoding.factory import make_decoder

        strategy = parse_strategy(strategy) if isinstance(strategy, str) else strategy
        rows = generate_columns(
            make_decoder(self.network, 1),
            np.asarray(tokens, np.int64).tolist(),
            [Column(strategy=strategy, seed=seed)],
            max_tokens=max_new_tokens,
        )
        return [row[0] for row in rows]


@dataclass(frozen=True)
class History:
    """How a training of ``train_model`` went; losses in nats per token.

    Attributes:
        step_losses: Of every step.
        train_losses: Their mean over each epoch.
        val_losses: On the validation tokens after each epoch; empty without such.
        val_accuracies: The share of them that the model thought likeliest.
    """

    step_losses: list[float] = field(default_factory=list)
    train_losses: list[float] = field(default_factory=list)
    val_losses: list[float] = field(default_factory=list)
    val_accuracies: list[float] = field(default_factory=list)

    @property
    def val_perplexities(self) -> list[float | None]:
        """The exponentials of ``val_losses``."""
        return [perplexity(loss) for loss in self.val_losses]


def train_model(
    model: TinyGPT,
    train_data: npt.ArrayLike,
    epochs: int = 1,
    batch_size: int = 16,
    seq_len: int | None = None,
    lr: float = 1e-3,
    *,
    val_data: npt.ArrayLike | None = None,
    seed: int = 1337,
    **settings: object,
) -> History:
    """Train with AdamW, every window once an epoch, the learning rate by a cosine after warm-up.

    On all cores, and where numba is installed by compiled functions; the first time they take a few
    seconds to compile.

    Args:
        model: Learns in place.
        train_data: Token ids, shape [n].
        epochs: Times that the data are seen.
        batch_size: Windows in a step.
        seq_len: Tokens in a window; None takes the context. The model is not used beyond it.
        lr: Peak learning rate.
        val_data: Token ids to measure on after each epoch.
        seed: Of the windows' order and of dropout.
        settings: Others of the training section: ``optimizer="muon"``, ``grad_clip=0.5`` …

    Raises:
        UserError: A setting makes no sense, or there are too few tokens for a window.
        RunFailedError: The loss is no number any more.
    """
    from shakespeare_tui.training.evaluate import evaluate
    from shakespeare_tui.training.numpy_state import NumpyTrainState, use_compiled
    from shakespeare_tui.training.schedules import learning_rate_factor

    network = model.network
    tokens = np.asarray(train_data)
    length = network.context if seq_len is None else seq_len
    if not 1 <= length <= network.config.max_seq_len:
        raise UserError(f"seq_len is from 1 to {network.config.max_seq_len}, got {length}")
    if len(tokens) <= length:
        raise UserError(f"{len(tokens):,} tokens are too few for windows of {length}")
    given = {"learning_rate": lr, "min_lr": None, "batch_size": batch_size, "seed": seed}
    chosen = {"training": given | {"backend": "numpy"} | settings}
    training = load_config("tiny", _overrides(None, chosen)).training
    if training.weight_decay is None:
        raise UserError("weight_decay is a number here; a run alone chooses it by its corpus")
    network.context = length
    use_compiled()
    state = NumpyTrainState(network, training, np.random.default_rng(seed))
    sampler = WindowSampler(len(tokens), length, batch_size, seed, stride=length)
    steps_an_epoch = max(1, sampler.windows_an_epoch() // batch_size)
    steps = epochs * steps_an_epoch
    warmup = min(training.warmup_steps, steps // 10)
    training = training.model_copy(update={"warmup_steps": warmup})
    history = History()
    for epoch in range(epochs):
        for step in range(epoch * steps_an_epoch, (epoch + 1) * steps_an_epoch):
            factor = learning_rate_factor(training, step, step / steps, warmup / steps)
            result = state.step([gather_windows(tokens, sampler.starts(step), length)], factor)
            if not result.applied:
                raise RunFailedError(f"the loss of step {step + 1} is no number; take a lower lr")
            history.step_losses.append(result.loss)
        history.train_losses.append(float(np.mean(history.step_losses[-steps_an_epoch:])))
        if val_data is not None:
            with state.averaged() as averaged:
                evaluation = evaluate(averaged, np.asarray(val_data))
            history.val_losses.append(evaluation.loss)
            history.val_accuracies.append(evaluation.accuracy)
    return history


class _StopRequest:
    """Ends a run in order, whether it is still being set up or in training already."""

    def __init__(self) -> None:
        self.requested = threading.Event()
        self._inbox: CommandInbox | None = None

    def attach(self, inbox: CommandInbox) -> None:
        self._inbox = inbox
        if self.requested.is_set():
            inbox.post(Stop())

    def request(self) -> None:
        self.requested.set()
        if self._inbox is not None:
            self._inbox.post(Stop())


def _new_run(
    config: str | Path | Config | None,
    overrides: tuple[str, ...],
    name: str | None,
    start_from: str | None,
    distill: Sequence[str],
) -> TrainingRequest:
    stem = None
    if distill:
        teacher = find_checkpoint(distill[0], runs_folder()).run
        overrides = (*text_of(teacher.config()), *overrides)
        if config is None:
            stem, config = "distilled", teacher.path / "config.yaml"
    if isinstance(config, Config):
        stem, config = "run", parse_config(config_to_yaml(config), "config", overrides)
    else:
        config = DEFAULT_PRESET if config is None else config
        stem, config = stem or Path(config).stem, load_config(config, overrides)
    return TrainingRequest(
        root=runs_folder(),
        config=config,
        name=name,
        stem=stem,
        start_from=start_from,
        teachers=tuple(distill),
    )


def _overrides(
    corpus: str | PathLike[str] | None, sections: Mapping[str, Mapping[str, object]]
) -> tuple[str, ...]:
    """Settings as ``--set`` has them: JSON is YAML."""
    found = [] if corpus is None else [f"data.corpus={json.dumps(str(corpus))}"]
    for section, settings in sections.items():
        if not isinstance(settings, Mapping):
            raise UserError(
                f"{section} must be a section with settings, such as training={{'max_steps': 100}}"
            )
        found += [f"{section}.{key}={json.dumps(value)}" for key, value in settings.items()]
    return tuple(found)
