"""The blind test: two texts of hidden origin, one key for the better, a rating for each."""

import random
from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.content import Content
from textual.widgets import Static

from shakespeare_tui.runs.compare.blind_tests import (
    Game,
    Verdict,
    append_verdict,
    games_now,
    next_pair,
    ratings_of,
    read_verdicts,
)
from shakespeare_tui.runs.compare.items import CheckpointItem
from shakespeare_tui.runs.notes import RunNames
from shakespeare_tui.ui.checkpoints.writing import TextPane, WritingScreen
from shakespeare_tui.ui.engine.generation import GenerationRequest
from shakespeare_tui.ui.engine.text_writer import TextWriter

PROMPTS = ("ROMEO:", "JULIET:", "First Citizen:", "KING RICHARD II:", "MENENIUS:", "Nurse:")
_SIDES = ("the left one", "the right one")


class BlindTestScreen(WritingScreen):
    """Two texts beside each other; which checkpoints wrote them is told after the verdict.

    Args:
        writer: Writes the texts and keeps them.
        items: The checkpoints to judge, at least two.
        names: The names of runs in time, for the verdicts of earlier days.
    """

    HELP: ClassVar[str] = """\
Two checkpoints continue the same prompt with the same seed. Which is which stays hidden until you
press left or right for the better text, or t for a tie. s skips a pair without a verdict.

Verdicts are saved beside the runs and give each checkpoint an Elo rating, where 400 points mean
odds of ten to one, with its uncertainty: 1540±80 means that the rating most likely lies within 80
points. The next pair is always the one whose verdict is most informative."""
    DEFAULT_CSS: ClassVar[str] = """
    BlindTestScreen #told { height: auto; max-height: 4; padding: 0 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "judge(1.0)", "Left better", key_display="←", id="blind_test.left"),
        Binding("right", "judge(0.0)", "Right better", key_display="→", id="blind_test.right"),
        Binding("t,equals_sign", "judge(0.5)", "Tie", id="blind_test.tie"),
        Binding("s", "skip", "Skip", show=False, id="blind_test.skip"),
    ]

    def __init__(
        self, writer: TextWriter, items: Sequence[CheckpointItem], names: RunNames
    ) -> None:
        super().__init__(writer, items)
        self._names = names
        self._draw = random.Random()
        self.games: list[Game] = []
        self.pair: tuple[str, str] = ("", "")
        self.told = Content()
        """Where the texts of the last pair came from."""

    def compose_texts(self) -> ComposeResult:
        """The two texts, and what is told of the last two."""
        with Horizontal():
            yield TextPane()
            yield TextPane()
        yield Static("", id="told", markup=False)

    def begin(self) -> None:
        """Take up the verdicts so far, and show the first pair."""
        verdicts = read_verdicts(self.lab.services.runs_root)
        self.games = games_now(verdicts, self._names)
        # Other pairs each time, the same under a clock that stands still.
        self._draw.seed(int(self.lab.services.clock()) + len(verdicts))
        self.max_tokens = min(self.max_tokens, 400)
        self._next()

    def _next(self) -> None:
        references = [item.key for item in self.items]
        self.pair = next_pair(references, self.games, self._draw)
        self.prompt = self._draw.choice(PROMPTS)
        self.seed = self._draw.randrange(1, 100_000)
        self.writer.want(self.wanted())
        self.show_head()
        self.show_texts()

    @property
    def _two(self) -> list[CheckpointItem]:
        """The checkpoints of the pair, left and right."""
        by_key = {item.key: item for item in self.items}
        return [by_key[key] for key in self.pair]

    def wanted(self) -> list[GenerationRequest]:
        """The two texts."""
        return [self.request(item) for item in self._two]

    def head(self) -> Content:
        """The question."""
        judged = len(self.games)
        return Content.assemble(
            ("Which is better?", "bold"),
            (f"  {len(self.items)} checkpoints, {judged} verdicts so far", "$text-muted"),
        )

    def show_texts(self) -> None:
        """The two texts as far as they are there, and what is told of the last two."""
        for item, pane in zip(self._two, self.query(TextPane), strict=False):
            pane.show("?", self.prompt, self.written(item))
        self.query_one("#told", Static).update(self.told)

    # --- actions -------------------------------------------------------------------------------

    def action_judge(self, score: float) -> None:
        """Keep the verdict, tell where the texts came from, and go on to the next pair."""
        written = [self.written(item) for item in self._two]
        if any(text.state == "failed" for text in written):
            self.lab.say("one of them cannot generate: s skips to the next pair", is_error=True)
            return
        if not all(text.is_whole for text in written):
            self.lab.say("read both to the end first")
            return
        first, second = self.pair
        verdict = Verdict(
            time=self.lab.services.clock(),
            first=first,
            second=second,
            score=score,
            prompt=self.prompt,
            seed=self.seed,
        )
        try:
            append_verdict(self.lab.services.runs_root, verdict)
        except OSError as error:
            self.lab.say(f"the verdict cannot be saved: {error.strerror or error}", is_error=True)
            return
        self.games.append(Game(first, second, score))
        self.told = self._tell(first, second, score)
        self._next()

    def _tell(self, first: str, second: str, score: float) -> Content:
        ratings = ratings_of(self.games)
        said = "a tie" if score == 0.5 else _SIDES[0 if score == 1 else 1]
        parts: list[tuple[str, str]] = [(f"You took {said}. ", "")]
        for side, key in (("Left", first), ("right", second)):
            parts += [(f"{side} was ", "$text-muted"), (key, "bold"), (f" {ratings[key]}, ", "")]
        best = max(ratings, key=lambda key: ratings[key].points)
        parts.append((f"in the lead:{best}.", "$text-muted"))
        return Content.assemble(*parts)

    def action_skip(self) -> None:
        """Show another pair."""
        self.told = Content()
        self._next()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """The test chooses prompts, seeds and lengths by itself."""
        return action not in ("ask_prompt", "next_seed", "ask_tokens")

    def action_again(self) -> None:
        """Try again what has failed."""
        self.writer.forget_failures()
        self.writer.want(self.wanted())
