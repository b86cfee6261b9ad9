"""The tree of texts that grew out of one: each branch leaves its parent at a character."""

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass
class Branch:
    """A text and where it comes from.

    Attributes:
        number: Its name, counted from 1 in the order of making.
        parent: The branch it left; None for the first.
        start: The first character that is not its parent's; 0 for the first.
        prompt_length: Characters that were given rather than written by the model.
        strategy: The strategy that wrote it, as text; empty where no model wrote it.
        text: The whole text, from its beginning.
        replaced: The character that the parent has at ``start``; empty for the first.
    """

    number: int
    parent: int | None
    start: int
    prompt_length: int
    strategy: str
    text: str
    replaced: str = ""


class BranchTree:
    """Branches by number.

    Args:
        text: The first text.
        prompt_length: How much of it was given.
        strategy: What wrote it.
    """

    def __init__(self, text: str, prompt_length: int, strategy: str) -> None:
        self._branches = [Branch(1, None, 0, prompt_length, strategy, text)]

    def __len__(self) -> int:
        return len(self._branches)

    def __getitem__(self, number: int) -> Branch:
        return self._branches[number - 1]

    def branch(self, parent: int, position: int, token: str, strategy: str) -> Branch:
        """Leave ``parent`` before the character at ``position`` and go on with ``token`` instead.

        Args:
            parent: The branch to leave.
            position: From 1 to the length of its text: something must stand before.
            token: What stands there in the new branch; the model writes what follows.
            strategy: What will write it.

        Raises:
            ValueError: ``position`` is outside the text.
        """
        source = self[parent]
        if not 1 <= position <= len(source.text):
            raise ValueError(f"no branch can begin at {position} of {len(source.text)} characters")
        made = Branch(
            number=len(self._branches) + 1,
            parent=parent,
            start=position,
            prompt_length=min(source.prompt_length, position),
            strategy=strategy,
            text=source.text[:position] + token,
            replaced=source.text[position : position + 1],
        )
        self._branches.append(made)
        return made

    def rows(self) -> list[tuple[int, Branch]]:
        """All branches with their depth, each below its parent in the order of their places."""
        return list(self._below(None, 0))

    def _below(self, parent: int | None, depth: int) -> Iterator[tuple[int, Branch]]:
        children = [branch for branch in self._branches if branch.parent == parent]
        for child in sorted(children, key=lambda branch: (branch.start, branch.number)):
            yield depth, child
            yield from self._below(child.number, depth + 1)

    def neighbour(self, number: int, by: int) -> Branch:
        """The branch ``by`` rows further in ``rows``; the first or last where there are no more."""
        order = [branch.number for _, branch in self.rows()]
        place = order.index(number) + by
        return self[order[min(max(place, 0), len(order) - 1)]]
