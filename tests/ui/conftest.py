"""What every test of the screens stands on: folders of its own and an app that holds still."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from lab_harness import NOW, MakeApp, ScriptedTrainer
from pictures import LOOKS, Look, Pictured, Prepare, compare
from syrupy.assertion import SnapshotAssertion
from textual._compositor import Compositor
from textual._context import visible_screen_stack
from textual.css import stylesheet
from textual.geometry import Region
from textual.widget import Widget

from shakespeare_tui.ui.app import LabApp
from shakespeare_tui.ui.engine.training import TrainingController
from shakespeare_tui.ui.services import Services
from shakespeare_tui.ui.settings import Settings, memory_settings


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of this folder, to run or to leave out."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.screens)


@pytest.fixture(scope="session", autouse=True)
def shared_rules() -> Iterator[None]:
    """A style sheet is parsed once for each theme, and not again by each app."""
    parse, tokenize = stylesheet.parse, stylesheet.tokenize_values
    rules: dict[tuple[Any, ...], list[Any]] = {}

    @cache
    def tokens_of(values: tuple[tuple[str, str], ...]) -> dict[str, Any]:
        return tokenize(dict(values))

    def parse_once(*given: Any, variable_tokens: dict[str, Any], **options: Any) -> list[Any]:
        # ``tokens_of`` keeps the tokens: there is one object for each set of values.
        key = (*given, id(variable_tokens), *options.values())
        if key not in rules:
            rules[key] = list(parse(*given, variable_tokens=variable_tokens, **options))
        return rules[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stylesheet, "parse", parse_once)
        patch.setattr(stylesheet, "tokenize_values", lambda it: tokens_of(tuple(it.items())))
        yield


@pytest.fixture(scope="session", autouse=True)
def unseen_frames() -> Iterator[None]:
    """A terminal that is not there gets no frames: what changed is rendered, and not composed.

    Whoever looks at the screen (``drawn``, pictures) has all of it composed, filters included.
    """
    render_update = Compositor.render_update
    get_line_filters = Widget.get_line_filters
    is_unseen = False

    def render_widgets(
        self: Compositor, full: bool = False, screen_stack: Any = None, simplify: bool = False
    ) -> Any:
        nonlocal is_unseen
        if full:
            return render_update(self, full, screen_stack, simplify)
        visible_screen_stack.set(screen_stack or [])
        changed, is_unseen = self._dirty_regions.copy(), True
        self._dirty_regions.clear()
        try:
            if changed:
                crop = Region.from_union(changed).intersection(self.size.region)
                deque(self._get_renders(crop), maxlen=0)
        finally:
            is_unseen = False
        return None

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Compositor, "render_update", render_widgets)
        patch.setattr(
            Widget,
            "get_line_filters",
            lambda widget: () if is_unseen else get_line_filters(widget),
        )
        yield


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings, cache and runs below the test's own folder, and no animation."""
    monkeypatch.setenv("SHAKESPEARE_TUI_CONFIG", str(tmp_path / "config"))
    monkeypatch.setenv("SHAKESPEARE_TUI_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SHAKESPEARE_TUI_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("SHAKESPEARE_TUI_EXPERIMENTS", str(tmp_path / "experiments"))
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(LabApp, "start_animations", "none")


@pytest.fixture
def runs_root(tmp_path: Path) -> Path:
    """The folder of all runs; it does not exist yet."""
    return tmp_path / "runs"


@pytest.fixture
def make_app(runs_root: Path) -> MakeApp:
    """``make_app(start_mode="data", theme="lab-dark", ascii=False, training=…, engine=…)``.

    What ``Services`` has by the same name goes there, the rest are settings. The clock stands
    still, torch is not preloaded and no settings are written.
    """

    def make(
        start_mode: str = "data", *, settings: Settings | None = None, **choices: Any
    ) -> LabApp:
        names = {each.name for each in fields(Services)} & choices.keys()
        given = {name: choices.pop(name) for name in names}
        given.setdefault("training", TrainingController())
        services = Services(
            **{
                "runs_root": runs_root,
                "clock": lambda: NOW,
                "preload": False,
                "has_bf16": lambda: False,
            }
            | given
        )
        return LabApp(
            settings=settings or memory_settings(**choices),
            services=services,
            start_mode=start_mode,
        )

    return make


@pytest.fixture
def scripted(
    runs_root: Path,
) -> Iterator[Callable[..., tuple[TrainingController, ScriptedTrainer]]]:
    """``scripted(stream, …)``: a controller with a scripted trainer; it is released at the end."""
    made: list[ScriptedTrainer] = []

    def make(*args: Any, **kwargs: Any) -> tuple[TrainingController, ScriptedTrainer]:
        trainer = ScriptedTrainer(*args, **kwargs)
        made.append(trainer)
        return TrainingController(run_thread=trainer), trainer

    yield make
    for trainer in made:
        trainer.release()


@pytest.fixture
def pictured(
    snapshot: SnapshotAssertion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Pictured:
    """``await pictured(app, prepare=None, looks=LOOKS)``: the app looks as it did, in every look.

    ``prepare(pilot)`` brings the app to the state that is pictured; several, by name, to one after
    the other.
    """
    # No notice goes away between two pictures.
    monkeypatch.setattr(LabApp, "NOTIFICATION_TIMEOUT", 3600)

    async def take(
        app: LabApp,
        prepare: Prepare | Mapping[str, Prepare] | None = None,
        looks: Iterable[Look] = LOOKS,
    ) -> None:
        await compare(app, prepare, looks, snapshot, tmp_path / "pictures")

    return take
