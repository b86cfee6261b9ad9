"""Where the Checkpoints screen reaches exports: what fits a checkpoint, and an export under way."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from shakespeare_tui.errors import UserError, check_cancelled


@dataclass(frozen=True, kw_only=True)
class ExportRequest:
    """One export.

    Attributes:
        runs_root: The folder of all runs.
        reference: The checkpoint, ``RUN@STEP``.
        format: Its name.
        dtype: Of the weights.
        kv_cache: Give keys and values in and out (ONNX).
        prune: Per cent of weights to leave out (safetensors).
        target: Where; what is there is replaced.
    """

    runs_root: Path
    reference: str
    format: str
    dtype: str
    kv_cache: bool = False
    prune: float = 0.0
    target: Path


@dataclass
class ExportProgress:
    """What an export is at; the thread that exports sets it, the screen reads it.

    Attributes:
        what: In words.
        done: Of the tokens that are measured.
        total: All of these; 0 while none are.
    """

    what: str = ""
    done: int = 0
    total: int = 0

    def begin(self, what: str) -> None:
        """Say what is done now."""
        self.what, self.done, self.total = what, 0, 0

    def measured(self, done: int, total: int) -> None:
        """Say how many tokens have been measured."""
        self.done, self.total = done, total


def unfit_formats(
    reference: str, runs_root: Path, cancelled: Callable[[], bool]
) -> Mapping[str, str]:
    """Why a checkpoint cannot be written in a format, by those formats' names.

    Raises:
        UserError: The checkpoint is damaged, or does not fit into memory.
        CancelledError: ``cancelled`` became true.
    """
    from shakespeare_tui.export.registry import FORMATS
    from shakespeare_tui.export.source import open_source
    from shakespeare_tui.runs.folder import find_checkpoint

    source = open_source(find_checkpoint(reference, runs_root), cancelled)
    found = {}
    for name, format_ in FORMATS.items():
        for dtype in format_.dtypes:
            check_cancelled(cancelled, "looking for formats")
            try:
                format_.load().check(source, format_.options(dtype))
            except UserError as error:
                found[name] = str(error)
            else:
                found.pop(name, None)
                break
    return found


def export_checkpoint(
    request: ExportRequest, progress: ExportProgress, cancelled: Callable[[], bool]
) -> list[str]:
    """Write, verify and measure; returns what came of it, in lines.

    Raises:
        UserError: The format cannot express the model, or the target cannot be written.
        RunFailedError: The disk is full, or what was written computes something else.
        CancelledError: ``cancelled`` became true.
    """
    from shakespeare_tui.export.export import (
        check_disk,
        check_target,
        disk_errors_told,
        export_and_compare,
        report_lines,
    )
    from shakespeare_tui.export.registry import find_format
    from shakespeare_tui.export.source import open_source
    from shakespeare_tui.runs.folder import find_checkpoint

    format_ = find_format(request.format)
    options = format_.options(request.dtype, kv_cache=request.kv_cache, prune=request.prune)
    check_target(request.target, format_, may_replace=True)
    checkpoint = find_checkpoint(request.reference, request.runs_root)
    check_disk(request.target, checkpoint.weights_path.stat().st_size)
    progress.begin("reading the checkpoint")
    source = open_source(checkpoint, cancelled)
    notes: list[str] = []
    with disk_errors_told(request.target):
        done, before = export_and_compare(
            source,
            format_,
            options,
            request.target,
            notice=notes.append,
            report=progress.begin,
            progressed=progress.measured,
            cancelled=cancelled,
        )
    return [*report_lines(done, before), *notes]
