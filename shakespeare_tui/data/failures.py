"""Why a corpus could not be had: from one of its sources, or from all of them."""

from shakespeare_tui.errors import UserError


class SourceError(Exception):
    """One source of a corpus gave nothing usable; the message is a short reason."""


class FetchFailedError(UserError):
    """No source of a corpus could be used; says why and what to do instead."""

    def __init__(self, reason: str, advice: str) -> None:
        """Keep ``reason`` by itself, for a caller that has its own way out."""
        super().__init__(f"{reason}; {advice}")
        self.reason = reason
