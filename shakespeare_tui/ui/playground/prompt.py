"""Prompts written before: walked with up and down, kept as one line of JSON."""

import json
from collections.abc import Iterable

from shakespeare_tui.loose_values import parse_json

_MOST = 50
_LONGEST_LINE = 50_000


class PromptHistory:
    """Prompts, oldest first, and where one stands among them.

    The text being written is kept while one walks, and comes back behind the newest prompt.

    Args:
        prompts: Oldest first; of equal ones the newest stays.
    """

    def __init__(self, prompts: Iterable[str] = ()) -> None:
        self._prompts: list[str] = []
        for prompt in prompts:
            self._take(prompt)
        self._place = len(self._prompts)
        self._draft = ""

    @classmethod
    def from_json(cls, text: str) -> "PromptHistory":
        """Read what ``to_json`` wrote; what cannot be read is an empty history."""
        try:
            found = parse_json(text)
        except ValueError:
            return cls()
        is_list = isinstance(found, list)
        return cls(prompt for prompt in found if isinstance(prompt, str)) if is_list else cls()

    def to_json(self) -> str:
        """The newest prompts as one line; of long ones there are fewer."""
        kept = self._prompts
        while len(line := json.dumps(kept, ensure_ascii=False)) > _LONGEST_LINE:
            kept = kept[1:]
        return line

    @property
    def prompts(self) -> tuple[str, ...]:
        """Oldest first."""
        return tuple(self._prompts)

    def add(self, prompt: str) -> None:
        """Remember a prompt as the newest; walking begins behind it."""
        self._take(prompt)
        self._place, self._draft = len(self._prompts), ""

    def _take(self, prompt: str) -> None:
        if prompt:
            self._prompts = [other for other in self._prompts if other != prompt][-_MOST + 1 :]
            self._prompts.append(prompt)

    def earlier(self, present: str) -> str | None:
        """The prompt before; None at the oldest. ``present`` is what the field holds."""
        if self._place == len(self._prompts):
            self._draft = present
            # What was sent last stands in the field still: going back means the one before.
            if self._place and self._prompts[-1] == present:
                self._place -= 1
        if self._place == 0:
            return None
        self._place -= 1
        return self._prompts[self._place]

    def later(self) -> str | None:
        """The prompt after, at last the text that was being written; None behind that."""
        if self._place == len(self._prompts):
            return None
        self._place += 1
        at_end = self._place == len(self._prompts)
        return self._draft if at_end else self._prompts[self._place]
