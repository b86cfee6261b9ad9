"""What to train, as the command line, the lab and the library ask for it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from shakespeare_tui.errors import UserError

if TYPE_CHECKING:
    from shakespeare_tui.config.schema import Config


def text_of(config: "Config") -> tuple[str, ...]:
    """What another config must be changed by to have the same training and validation text."""
    data = config.data
    return (
        f"data.corpus={json.dumps(data.corpus)}",
        f"data.validation={json.dumps(data.validation)}",
        f"data.val_fraction={data.val_fraction!r}",
    )


@dataclass(frozen=True, kw_only=True)
class TrainingRequest:
    """A new run of ``config``, or the run ``resume`` as it was left.

    Attributes:
        root: Folder of all runs.
        config: What to train.
        name: The new run's name; None numbers ``stem``.
        stem: What unnamed runs are called.
        start_from: Take the weights and tokenizer of this checkpoint (fine-tuning); its model must
            have the same shape.
        teachers: Learn from the mean probabilities of these checkpoints too (distillation); their
            tokenizer is taken.
        fallback_to_sample: Train on the shipped sample where the corpus cannot be had.
        resume: ``RUN`` (its last checkpoint) or ``RUN@STEP``; later checkpoints are then removed,
            since they come again.
        overrides: ``section.key=value`` changes of a resumed run, to train longer for example.
        experiment: The experiment that a new run belongs to.
        variant: What tells it from the others of that.
        notice: Is said when a new run begins, of what was chosen for it; empty for nothing.
    """

    root: Path
    config: "Config | None" = None
    name: str | None = None
    stem: str = "run"
    start_from: str | None = None
    teachers: tuple[str, ...] = ()
    fallback_to_sample: bool = False
    resume: str | None = None
    overrides: tuple[str, ...] = ()
    experiment: str | None = None
    variant: str | None = None
    notice: str = ""

    @property
    def resume_point(self) -> tuple[str, str]:
        """The run to be resumed, and the step or ``last`` that was asked for; empty for none."""
        resume = self.resume or ""
        name, _, step = resume.rpartition("@") if "@" in resume else (resume, "", "")
        return name, step

    def check(self) -> None:
        """Refuse what names no run or a taken one, before anything is fetched or made.

        Raises:
            UserError: It does.
        """
        from shakespeare_tui.runs.folder import check_new_name, find_checkpoint, find_run

        if self.resume is not None:
            find_run(self.resume_point[0], self.root)
        elif self.config is None:
            raise UserError("there is no config to train; choose one on the Config screen")
        if self.name is not None:
            check_new_name(self.name, self.root)
        for reference in (*([] if self.start_from is None else [self.start_from]), *self.teachers):
            find_checkpoint(reference, self.root)
