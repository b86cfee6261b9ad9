"""The part of the Train place that moves around in what is shown: chart, samples, copies."""

from typing import ClassVar

from textual.binding import Binding, BindingType

from shakespeare_tui.ui.train.figures import RunNumbers, as_text
from shakespeare_tui.ui.train.samples import SamplesPane
from shakespeare_tui.ui.train.showing import ShowingScreen
from shakespeare_tui.ui.widgets.loss_chart import LossChart


class ViewingScreen(ShowingScreen):
    """Keys of the chart and the samples that work wherever the focus is."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("plus,equals_sign", "smooth(1)", "More smoothing", show=False, id="chart.smoother"),
        Binding("minus", "smooth(-1)", "Less smoothing", show=False, id="chart.rougher"),
        Binding("x", "log_steps", "Log/linear steps", show=False, id="chart.log_steps"),
        Binding("v", "log_loss", "Log/linear loss", show=False, id="chart.log_loss"),
        Binding("z", "zoom(0.5)", "Zoom in", show=False, id="train.zoom_in"),
        Binding("Z", "zoom(2.0)", "Zoom out", show=False, id="train.zoom_out"),
        Binding("0", "show_all", "Show all steps", show=False, id="train.show_all"),
        Binding("i", "pin", "Pin prompt", show=False, id="samples.pin"),
        Binding(
            "left_square_bracket", "scrub(-1)", "Previous sample", show=False, id="train.older"
        ),
        Binding("right_square_bracket", "scrub(1)", "Next sample", show=False, id="train.newer"),
        Binding("y", "copy_sample", "Copy sample", show=False, id="train.copy_sample"),
        Binding("Y", "copy_figures", "Copy figures", show=False, id="train.copy_figures"),
    ]

    # --- chart ---------------------------------------------------------------------------------

    def action_smooth(self, direction: int) -> None:
        """Smooth the loss more, or less."""
        self.lab.remember("train.smoothing", self.query_one(LossChart).change_smoothing(direction))

    def action_log_steps(self) -> None:
        """Switch the axis of steps between linear and logarithmic."""
        chart = self.query_one(LossChart)
        chart.toggle_log_steps()
        self.lab.remember("train.log_steps", chart.is_log_steps)

    def action_log_loss(self) -> None:
        """Switch the axis of losses between linear and logarithmic."""
        chart = self.query_one(LossChart)
        chart.toggle_log_loss()
        self.lab.remember("train.log_loss", chart.is_log_loss)

    def action_zoom(self, factor: float) -> None:
        """Show fewer or more steps."""
        self.query_one(LossChart).action_zoom(factor)

    def action_show_all(self) -> None:
        """Show the whole run."""
        self.query_one(LossChart).action_show_all()

    # --- samples -------------------------------------------------------------------------------

    def action_scrub(self, direction: int) -> None:
        """Go to an earlier or later sample."""
        self.query_one(SamplesPane).action_scrub(direction)

    def action_pin(self) -> None:
        """Show only samples of one prompt, or of all."""
        pane = self.query_one(SamplesPane)
        if pane.chosen is None:
            self.lab.say("there is no sample to pin yet")
        else:
            pinned = pane.toggle_pin()
            self.lab.say("all prompts" if pinned is None else f"only samples of {pinned!r}")

    def action_copy_sample(self) -> None:
        """Copy the sample on top, prompt and text."""
        sample = self.query_one(SamplesPane).chosen
        if sample is None:
            self.lab.say("there is no sample yet")
        else:
            self.lab.copy(sample.prompt + sample.text, f"the sample of step {sample.step:,}")

    def action_copy_figures(self) -> None:
        """Copy the figures, a line each."""
        self.lab.copy(as_text(self.query_one(RunNumbers).figures), "the figures")
