"""Which of several texts is the best by a measure, where one of them is."""

from collections.abc import Callable, Sequence

from shakespeare_tui.measures.report import MEASURES, MeasureKind, Measures


def best_measures(
    measures: Sequence[Measures | None],
    show: Callable[[MeasureKind, float | None], str] = MeasureKind.format,
) -> list[frozenset[str]]:
    """For each text, the names of those measures by which it is better than all others.

    A tie has no winner, and neither has a measure whose best text is caught in a loop: what such a
    text does well, it does for nothing.

    Args:
        measures: Of the texts, of which one has none yet.
        show: How values are shown; what is shown alike is a tie.
    """
    best: list[set[str]] = [set() for _ in measures]
    for name, kind in MEASURES.items():
        if kind.direction == "neither":
            continue
        ranked = sorted(
            (
                (value, column)
                for column, each in enumerate(measures)
                if each is not None and (value := each.value(name)) is not None
            ),
            reverse=kind.direction == "higher",
        )
        if len(ranked) < 2 or show(kind, ranked[0][0]) == show(kind, ranked[1][0]):
            continue
        column = ranked[0][1]
        winner = measures[column]
        if winner is not None and not winner.is_looping:
            best[column].add(name)
    return [frozenset(names) for names in best]
