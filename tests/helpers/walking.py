"""Walks through the lab by drawn keys and clicks: what is drawn, how it is done, what is caught."""

import asyncio
import contextlib
import dataclasses
import logging
import random
import re
import string
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from textual import events
from textual.geometry import Size
from textual.keys import _character_to_key

from shakespeare_tui.config.schema import Config
from shakespeare_tui.training.request import TrainingRequest
from shakespeare_tui.ui.app import LabApp
from shakespeare_tui.ui.engine.channel import TrainingChannel
from shakespeare_tui.ui.keys import known_bindings

SIZES = ((40, 12), (60, 16), (80, 24), (100, 30), (140, 45))
ODD_SIZES = ((1, 1), (20, 5), (100, 8), (200, 60))
SCREENS = ("1", "2", "3", "4", "5", "6")
MOVES = (
    *("tab", "shift+tab", "up", "down", "left", "right", "home", "end", "pageup", "pagedown"),
    *("enter", "space", "escape", "backspace", "delete", "ctrl+u", "shift+left", "shift+right"),
)
WORDS = (
    *("play.txt", "alpha", "alpha@best", "alpha@20", "quick", "tiny", "val<2", "lr>1e-4 or", "0.5"),
    *("-1", "1e999", "nan", "12", "400", "64", "ROMEO:", "top_k=3 temperature=0.7", "beam=3"),
    *("mirostat=3", "greedy", "xtc=0.5", "[bold]x", "[/", "\\n", "~/", "/dev/null", "e\u0301🎭"),
    *("\u202eright to left", "d_model", "adamw", "theme", "help", "train", "a" * 300, "(", ":-("),
)
PASTES = (*WORDS, "two\nlines\r\nand three", "\x1b[31mred\x1b]0;title\x07", "x" * 5000, "\x00", "")
_CHARACTERS = {_character_to_key(character): character for character in " " + string.punctuation}
JOURNEYS = tuple(
    f"escape escape {journey}"
    for journey in (
        # Data: every tab, with what one can do on it; a text of one's own.
        *(
            "1 ~ down ~~ ]",
            "1 ~ down ~~ ] ] ~ o l o",
            "1 ~ down ~~ ] ] ] ~~ plus minus left right",
            "1 ~ down ~~ [ ~~ j G t",
            "1 u",
        ),
        *(
            "1 ~ down ~~ [ [ ~~ down end",
            "1 ~ end ~~ tab ] ~ ] ~ ] ~ ] ~",
            "1 i ~ 'play.txt' ~ enter ~",
            "1 f ~ x",
        ),
        *("1 i ~ 'one' tab ~ enter", "1 i ~ '/' tab ~ down enter", "1 ~ down down enter ~ u 2 ~"),
        # Config: fields, filter, problems, presets, files, the editor, the measurement.
        *(
            "2 ~ enter '3' enter",
            "2 ~ down down enter 'x' enter ~ n",
            "2 / 'seed' enter ~",
            "2 p ~",
        ),
        *(
            "2 ~ m ~",
            "2 w ~ 'mine.yaml' enter ~",
            "2 o ~ 'mine.yaml' enter ~",
            "2 e ~",
            "2 ~ space",
        ),
        *("2 ~ d ~ u ~", "2 ~ s ~ 3", "2 ~ x"),
        # Train: pause, steer, samples, overlays, other runs, replays.
        *("3 p ~ p", "3 l ~ '1e-3' enter ~", "3 n ~ 'a note' enter", "3 e ~ '50' enter", "3 g ~ ~"),
        *("3 G ~ 'the ' enter ~", "3 o ~ space down space enter ~", "3 w ~ down enter ~ space ~"),
        *("3 w ~ end enter ~ full_stop comma", "3 m ~ v x z Z 0", "3 tab tab tab m ~", "3 f ~ 3"),
        *("3 w ~ 'elsewhere' enter ~", "3 c ~ b", "3 s ~ enter ~ s ~", "3 S ~", "3 b [ ] i y"),
        # The Playground: write, columns, surprise, the X-ray, attention, branches, files.
        *("4 ~~ g ~~", "4 ~ k ~ g ~ right d u ~", "4 ~ t ~ 'temperature=0.5:1.5:0.5' enter g ~"),
        *(
            "4 ~ p 'the ' enter ~ ~",
            "4 ~ e ctrl+u 'top_k=5' enter ~ g ~",
            "4 ~ c ~ down enter ~ g ~",
        ),
        *(
            "4 ~~ g ~~ s ~~ right right w ~ down enter ~",
            "4 ~~ g ~~ s ~~ end a ~~ plus ] [ m y",
            "4 x n g",
        ),
        *(
            "4 ~~ g ~~ s ~~ right enter ~ down enter ~~ b ~ plus",
            "4 ~~ v ~ 'To be' tab enter ~~ right w ~ a ~",
            "4 h ~ down enter",
        ),
        *(
            "4 ~~ g ~~ s ~~ w ~ plus ] c ~ 3 4 ~ escape",
            "4 o ~ 'out' enter ~",
            "4 ~ f ~ enter ~",
            "4 l '50' enter g ~",
        ),
        # Checkpoints: compare, blind test, time-lapse, filter, sort, rename, delete, notes, forks.
        *(
            "5 ~ space down space c ~ ~",
            "5 ~ space down space down space c ~ tab ~ tab ~ right",
            "5 b g ~",
        ),
        *(
            "5 ~ space down space v ~ ~ left ~ right t",
            "5 ~ l ~ ~ space ~",
            "5 ~ l ~ right left end home",
        ),
        *(
            "5 / 'val<4' enter ~",
            "5 / 'corpus:sample or lr>0' enter ~ S s",
            "5 ~ n ~ 'other' enter ~",
        ),
        *(
            "5 ~ a ~ 'good' enter ~",
            "5 ~ down d ~ enter ~",
            "5 ~ f ~ 2",
            "5 ~ t ~ 3",
            "5 ~ enter ~ space",
        ),
        *("5 ~ space down space c ~ p 'A' enter ~ n ~ o '20' enter g ~",),
        # Everywhere: help, the palette, themes, ASCII.
        *(
            "? ~ down",
            "ctrl+p ~ 'ascii' ~ enter ~",
            "ctrl+p ~ 'theme' ~ down enter ~",
            "ctrl+p ~ 'help' ~",
        ),
        *(
            "ctrl+p ~ 'more' ~ enter ~ down enter ~",
            "ctrl+p ~ 'picture' ~ enter ~",
            "ctrl+p ~ 'key' ~ enter",
        ),
    )
)
"""Ways to what single keys seldom find: keys, 'typed words', ~ or ~~ for a moment."""

