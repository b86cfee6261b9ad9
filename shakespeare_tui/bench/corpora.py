"""Corpora larger than one would read at once: seconds to the first step, and memory (Linux)."""

import functools
import itertools
import random
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from shakespeare_tui.bench.figures import Figures, Watcher
from shakespeare_tui.bench.program import environment, nothing_but_steps, running, wait_for_step

_GIGABYTES = 1.0
_ROUNDS = 2
_STORY_WORDS, _BLOCK_STORIES = 200, 4000
_WINDOWS = ("streamed", "random")


def measure(watcher: Watcher) -> Iterator[Figures]:
    """A tiny run over made-up stories, characters as tokens, the cache empty and then filled."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        corpus, validation = folder / "stories.txt", folder / "validation.txt"
        watcher.tell(f"writing {_GIGABYTES:g} GB of stories")
        _write_stories(corpus, int(_GIGABYTES * 1e9))
        with corpus.open() as text:  # a short one, for the evaluation is not what is measured
            validation.write_text(text.read(20_000))
        time.sleep(3)  # the digest of a file that has just been written is not remembered
        names = (f"run-{number}" for number in itertools.count())
        memory: dict[str, list[float]] = {}
        ways = {
            f"{windows}, {state}": functools.partial(
                _first_step, folder, names, windows, memory, is_empty=state == "cache empty"
            )
            for windows in _WINDOWS
            for state in ("cache empty", "again")
        }
        title = f"First step on {_GIGABYTES:g} GB"
        samples = watcher.in_turn(title, ways, _ROUNDS)
        yield Figures(title, "s", samples, is_rate=False)
        most = {windows: tuple(found) for windows, found in memory.items()}
        note = "pages of the memory-mapped file, which the system may take back, left out"
        yield Figures("Memory at its peak", "MB", most, is_rate=False, note=note)


def _first_step(
    folder: Path,
    names: Iterator[str],
    windows: str,
    memory: dict[str, list[float]],
    *,
    is_empty: bool,
) -> float:
    """Seconds from the start of the program."""
    name, cache = next(names), folder / "cache"
    if is_empty:
        shutil.rmtree(cache, ignore_errors=True)
    settings = (f"data.windows={windows}", f"data.validation={folder / 'validation.txt'}")
    arguments = [*nothing_but_steps(name, "tiny"), "--no-ui", f"--corpus={folder / 'stories.txt'}"]
    variables = environment(folder) | {"SHAKESPEARE_TUI_CACHE": str(cache)}
    started = time.time()
    with running([*arguments, *(f"--set={setting}" for setting in settings)], variables) as process:
        peak = _Peak(process.pid)
        peak.start()
        first = wait_for_step(process, folder / "runs" / name, 1)
    peak.join()
    memory.setdefault(windows, []).append(peak.megabytes)
    return first.time - started


class _Peak(threading.Thread):
    """Watches a process's own memory, until it ends."""

    def __init__(self, process: int) -> None:
        super().__init__()
        self.megabytes = 0.0
        self._status = Path(f"/proc/{process}/status")

    def run(self) -> None:
        """Look twenty times a second."""
        while True:
            try:
                lines = self._status.read_text().splitlines()
            except OSError:
                return
            own = next((line for line in lines if line.startswith("RssAnon")), None)
            if own is None:  # it has ended
                return
            self.megabytes = max(self.megabytes, int(own.split()[1]) * 1024 / 1e6)
            time.sleep(0.05)


def _write_stories(path: Path, size: int) -> None:
    """Stories up to a size in bytes: a block of them, repeated with numbers of its own."""
    generator = random.Random(1)
    letters = "etaoinshrdlucmfwypvbgkjqxz"
    words = ["".join(generator.choices(letters, k=generator.randint(2, 9))) for _ in range(8000)]
    stories = [" ".join(generator.choices(words, k=_STORY_WORDS)) for _ in range(_BLOCK_STORIES)]
    with path.open("w") as file:
        while file.tell() < size:
            number = file.tell()
            file.writelines(f"Story {number}: {story}.\n<|endoftext|>\n" for story in stories)
