"""How often something costly is redrawn: a few times a second, and never much of the time."""

_SHARE_OF_TIME = 0.02


class Pace:
    """Spaces out redraws so that they leave the processor to the trainer.

    Args:
        shortest_seconds: The least time between two drawings; costly ones wait longer.
    """

    def __init__(self, shortest_seconds: float = 0.25) -> None:
        self._shortest = shortest_seconds
        self._next = 0.0

    def is_due(self, now: float) -> bool:
        """Whether it is time to draw again."""
        return now >= self._next

    def drew(self, started: float, ended: float) -> None:
        """Note when a drawing began and ended, in seconds of one clock."""
        self._next = ended + max(self._shortest, (ended - started) / _SHARE_OF_TIME)