STUCK_SECONDS = 60.0
"""So long may an action wait for its turn before the lab counts as stuck."""

Kind = Literal["key", "type", "paste", "click", "drag", "scroll", "resize", "blur", "wait"]


@dataclass(frozen=True)
class Action:
    """One thing that a person does; ``at`` are shares of the screen's width and height."""

    kind: Kind
    text: str = ""
    at: tuple[float, float] = (0.0, 0.0)
    to: tuple[float, float] = (0.0, 0.0)
    number: int = 0
    seconds: float = 0.0

    def __repr__(self) -> str:
        """What builds it again, without what is as usual."""
        given = (
            f"{field.name}={getattr(self, field.name)!r}"
            for field in dataclasses.fields(self)
            if getattr(self, field.name) != field.default
        )
        return f"Action({', '.join(given)})"


def bound_keys() -> list[str]:
    """Every key that does something somewhere, but those that end the lab."""
    keys = {
        key
        for group in known_bindings().values()
        for binding in group
        for key in binding.key.split(",")
    }
    return sorted(keys - {"q", "ctrl+q", "ctrl+c"})


def draw_actions(seed: int, count: int) -> list[Action]:
    """The walk of a seed."""
    dice = random.Random(seed)
    keys = bound_keys()
    actions: list[Action] = []
    while len(actions) < count:
        if dice.random() < 0.04:
            actions += _journey(dice.choice(JOURNEYS), dice)
        else:
            actions.append(_draw(dice, keys))
    return actions[:count]


def _journey(journey: str, dice: random.Random) -> Iterator[Action]:
    for quoted, word in re.findall(r"'([^']*)'|(\S+)", journey):
        if quoted:
            yield Action("type", quoted)
        elif word in ("~", "~~"):
            yield Action("wait", seconds=(0.1 + dice.random() / 3) * (1 if word == "~" else 4))
        else:
            yield Action("key", _character_to_key(word) if len(word) == 1 else word)


