"""Pictures of the screens, in every look from one running app, and those that were kept."""

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from lab_harness import drawn, shown, until
from syrupy.assertion import SnapshotAssertion
from syrupy.extensions.single_file import SingleFileSnapshotExtension, WriteMode
from textual.pilot import Pilot
from textual.strip import Strip

from shakespeare_tui.ui.app import LabApp

Prepare = Callable[[Pilot[int]], Awaitable[None]]
Pictured = Callable[..., Awaitable[None]]


class Look(NamedTuple):
    """A terminal's size and the theme."""

    columns: int
    rows: int
    theme: str

    def __str__(self) -> str:
        return f"{self.columns}x{self.rows}-{self.theme}"


# From each to the next as little changes as can be.
LOOKS = (
    Look(80, 24, "lab-dark"),
    Look(80, 24, "lab-light"),
    Look(140, 45, "lab-light"),
    Look(140, 45, "lab-dark"),
)


TOKEN_LOOKS = (LOOKS[0], LOOKS[2])
"""Enough for views that differ from those of characters by words and boundaries only."""


class Pictures(SingleFileSnapshotExtension):
    """Keeps each picture in an SVG file of its own."""

    _file_extension = "svg"
    _write_mode = WriteMode.TEXT


_PASSING = ("Looking for runs …", "Reading …", "Reading the log of ")
"""What stands where work in the background has not brought its answer yet."""


async def settled_picture(pilot: Pilot[int]) -> str:
    """What the terminal shows as SVG, once everything that was asked for is drawn."""
    app = pilot.app
    assert isinstance(app, LabApp)
    await until(lambda: not any(words in shown(app) for words in _PASSING))
    last: list[Strip] | None = None
    while (now := drawn(app)) != last:
        last = now
        # A message may lead to another one, and that one to a new layout.
        for _ in range(3):
            await pilot.pause(0)
        # On a busy machine, a layout may still wait for its turn.
        await pilot.pause(0.02)
    return re.sub(r"\bterminal-\d+-", "terminal-", app.export_screenshot(simplify=True))


async def compare(
    app: LabApp,
    prepare: Prepare | Mapping[str, Prepare] | None,
    looks: Iterable[Look],
    kept: SnapshotAssertion,
    folder: Path,
) -> None:
    """Bring an app to a state, and compare what it shows in each look with the picture kept.

    Several states, by name, come one after the other.

    Raises:
        AssertionError: With the files of the pictures that differ, as kept and as they are now.
    """
    looks, differing = tuple(looks), []
    kept = kept.use_extension(Pictures)
    states = prepare if isinstance(prepare, Mapping) else {"": prepare}
    async with app.run_test(size=looks[0][:2], notifications=True) as pilot:
        app.looks.choose_theme(looks[0].theme)
        for state, bring in states.items():
            if bring is not None:
                await bring(pilot)
            for look in looks:
                app.looks.choose_theme(look.theme)
                if app.size != look[:2]:
                    await pilot.resize_terminal(*look[:2])
                picture = await settled_picture(pilot)
                name = f"{state}-{look}" if state else str(look)
                if kept(name=name) != picture:
                    differing.append(_describe(kept, name, picture, folder))
    assert not differing, "\n".join(["these pictures differ:", *differing])


def _describe(kept: SnapshotAssertion, name: str, picture: str, folder: Path) -> str:
    before = Path(kept.extension.get_location(test_location=kept.test_location, index=name))
    now = folder / before.name
    folder.mkdir(exist_ok=True)
    now.write_text(picture, encoding="utf-8")
    return f"  kept {before if before.exists() else 'nowhere'}\n  now  {now}"
