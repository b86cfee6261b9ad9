"""Messages from one place that others act on."""

from textual.message import Message


class CorpusChosen(Message):
    """A corpus was chosen for training; ``services.draft.corpus`` holds it already.

    Args:
        spec: What ``data.corpus`` takes: a catalogue name or a path.
    """

    def __init__(self, spec: str) -> None:
        super().__init__()
        self.spec = spec