def _draw(dice: random.Random, keys: Sequence[str]) -> Action:
    at = (dice.random(), dice.random())
    kinds = ("bound", "move", "place", "click", "drag", "scroll", "type", "paste", "resize")
    kind = dice.choices(
        (*kinds, "blur", "wait", "leave"), (44, 15, 3, 16, 2, 4, 4, 1, 3, 0.5, 4, 0.2)
    )[0]
    match kind:
        case "bound":
            return Action("key", dice.choice(keys))
        case "move":
            return Action("key", dice.choice(MOVES))
        case "place":
            return Action("key", dice.choice(SCREENS))
        case "leave":
            return Action("key", dice.choice(("q", "ctrl+q", "ctrl+c")))
        case "click":
            button, times = dice.choice((1, 1, 1, 1, 3)), dice.choice((1, 1, 1, 2))
            return Action("click", at=at, number=button, seconds=times)
        case "drag":
            return Action("drag", at=at, to=(dice.random(), dice.random()))
        case "scroll":
            return Action("scroll", at=at, number=dice.choice((-1, 1)))
        case "type":
            return Action("type", dice.choice(WORDS))
        case "paste":
            return Action("paste", dice.choice(PASTES))
        case "resize":
            sizes = ODD_SIZES if dice.random() < 0.15 else SIZES
            width, height = dice.choice(sizes)
            return Action("resize", at=(width, height))
        case "blur":
            return Action("blur")
        case _:
            return Action("wait", seconds=dice.random() / 4)


