"""What the Train place says while there is no curve to show: what to press, or what goes on."""

from typing import ClassVar

from textual.content import Content
from textual.widgets import Static

from shakespeare_tui.formatting import format_bytes
from shakespeare_tui.ui.engine.training import Progressed

_KEYS = (
    ("s", "train {draft}"),
    ("2", "review its config first, or choose another"),
    ("w", "show a run: live while another process trains it, otherwise replayed"),
    ("?", "all keys, and help for this screen"),
)
_PROMISE = (
    "During training this screen shows the loss curve, samples every few hundred steps, and the "
    "doctor's diagnosis. You can pause, save, draw a sample or change the LR at any time."
)


class TrainAdvice(Static):
    """Plain text in the middle of an empty place."""

    DEFAULT_CSS: ClassVar[str] = """
    TrainAdvice { width: 1fr; height: 1fr; padding: 1 2; }
    """

    def __init__(self) -> None:
        super().__init__(markup=False)

    def show_reading(self, name: str) -> None:
        """The log of a run is being read."""
        self.update(Content.styled(f"Reading the log of {name} …", "$text-muted"))

    def show_looking(self) -> None:
        """The runs' folders are being looked through."""
        self.update(Content.styled("Looking for runs …", "$text-muted"))

    def show_preparing(self, setup: Progressed | None) -> None:
        """A run is about to begin."""
        what = "loading torch and the corpus"
        if setup is not None:
            what = setup.what
            if setup.total:
                share = f"{setup.done / setup.total:.0%}"
                what += f"  {share} of {format_bytes(setup.total)}"
        self.update(
            Content.assemble(("Starting\n\n", "bold"), what, ("\n\ns cancels", "$text-muted"))
        )

    def show_first_steps(self, draft: str, problem: str) -> None:
        """Nothing runs.

        Args:
            draft: What a start would train.
            problem: Why the last start came to nothing, if it did.
        """
        parts: list[Content] = []
        if problem:
            parts.append(Content.assemble(("✕ ", "bold $error"), problem))
        parts.append(Content.styled("No run yet", "bold"))
        parts.append(
            Content("\n").join(
                Content.assemble((f"{key:>3}  ", "bold $accent"), text.format(draft=draft))
                for key, text in _KEYS
            )
        )
        parts.append(Content.styled(_PROMISE, "$text-muted"))
        self.update(Content("\n\n").join(parts))
