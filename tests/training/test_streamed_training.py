"""Training on a corpus that is encoded while it is trained on: resumed, and without its cache."""

import os
import shutil
from pathlib import Path

import pytest
from training_runs import OnEvent, make_config, resume, train, what_was_learned

from shakespeare_tui.config.schema import Config
from shakespeare_tui.data.tokens import PART_BYTES
from shakespeare_tui.paths import cache_folder
from shakespeare_tui.runs.commands import CommandInbox, Stop
from shakespeare_tui.runs.events import Event, RunStarted, StepCompleted

STORIES = "".join(
    f"Once upon a time there were {n} cats, and they were happy.\n" for n in range(999)
)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    (tmp_path / "apart.txt").write_text(STORIES[:5000])
    path = tmp_path / "stories.txt"
    path.write_text(STORIES * (7 * PART_BYTES // len(STORIES) + 1))
    return path


def streamed(corpus: Path, **overrides: object) -> Config:
    validation = str(corpus.with_name("apart.txt"))
    return make_config(
        data__corpus=str(corpus),
        data__validation=validation,
        data__windows="streamed",
        **overrides,
    )


def stop_at(step: int) -> OnEvent:
    def act(event: Event, inbox: CommandInbox) -> None:
        if isinstance(event, StepCompleted) and event.step == step:
            inbox.post(Stop())

    return act


def test_resumed_equals_uninterrupted_also_when_the_cache_is_gone(
    corpus: Path, tmp_path: Path
) -> None:
    config = streamed(corpus, model__dropout=0.1, data__stride=50_000)
    whole = train(tmp_path / "whole", config)
    (started,) = whole.of(RunStarted)
    assert started.val_tokens > 0
    # With such a stride an epoch is over soon, and some steps need later parts than the first.
    assert len(list((cache_folder() / "tokens").glob("[!.]*"))) >= 7
    shutil.rmtree(cache_folder() / "tokens")
    parts = train(tmp_path / "parts", config, on_event=stop_at(11))
    shutil.rmtree(cache_folder() / "tokens")
    resume(tmp_path / "parts")
    assert what_was_learned(parts.run) == what_was_learned(whole.run)
    assert os.listdir(cache_folder() / "tokens")


def test_the_first_steps_need_the_first_parts_only(corpus: Path, tmp_path: Path) -> None:
    long = corpus.with_name("long.txt")
    long.write_bytes(corpus.read_bytes() * 3)
    train(tmp_path, streamed(long, training__max_steps=8))
    encoded = list((cache_folder() / "tokens").glob("[!.]*"))
    # The validation text, the four in use and the four behind them, of more than twenty.
    assert len(encoded) <= 1 + 4 + 4
