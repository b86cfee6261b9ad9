"""Scripted event streams: what trainers would send, from a seed, without a trainer."""

import dataclasses
import functools
import math
import random
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from shakespeare_tui.runs.events import (
    CheckpointSaved,
    CommandApplied,
    DiagnosisRaised,
    EvalCompleted,
    Event,
    LayerStatistics,
    RunFailed,
    RunFinished,
    RunStarted,
    SampleGenerated,
    StepCompleted,
)
from shakespeare_tui.runs.folder import RunFolder, new_run_info

START = 1_760_000_000.0
"""When scripted runs begin, Unix seconds."""

BASELINES = {"uniform": math.log(65), "unigram": 3.347, "bigram": 2.488, "5-gram": 2.066}

SAMPLES = (
    "\nhe tan hesthe wour shit in, the mand fo wher\nA the sor ind he tis ar theand",
    "\nWhat is the his wither the shall do me the stand,\nAnd the stoul that of my lears",
    "\nWhat is the king that shall be so much speak,\nAnd let the world of my heart is done.",
    "\nWhat is the king that shall be so well spoke,\nAnd let the world upon my heart be done.",
)


def config(**training: Any) -> dict[str, Any]:
    """A resolved config as ``RunStarted`` carries it; keywords change the training section."""
    from shakespeare_tui.config.schema import Config

    resolved = Config().model_dump(mode="json")
    resolved["training"] |= {"max_steps": 2000, "eval_every": 250, "warmup_steps": 100} | training
    return resolved


def started(run: str = "quick-1", time: float = START, **training: Any) -> RunStarted:
    """The first event of a run on Tiny Shakespeare."""
    return RunStarted(
        time=time,
        run=run,
        config=config(**training),
        parameters=804_096,
        device="CPU, 2 threads",
        corpus="tiny_shakespeare",
        characters=1_115_394,
        vocab_size=65,
        baselines=BASELINES,
    )


def in_byte_pairs(stream: Iterable[Event], pretrained: str = "") -> Iterator[Event]:
    """The same run as if its tokens were byte pairs, two characters long on the average."""
    for event in stream:
        if isinstance(event, RunStarted):
            event = dataclasses.replace(
                event,
                characters_per_token=2.0,
                bytes_per_token=2.0,
                tokenizer_sha256="pairs",
                vocab_size=512,
                pretrained=pretrained,
            )
        yield event


def loss_at(step: int) -> float:
    """The noiseless loss of a healthy scripted run: from ln 65 towards 1.4."""
    return 1.4 + (BASELINES["uniform"] - 1.4) * (1 + step / 60) ** -0.7


def step_event(
    step: int, loss: float | None = None, *, seconds_a_step: float = 0.05, **fields: Any
) -> StepCompleted:
    """One step; its noise depends on its number alone."""
    changes = fields if loss is None else {"loss": loss, **fields}
    usual = _usual_step(step, seconds_a_step)
    return dataclasses.replace(usual, **changes) if changes else usual


@functools.cache
def _usual_step(step: int, seconds_a_step: float) -> StepCompleted:
    noise = random.Random(step)
    warm = min(1.0, step / 100)
    return StepCompleted(
        step=step,
        time=START + seconds_a_step * step,
        loss=loss_at(step) + noise.gauss(0, 0.06),
        learning_rate=1e-3 * warm * (0.55 + 0.45 * math.cos(math.pi * min(step, 2000) / 2000)),
        grad_norm=0.5 + 2 * math.exp(-step / 80) + abs(noise.gauss(0, 0.08)),
        tokens_per_second=2048 / seconds_a_step * (1 + noise.gauss(0, 0.03)),
        elapsed_seconds=seconds_a_step * step,
    )