@dataclass
class Trouble:
    """What went wrong anywhere in the process; the first of it is what counts."""

    found: list[str] = field(default_factory=list)

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Catch what threads raise and what is logged as an error."""
        import traceback

        trouble = self

        class Handler(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                trouble.found.append(logging.Formatter().format(record))

        def note(arguments: threading.ExceptHookArgs) -> None:
            lines = traceback.format_exception(
                arguments.exc_type, arguments.exc_value, arguments.exc_traceback
            )
            self.found.append("".join(lines))

        handler, hook = Handler(logging.ERROR), threading.excepthook
        logging.getLogger("shakespeare_tui").addHandler(handler)
        threading.excepthook = note
        try:
            yield
        finally:
            threading.excepthook = hook
            logging.getLogger("shakespeare_tui").removeHandler(handler)


class Walker:
    """Does actions on one running app.

    Args:
        app: The app.
        trouble: Looked at after each action.
    """

    def __init__(self, app: LabApp, trouble: Trouble) -> None:
        self._app, self._trouble = app, trouble

    async def act(self, action: Action) -> None:
        """Do one thing and let the lab obey; it need not have finished what it began."""
        match action.kind:
            case "key":
                self._key(action.text)
            case "type":
                for character in action.text:
                    self._key(character)
            case "paste":
                self._app.post_message(events.Paste(action.text))
            case "click":
                for _ in range(int(action.seconds)):
                    self._mouse(events.MouseMove, action.at)
                    self._mouse(events.MouseDown, action.at, action.number)
                    self._mouse(events.MouseUp, action.at, action.number)
            case "drag":
                self._mouse(events.MouseDown, action.at, 1)
                middle = ((action.at[0] + action.to[0]) / 2, (action.at[1] + action.to[1]) / 2)
                self._mouse(events.MouseMove, middle, 1)
                self._mouse(events.MouseMove, action.to, 1)
                self._mouse(events.MouseUp, action.to, 1)
            case "scroll":
                kind = events.MouseScrollDown if action.number > 0 else events.MouseScrollUp
                self._mouse(kind, action.at)
            case "resize":
                self._resize(Size(int(action.at[0]), int(action.at[1])))
            case "blur":
                self._app.post_message(events.AppBlur())
                self._app.post_message(events.AppFocus())
            case "wait":
                await asyncio.sleep(action.seconds)
        await self._settle()

    async def _settle(self) -> None:
        """Until the app has taken what was posted; not until nothing goes on any more."""
        taken = asyncio.Event()
        self._app.post_message(events.Callback(callback=taken.set))
        began = time.monotonic()
        while not (taken.is_set() or self.is_over):
            await asyncio.sleep(0.001)
            assert time.monotonic() - began < STUCK_SECONDS, "the lab is stuck"
        for _ in range(10):
            await asyncio.sleep(0)

    @property
    def is_over(self) -> bool:
        """Whether the app has ended, well or not."""
        app = self._app
        return app._exception is not None or app._exit or not app.is_running

    @property
    def failure(self) -> str:
        """What went wrong, if anything."""
        import traceback

        if (error := self._app._exception) is not None:
            return "".join(traceback.format_exception(error))
        return "\n".join(self._trouble.found[:1])

    def _key(self, key: str) -> None:
        if len(key) == 1:
            event = events.Key(_character_to_key(key), key)
        else:
            event = events.Key(key, _CHARACTERS.get(key))
        self._app.post_message(event)

    def _mouse(
        self, kind: type[events.MouseEvent], at: tuple[float, float], button: int = 0
    ) -> None:
        x, y = int(at[0] * self._app.size.width), int(at[1] * self._app.size.height)
        event = kind(
            *(None, x, y, 0, 0, button, False, False, False), screen_x=x, screen_y=y, style=None
        )
        driver = self._app._driver
        assert driver is not None
        driver.process_message(event)

    def _resize(self, size: Size) -> None:
        self._app._driver._size = (size.width, size.height)  # type: ignore[union-attr]
        self._app.post_message(events.Resize(size, size))


def micro(config: Config) -> Config:
    """What a walk has chosen, so small that a step takes a millisecond."""
    chosen = config.model_dump(mode="json")
    small: dict[str, dict[str, Any]] = {
        "model": {"d_model": 16, "n_heads": 2, "n_layers": 1, "d_ff": 32, "max_seq_len": 16},
        "training": {
            **{"batch_size": 4, "grad_accumulation": 1, "warmup_steps": 5, "min_lr": None},
            **{"max_steps": 3000, "minutes": None, "eval_every": 40, "precision": "float32"},
            "device": "cpu",
        },
        "data": {"corpus": "sample", "seq_len": None, "stride": None},
        "sampling": {"every": 60, "max_tokens": 20, "prompts": ["A", "the "], "top_k": 0},
        "checkpoints": {"save_every": 100, "every": 0},
        "logging": {"every": 1},
    }
    return Config.model_validate({name: chosen[name] | small[name] for name in chosen})


def train_micro(request: TrainingRequest, channel: TrainingChannel) -> None:
    """The real trainer on a micro model, whatever the walk has put into the form."""
    from shakespeare_tui.ui.engine.trainer_thread import train

    if request.config is not None:
        request = dataclasses.replace(request, config=micro(request.config))
    train(request, channel)


MakeLab = Callable[[], LabApp]


async def take(
    make_lab: MakeLab, actions: Sequence[Action], size: tuple[int, int]
) -> tuple[int, str]:
    """Do the actions, in another lab wherever one was left.

    Returns:
        How many were done, and what went wrong, if anything.
    """
    trouble = Trouble()
    done = 0
    with trouble.watched():
        while done < len(actions):
            app = make_lab()
            walker = Walker(app, trouble)
            failure = ""
            try:
                async with app.run_test(size=size, tooltips=True, notifications=True):
                    while done < len(actions) and not walker.is_over and not walker.failure:
                        await walker.act(actions[done])
                        done += 1
                    app.exit(0)
            except Exception as error:  # noqa: BLE001 (whatever it is, the walk is for it)
                failure = walker.failure or f"{type(error).__name__}: {error}"
            if not app.services.training.shutdown(STUCK_SECONDS):
                failure = failure or "the trainer did not stop"
            if failure := failure or walker.failure:
                return done, failure
    return done, ""


def shortest_tail(
    make_lab: MakeLab, actions: Sequence[Action], size: tuple[int, int], failure: str
) -> Sequence[Action]:
    """The fewest last actions that go wrong in the same way; none, where no short tail does."""
    ending = failure.rstrip().rpartition("\n")[2]
    for length in (1, 4, 16, 64):
        if length >= len(actions):
            break
        tail = actions[-length:]
        _, again = asyncio.run(take(make_lab, tail, size))
        if again.rstrip().endswith(ending):
            return tail
    return ()
