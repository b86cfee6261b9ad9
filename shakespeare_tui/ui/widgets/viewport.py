"""Which steps a chart shows: all of them, or a part that may follow the run's end."""

from dataclasses import dataclass, replace

_FEWEST_STEPS = 10


@dataclass(frozen=True)
class Viewport:
    """A span of steps.

    Attributes:
        width: How many steps are shown; None is all.
        end: The last step shown; None follows the run.
    """

    width: int | None = None
    end: int | None = None

    def span(self, last_step: int) -> tuple[int, int]:
        """The first and the last step to show of a run that has come to ``last_step``."""
        last_step = max(last_step, _FEWEST_STEPS)
        if self.width is None:
            return 1, last_step
        end = min(self.end or last_step, last_step)
        start = max(1, end - self.width + 1)
        return start, max(end, start + _FEWEST_STEPS - 1)

    def zoomed(self, factor: float, centre: int | None, last_step: int) -> "Viewport":
        """Show ``factor`` times as many steps around ``centre``, or at the run's end."""
        start, end = self.span(last_step)
        width = round((end - start + 1) * factor)
        if width >= max(last_step, _FEWEST_STEPS):
            return Viewport()
        width = max(width, _FEWEST_STEPS)
        if centre is None:
            return replace(self, width=width)
        # What is under the cursor stays under the cursor.
        share = (centre - start) / max(1, end - start)
        new_end = min(last_step, max(width, round(centre + (1 - share) * (width - 1))))
        return Viewport(width, None if new_end >= last_step else new_end)

    def panned(self, share: float, last_step: int) -> "Viewport":
        """Move by a share of the width; at the run's end, follow it again."""
        if self.width is None:
            return self
        _, end = self.span(last_step)
        new_end = max(self.width, round(end + share * self.width))
        return Viewport(self.width, None if new_end >= last_step else new_end)

    def showing(self, step: int, last_step: int) -> "Viewport":
        """Moved as little as needed for ``step`` to be seen."""
        start, end = self.span(last_step)
        if self.width is None or start <= step <= end:
            return self
        new_end = step if step > end else step + self.width - 1
        return Viewport(self.width, None if new_end >= last_step else new_end)
