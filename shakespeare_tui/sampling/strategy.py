"""A strategy: steps in the order in which they are applied, and the method that chooses."""

import dataclasses
from dataclasses import dataclass
from functools import cached_property

from shakespeare_tui.config.problems import join_words, show_name, suggestion
from shakespeare_tui.errors import UserError
from shakespeare_tui.sampling.registry import Method, Step, Value


@dataclass(frozen=True)
class Strategy:
    """How the next token is chosen.

    Each kind of step stands at most once, so that its name is enough to address it: when a value
    is edited, in JSON and on the screens. The method, which chooses from what the others left, is
    always the last.

    Attributes:
        steps: At least one.

    Raises:
        UserError: There is no step, one is there twice, or there are two methods.
    """

    steps: tuple[Step, ...]

    def __post_init__(self) -> None:
        if not self.steps:
            raise UserError("the strategy is empty; write for example temperature=0.8 top_k=20")
        names = [step.kind.name for step in self.steps]
        methods = [step for step in self.steps if step.kind.method]
        for name in names:
            if names.count(name) > 1:
                raise UserError(f"{name} is there twice; keep one of them")
        if len(methods) > 1:
            given = join_words([step.kind.name for step in methods], "and")
            raise UserError(f"{given} exclude each other; keep one of them")
        shaping = [step for step in self.steps if not step.kind.method]
        object.__setattr__(self, "steps", (*shaping, *methods))

    @cached_property
    def text(self) -> str:
        """The strategy as one line, which ``parse_strategy`` reads back as an equal one."""
        return " ".join(step.text for step in self.steps)

    def __str__(self) -> str:
        return self.text

    @cached_property
    def method(self) -> Method:
        """How tokens are chosen: ``sample`` draws them."""
        return self.steps[-1].kind.method or "sample"

    @cached_property
    def shaping(self) -> tuple[Step, ...]:
        """The steps that reshape the distribution, without the method."""
        return tuple(step for step in self.steps if not step.kind.method)

    @cached_property
    def parameters(self) -> dict[str, Value | bool]:
        """Every value by name, flat: ``dry`` and ``dry.base``; true for a step without any."""
        found: dict[str, Value | bool] = {}
        for step in self.steps:
            if not step.kind.parameters:
                found[step.kind.name] = True
            for place, (name, value) in enumerate(step.values.items()):
                found[f"{step.kind.name}.{name}" if place else step.kind.name] = value
        return found

    def step(self, name: str) -> Step | None:
        """The step of that kind, or None."""
        return next((step for step in self.steps if step.kind.name == name), None)

    def with_value(self, step_name: str, parameter: str, value: Value) -> "Strategy":
        """The same strategy with another value.

        Args:
            step_name: A step of this strategy.
            parameter: One of its parameters; the step's own name stands for the first.
            value: The new value.

        Raises:
            UserError: There is no such step or parameter, or the value is out of range.
        """
        step = self.step(step_name)
        if step is None:
            near = suggestion(step_name, [each.kind.name for each in self.steps])
            raise UserError(f"{show_name(step_name)} is not in the strategy {self.text}{near}")
        found = step.kind.parameter(parameter)
        if found is None:
            raise UserError(unknown_parameter(step.kind.name, parameter, list(step.values)))
        changed = dataclasses.replace(step, **{found.name: value})  # type: ignore[type-var]
        return Strategy(tuple(changed if each is step else each for each in self.steps))


def unknown_parameter(step_name: str, name: str, known: list[str]) -> str:
    """Say that a step has no such parameter, and which it has."""
    if not known:
        return f"{step_name} takes no values; write it alone"
    near = suggestion(name, known)
    has = near or f"; it has {join_words(known, 'and')}"
    return f"{step_name} has no {show_name(name)}{has}"
