"""Open a run where it left off, however it ended."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from shakespeare_tui.core.config import Config
from shakespeare_tui.core.config_loading import config_to_yaml, parse_config
from shakespeare_tui.core.corpus.source import open_corpus
from shakespeare_tui.core.errors import UserError
from shakespeare_tui.core.event_log import truncate_after
from shakespeare_tui.core.events import DiagnosisRaised, EvalCompleted, SampleGenerated
from shakespeare_tui.core.files import write_atomically
from shakespeare_tui.core.parameters import count_parameters
from shakespeare_tui.core.runs import Checkpoint, RunFolder, find_run
from shakespeare_tui.engine.checkpoints import Progress, go_back, restore
from shakespeare_tui.engine.device import allow_tf32, resolve_device
from shakespeare_tui.engine.learner import Learner
from shakespeare_tui.engine.memory import keep_freed_memory
from shakespeare_tui.engine.model import Transformer
from shakespeare_tui.engine.precision_memory import PRECISIONS
from shakespeare_tui.engine.session import (
    Hooks,
    Session,
    check_memory,
    encode_prompts,
    load_baselines,
    load_tokens,
)

# What a resumed run may not change: the weights, their optimiser or the data would not fit.
_FIXED_SECTIONS = ("model", "data")
_FIXED_TRAINING = ("optimizer", "seed", "ema_decay", "batch_size", "grad_accumulation")


@contextlib.contextmanager
def resumed_session(
    reference: str,
    *,
    root: Path,
    overrides: Sequence[str] = (),
    hooks: Hooks | None = None,
) -> Iterator[Session]:
    """Open a run where it left off and hold its lock.

    What the log says of steps after the checkpoint is dropped: those steps come again, the same.

    Args:
        reference: ``RUN`` (its last checkpoint) or ``RUN@STEP``; later checkpoints are then
            removed, since they come again.
        root: Folder of all runs.
        overrides: ``section.key=value`` changes, to train longer for example.
        hooks: Progress and cancellation.

    Raises:
        UserError: No such run, it is being trained, its checkpoint is damaged, or a change does
            not fit.
    """
    hooks = hooks or Hooks()
    keep_freed_memory()
    allow_tf32()
    name, _, step_text = reference.rpartition("@") if "@" in reference else (reference, "", "")
    run = find_run(name, root)
    info = run.info()
    with run.locked():
        run.sweep()
        checkpoint = _resume_point(run, step_text)
        before = run.config()
        config = parse_config(config_to_yaml(before), str(run.path / "config.yaml"), overrides)
        _check_changes(before, config)
        source = open_corpus(config.data.corpus, notice=hooks.notice)
        if source.sha256() != info.corpus_sha256:
            raise UserError(
                f"the corpus {source.name} has changed since run {run.name} began; put the old "
                "text back, or start a new run"
            )
        tokenizer = run.tokenizer()
        device = resolve_device(config.training.device)
        # Before anything is allocated: a config that was tampered with may name any size.
        if count_parameters(config.model, tokenizer.vocab_size) != info.parameters:
            raise UserError(
                f"the config and the tokenizer of run {run.name} do not make its "
                f"{info.parameters:,} parameters; the run folder mixes files of different runs"
            )
        check_memory(config, tokenizer.vocab_size, device)
        if config.context_note:
            hooks.notice(config.context_note)
        train, val = load_tokens(source, tokenizer, config, hooks)
        model = Transformer(
            config.model,
            tokenizer.vocab_size,
            context=config.seq_len,
            embedding_scale=info.embedding_scale,
        )
        learner = Learner(
            model.to(device).train(),
            config.training,
            device,
            torch.float32,
            has_coupled_decay=info.has_coupled_decay,
        )
        progress = restore(checkpoint, learner)
        if progress.precision not in PRECISIONS:
            raise UserError(
                f"{checkpoint.state_path} is damaged or of another version: it has an unknown "
                f"precision {progress.precision!r}; use another checkpoint"
            )
        learner.precision = PRECISIONS[progress.precision]
        go_back(run, progress.step)
        truncate_after(run.events_path, progress.step, _comes_again(progress, config))
        if config != before:
            write_atomically(run.path / "config.yaml", config_to_yaml(config))
        yield Session(
            run=run,
            config=config,
            tokenizer=tokenizer,
            train=train,
            val=val,
            learner=learner,
            progress=progress,
            prompts=encode_prompts(config, tokenizer, val, hooks.notice),
            baselines=load_baselines(source, tokenizer, config, train, val),
            is_new=False,
        )


def _resume_point(run: RunFolder, step_text: str) -> Checkpoint:
    if step_text and step_text != "last":
        if not step_text.isdecimal() or len(step_text) > 12:
            raise UserError(f"resume from {run.name}, or from a step: {run.name}@STEP")
        return run.checkpoint(int(step_text))
    # A crash right after the first save leaves a checkpoint that is not named yet.
    last = run.index().get("last", max(run.steps(), default=None))
    if last is None:
        raise UserError(f"run {run.name} has no checkpoint to resume from; start a new run")
    return run.checkpoint(last)


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


def _check_changes(before: Config, after: Config) -> None:
    for section in _FIXED_SECTIONS:
        if getattr(before, section) != getattr(after, section):
            raise UserError(
                f"a resumed run keeps its {section} settings; to change them, start a new run"
            )
    for key in _FIXED_TRAINING:
        if getattr(before.training, key) != getattr(after.training, key):
            raise UserError(f"a resumed run keeps training.{key}; to change it, start a new run")
