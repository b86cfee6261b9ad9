"""Texts as if checkpoints had written them: by the step, without a model."""

import threading

from shakespeare_tui.errors import CancelledError, UserError
from shakespeare_tui.measures import measure_text
from shakespeare_tui.ui.engine.generation import GenerationJob, GenerationRequest

GROWING = (
    "\nhe tan hesthe [b]wour[/b] shit in, the mand fo wher\nA the sor ind he tis ar theand",
    "\nWhat is the his wither the shall do me the stand,\nAnd the stoul that of my lears.\n",
    "\nWhat is the king that shall be so much spoke,\nAnd let the world of my heart be done.\n\n"
    "JULIET:\nI would not have thee [b]stay[/b].",
    "\nWhat is the king that shall be so well spoke,\nAnd let the world upon my heart be done.\n\n"
    "JULIET:\nI would not have thee [b]stay[/b], nor bid thee go.",
)


class ScriptedWriting:
    """Stands where the engine is; ``calls`` are the requests in order."""

    def __init__(self) -> None:
        self.calls: list[GenerationRequest] = []
        self.failing: set[str] = set()
        self.go_on = threading.Event()
        self.go_on.set()

    def __call__(self, request: GenerationRequest, job: GenerationJob) -> None:
        self.calls.append(request)
        if request.reference in self.failing:
            raise UserError("the prompt has a [b] that the model does not know")
        text = self.text(request)
        job.add([text[:20]], 0.1)
        while not self.go_on.wait(0.01):
            if job.stop_requested():
                raise CancelledError
        job.add([text[20:]], 0.2)
        job.measure(0, measure_text(request.prompt + text, None, len(request.prompt)))

    @staticmethod
    def text(request: GenerationRequest) -> str:
        """The later the step, the better the text; another seed ends otherwise."""
        step = int(request.reference.rpartition("@")[2])
        text = GROWING[min(step // 501, len(GROWING) - 1)]
        return text if request.seed == 42 else f"{text} {request.seed}"