def healthy_run(
    steps: int, *, run: str = "quick-1", prompts: tuple[str, ...] = ("ROMEO:",), **training: Any
) -> Iterator[Event]:
    """A run that goes well, as far as ``steps``, with everything that comes between steps."""
    yield started(run, **training)
    best = math.inf
    for step in range(1, steps + 1):
        yield step_event(step)
        time = START + 0.05 * step
        if step % 250 == 0:
            val_loss = loss_at(step) + 0.08
            yield EvalCompleted(
                time=time,
                step=step,
                train_loss=loss_at(step),
                val_loss=val_loss,
                protocol="subset",
                accuracy=0.55,
            )
            for prompt in prompts:
                text = SAMPLES[min(step // 250 - 1, len(SAMPLES) - 1)]
                yield SampleGenerated(time=time, step=step, prompt=prompt, text=text)
            yield CheckpointSaved(
                time=time,
                step=step,
                path=f"step-{step:08d}",
                val_loss=val_loss,
                best=val_loss < best,
            )
            best = min(best, val_loss)


def busy_run(steps: int = 1100) -> Iterator[Event]:
    """A run with commands, a note, a gap of non-finite losses and a diagnosis, still going."""
    for event in healthy_run(steps):
        if isinstance(event, StepCompleted) and 640 <= event.step < 660:
            yield step_event(event.step, math.nan)
            continue
        yield event
        if isinstance(event, StepCompleted) and event.step == 400:
            yield command(400, "SetLearningRate", learning_rate=5e-4)
        if isinstance(event, StepCompleted) and event.step == 700:
            yield DiagnosisRaised(
                time=event.time,
                step=700,
                kind="exploding",
                evidence="train loss 2.71, 0.95 above its lowest level 1.76 (step 610)",
                advice="Lower training.learning_rate to 3e-4.",
            )
        if isinstance(event, StepCompleted) and event.step == 900:
            yield command(900, "AddNote", text="the [bold]rate[/bold] was halved at 400")


def layer_names(blocks: int) -> list[str]:
    """The layers of a model, as ``LayerStatistics`` names them."""
    parts = ("attention", "feedforward")
    return ["embedding", *(f"blocks.{n}.{part}" for n in range(blocks) for part in parts), "head"]


def layers_event(
    step: int,
    grad_norms: dict[str, float] | None = None,
    update_ratios: dict[str, float] | None = None,
    *,
    blocks: int = 4,
) -> LayerStatistics:
    """What was measured of healthy layers, but for those that are given."""
    layers, noise = layer_names(blocks), random.Random(step)
    usual = {layer: 0.2 * 10 ** noise.gauss(0, 0.1) for layer in layers}
    moved = {layer: 2e-3 * 10 ** noise.gauss(0, 0.1) for layer in layers}
    return LayerStatistics(
        time=START + 0.05 * step,
        step=step,
        layers=layers,
        grad_norms=[(usual | (grad_norms or {}))[layer] for layer in layers],
        update_ratios=[(moved | (update_ratios or {}))[layer] for layer in layers],
    )


def ill_layers(step: int, blocks: int = 4) -> LayerStatistics:
    """The first block falls silent from step 300 on; the third one's network blows up after 600."""
    silence = 0.2 * 10 ** -min(4.0, max(0.0, (step - 300) / 100))
    noise = 0.2 * 10 ** min(3.0, max(0.0, (step - 600) / 100))
    ill = {"blocks.0.attention": silence, "blocks.0.feedforward": 3 * silence}
    ill["blocks.2.feedforward"] = noise
    moved = {"blocks.0.attention": silence / 1e3, "blocks.2.feedforward": min(0.1, noise / 1e3)}
    return layers_event(step, ill, moved, blocks=blocks)


def run_with_ill_layers(steps: int = 1100, blocks: int = 4) -> Iterator[Event]:
    """A healthy loss over layers of which two are not; measured every twenty steps."""
    for event in healthy_run(steps):
        yield event
        if isinstance(event, StepCompleted) and (event.step % 20 == 0 or event.step == 1):
            yield ill_layers(event.step, blocks)


def finished_run(steps: int = 2000, *, run: str = "quick-1", reason: str = "completed"):
    """A run from beginning to end."""
    yield from healthy_run(steps, run=run, max_steps=steps)
    time = START + 0.05 * steps + 2
    exact = loss_at(steps) + 0.07
    yield EvalCompleted(
        time=time,
        step=steps,
        train_loss=loss_at(steps),
        val_loss=exact,
        protocol="exact",
        accuracy=0.561,
    )
    yield RunFinished(time=time, step=steps, reason=reason, val_loss=exact, accuracy=0.561)


def failed_run(steps: int = 600) -> Iterator[Event]:
    """A run that diverged."""
    yield from healthy_run(steps)
    time = START + 0.05 * steps
    evidence = f"the loss of step {steps + 1} is NaN; the step was not applied"
    advice = "Lower training.learning_rate to 3e-4."
    yield DiagnosisRaised(time=time, step=steps, kind="nan", evidence=evidence, advice=advice)
    yield RunFailed(time=time, step=steps, error=f"training diverged: {evidence}. {advice}")


def command(step: int, name: str, **arguments: Any) -> CommandApplied:
    """A command that took effect."""
    return CommandApplied(
        time=START + 0.05 * step, step=step, command=name, arguments=dict(arguments)
    )


def long_run(steps: int) -> Iterator[Event]:
    """Like ``healthy_run`` and much quicker to make: for soak tests of a million steps."""
    yield started(max_steps=steps)
    noise = [random.Random(7).gauss(0, 0.06) for _ in range(997)]
    for step in range(1, steps + 1):
        yield StepCompleted(
            time=START + 0.05 * step,
            step=step,
            loss=1.4 + 2.8 * (1 + step / 60) ** -0.7 + noise[step % 997],
            learning_rate=1e-3,
            grad_norm=0.5 + noise[step % 997],
            tokens_per_second=40_000.0,
            elapsed_seconds=0.05 * step,
        )
        if step % 250 == 0:
            yield EvalCompleted(
                time=START + 0.05 * step,
                step=step,
                train_loss=1.5,
                val_loss=1.6 + noise[step % 997],
                protocol="subset",
            )
            yield SampleGenerated(
                time=START + 0.05 * step, step=step, prompt="ROMEO:", text="x" * 200
            )
            yield CheckpointSaved(
                time=START + 0.05 * step, step=step, path=f"step-{step:08d}", val_loss=1.6
            )


def write_log(path: Path, events: Iterable[Event]) -> None:
    """Write events as a run's log."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.writelines(event.to_json() + "\n" for event in events)


def make_run(root: Path, name: str, events: Iterable[Event], *, text: str = "a") -> RunFolder:
    """A run's folder with its log; ``text`` stands for the corpus."""
    from shakespeare_tui.config.schema import Config
    from shakespeare_tui.data.tokenizers.tokenizer import CharTokenizer

    run = RunFolder(root / name)
    run.path.mkdir(parents=True)
    info = new_run_info(
        name=name,
        corpus="tiny_shakespeare",
        corpus_sha256=text,
        characters=1_115_394,
        vocab_size=65,
        parameters=804_096,
    )
    run.write_definition(info, Config.model_validate(config()), CharTokenizer("abc"))
    write_log(run.events_path, events)
    return run
