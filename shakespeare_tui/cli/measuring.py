"""Find what a run's texts are measured against."""

from typing import TYPE_CHECKING

from shakespeare_tui.cli.console import progress, say

if TYPE_CHECKING:
    from shakespeare_tui.measures import CorpusReference
    from shakespeare_tui.runs.folder import RunFolder


def reference_of(run: "RunFolder") -> "CorpusReference | None":
    """The run's training split; without it a text is measured as far as that goes, and says so."""
    from shakespeare_tui.measures import reference_for_run

    with progress("indexing the corpus", "characters") as report:
        reference = reference_for_run(
            run, report, notice=lambda reason: say(f"copies are not looked for: {reason}")
        )
    if reference is not None and not reference.is_whole:
        say(
            f"copies are looked for in the first {reference.indexed_characters:,} of "
            f"{reference.characters:,} characters of the training split"
        )
    return reference
