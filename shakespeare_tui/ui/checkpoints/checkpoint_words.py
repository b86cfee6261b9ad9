"""What is said below the table of checkpoints: about a line, and which checkpoint is best."""

from textual.content import Content

from shakespeare_tui.runs.compare.differences import Texts, describe_differences
from shakespeare_tui.runs.compare.recommendation import Recommendation
from shakespeare_tui.ui.checkpoints.checkpoint_cells import TableLine, settings_text
from shakespeare_tui.ui.lab_words import in_lab


def recommendation_text(advice: Recommendation, note: str) -> Content:
    """The recommended checkpoint, why it is, what speaks against it; ``note`` comes last."""
    text = Content.assemble(
        ("★ ", "bold $success"), (advice.item.key, "bold"), f"  {advice.reason}"
    )
    for warning in advice.warnings:
        text = text + Content.assemble("\n", ("! ", "bold $warning"), (warning, "$warning"))
    if advice.alternative is not None:
        loss = advice.alternative.loss
        text = text + Content(f"; without that: {advice.alternative.key} ({loss})")
    for line in advice.left_out:
        text = text + Content.styled(f"\n{in_lab(line)}", "$text-muted")
    if note:
        text = text + Content.styled(f"\n{note}", "$text-muted")
    return text


def about_text(line: TableLine, marked: tuple[str, Texts] | None) -> Content:
    """What a line's cells have no room for.

    Args:
        line: The line.
        marked: The run of the first marked checkpoint and its settings, to compare with.
    """
    item = line.item
    run = item.run
    problem = item.problem if line.kind == "checkpoint" else run.problem
    if problem is not None:
        return Content.styled(problem, "$error")
    facts = [item.key if line.kind == "checkpoint" else run.name]
    if item.parent:
        facts.append(f"from {item.parent}")
    if item.config is not None:
        facts.append(settings_text(item))
        if marked is not None and marked[0] != run.name:
            differences = describe_differences(item.config, marked[1])
            facts.append(f"against {marked[0]}: {differences or 'the same settings'}")
    if item.rating is not None and line.kind == "checkpoint":
        games = item.rating.games
        facts.append(f"Elo {item.rating} by {games} verdict{'s' if games != 1 else ''}")
    if run.notes.note:
        facts.append(f"“{run.notes.note}”")
    return Content.styled(" · ".join(facts), "$text-muted")
