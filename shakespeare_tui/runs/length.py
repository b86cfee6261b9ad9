"""How long a run is: what its config says, and what commands have added."""

from dataclasses import dataclass


@dataclass(frozen=True)
class RunLength:
    """Up to a step, or for a time where there is a budget.

    Attributes:
        max_steps: The config's; it counts where there is no budget.
        minutes: The config's time budget, if it has one.
        extra_steps: Added by commands.
        extra_minutes: Added by commands.
    """

    max_steps: int
    minutes: float | None
    extra_steps: int = 0
    extra_minutes: float = 0.0

    @property
    def last_step(self) -> int:
        """The step at which a run without a budget ends."""
        return self.max_steps + self.extra_steps

    @property
    def budget_minutes(self) -> float | None:
        """The time after which a run with a budget ends; None where it has none."""
        return None if self.minutes is None else self.minutes + self.extra_minutes

    def extended(self, steps: int, minutes: float) -> "RunLength":
        """The length with more added."""
        return RunLength(
            self.max_steps, self.minutes, self.extra_steps + steps, self.extra_minutes + minutes
        )
