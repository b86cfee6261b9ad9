"""The words of the status line, made from the controller and nothing else."""

from textual.content import Content

from shakespeare_tui.formatting import format_duration, format_loss
from shakespeare_tui.runs.run_state import STATE_LOOKS, RunState
from shakespeare_tui.ui.engine.training import TrainingController

STATE_MARKS: dict[str, tuple[str, str]] = {
    **{
        state: (f"{sign} {state}", f"$text-{tone}" if tone == "muted" else f"${tone}")
        for state, (sign, tone) in STATE_LOOKS.items()
    },
    "starting": ("… starting", "$warning"),
    "stopping": ("▪ saving", "$warning"),
}
"""What a run, or the trainer of this process, is doing: its words and their style."""
_SEPARATOR = "   "


def state_content(state: RunState) -> Content:
    """A run's state in its colour."""
    return Content.styled(*STATE_MARKS[state])


def status_content(training: TrainingController) -> Content:
    """What training is doing: the run, its step, loss and time left; a hint where nothing runs."""
    if training.state == "idle":
        if training.elsewhere and not training.message:
            text = f"{training.elsewhere} is being trained by another process · ? for help"
            return Content.styled(text, "$text-muted")
        what = training.message or "no run in training"
        return Content.styled(f"{what} · 3 then s starts a run · ? for help", "$text-muted")
    mark, style = STATE_MARKS[training.shown_state]
    parts = [Content.styled(mark, style)]
    if training.run_name:
        parts.append(Content.styled(training.run_name, "bold"))
    if training.state == "starting":
        parts.append(Content.styled(_setup(training), "$text-muted"))
    elif training.state == "failed":
        parts.append(Content(" ".join(training.shown_message.split())))
    else:
        parts += [
            Content.assemble((label, "$text-muted"), (" " if label else ""), value)
            for label, value in _figures(training)
        ]
    return Content(_SEPARATOR).join(parts)


def _setup(training: TrainingController) -> str:
    step = training.setup
    if step is None:
        return "loading torch and the corpus"
    return step.what + (f" {step.done / step.total:.0%}" if step.total else "")


def _figures(training: TrainingController) -> list[tuple[str, str]]:
    from shakespeare_tui.runs.figures import run_figures

    figures = run_figures(training.history)
    total = f"/{figures.total_steps:,}" if figures.total_steps else ""
    found = [("step", f"{figures.step:,}{total}")]
    if figures.train_loss is not None:
        found.append(("train", format_loss(figures.train_loss)))
    if figures.val is not None:
        found.append(("val", figures.val.short))
    evaluating = training.history.evaluating
    if evaluating is not None:
        found.append(("measuring", f"{evaluating.done / max(1, evaluating.total):.0%}"))
    if figures.seconds_left is not None and training.state == "running":
        found.append(("left", format_duration(figures.seconds_left)))
    return found
