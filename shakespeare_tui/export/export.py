"""Export a model: check, write, verify and measure, and only then give the export its name."""

import contextlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shakespeare_tui import __version__
from shakespeare_tui.data.tokenizers.tokenizer import TokenArray
from shakespeare_tui.errors import RunFailedError, UserError, check_cancelled, never
from shakespeare_tui.export.registry import Format
from shakespeare_tui.export.source import ExportSource, Options
from shakespeare_tui.export.verify import (
    Verification,
    measured_perplexity,
    validation_tokens,
    verify,
)
from shakespeare_tui.files import atomic_folder, reason, write_json_atomically
from shakespeare_tui.formatting import format_bytes
from shakespeare_tui.machine import free_bytes
from shakespeare_tui.visible_text import visible

RECORD = "export.json"
"""In a folder that was exported: what it is. Without it, no folder is replaced."""


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What was written.

    Attributes:
        format: Its name.
        options: How.
        path: Where.
        size_bytes: Of the file, or of all files of the folder.
        load_seconds: To open it.
        verification: Against the model.
        perplexity: Of the validation part, by the export; None where it was not measured.
    """

    format: str
    options: Options
    path: Path
    size_bytes: int
    load_seconds: float
    verification: Verification
    perplexity: float | None

    @property
    def title(self) -> str:
        """The format with what is unusual about it."""
        words = [self.format, *([] if self.options.dtype == "float32" else [self.options.dtype])]
        words += ["with KV cache"] if self.options.kv_cache else []
        return " ".join(
            [*words, *([f"pruned {self.options.prune:g} %"] * bool(self.options.prune))]
        )

    def as_json(self) -> dict[str, Any]:
        """All figures."""
        return {
            "format": self.format,
            "dtype": self.options.dtype,
            "kv_cache": self.options.kv_cache,
            "pruned_per_cent": self.options.prune,
            "path": str(self.path),
            "bytes": self.size_bytes,
            "load_seconds": self.load_seconds,
            "tokens_per_second": self.verification.tokens_per_second,
            "perplexity": self.perplexity,
            "verification": self.verification.as_json(),
        }


def report_lines(done: Exported, before: float | None) -> list[str]:
    """What came of an export, in words.

    Args:
        done: The export.
        before: The model's own perplexity, where it was measured.
    """
    found = done.verification
    lengths = f"{len(found.lengths)} lengths from {found.lengths[0]} to {found.lengths[-1]:,}"
    lines = [
        f"{done.path}: {done.title}, {format_bytes(done.size_bytes)}, "
        f"loaded in {done.load_seconds:.2f} s, {found.tokens_per_second:,.0f} tokens/s",
        f"verified by {found.opened_by}: logits differ by at most {found.logit_difference:.2g} "
        f"({lengths}); greedy text {found.greedy_words}",
    ]
    if done.perplexity is not None:
        change = ""
        if before is not None:
            change = f", the model's {before:.4f} ({done.perplexity / before - 1:+.2%})"
        lines.append(f"perplexity {done.perplexity:.4f}{change}: exact, on the validation part")
    return lines


def check_target(target: Path, format_: Format, *, may_replace: bool) -> None:
    """Refuse a place that cannot or should not be written, before anything is computed.

    Raises:
        UserError: What is wrong, and what to do.
    """
    name = visible(str(target))
    parent = Path(os.path.abspath(target)).parent
    if not parent.is_dir():
        raise UserError(f"{name}: there is no folder {visible(str(parent))}; make it first")
    if not os.access(parent, os.W_OK):
        raise UserError(f"{name}: the folder cannot be written; name a place in another")
    if not os.path.lexists(target):
        return
    if not may_replace:
        raise UserError(f"{name} exists; name another place, or add --overwrite to replace it")
    if format_.is_folder != target.is_dir():
        what = "a folder" if target.is_dir() else "a file"
        needed = "a folder" if format_.is_folder else "a file"
        raise UserError(f"{name} is {what}, and {format_.name} is {needed}; name another place")
    if format_.is_folder and not is_replaceable(target):
        raise UserError(
            f"{name} is a folder that was not exported from here (it has no {RECORD}); name another"
        )


def is_replaceable(folder: Path) -> bool:
    """Whether a folder is an export, or empty."""
    return (folder / RECORD).is_file() or not any(folder.iterdir())


def check_disk(target: Path, needed: int) -> None:
    """Refuse what will not fit on the disk.

    Raises:
        UserError: It does not.
    """
    parent = Path(os.path.abspath(target)).parent
    with contextlib.suppress(OSError):
        free = free_bytes(parent)
        if needed > free:
            raise UserError(
                f"the export takes about {format_bytes(needed)}, and {format_bytes(free)} are free "
                f"in {visible(str(parent))}; free some space, or name a place on another disk"
            )


@contextlib.contextmanager
def replacing(target: Path, *, is_folder: bool) -> Iterator[Path]:
    """Yield a place whose content becomes ``target`` when the block ends without an error.

    A file is to be written there; a folder is there and empty. Whatever goes wrong, nothing is left
    beside ``target``, which stays as it was.
    """
    target = Path(os.path.realpath(target))
    with tempfile.TemporaryDirectory(prefix=f".{target.name[:48]}.", dir=target.parent) as holder:
        made = Path(holder, "new")
        with atomic_folder(made) as folder:
            yield folder if is_folder else folder / target.name
        if is_folder and target.exists():
            os.rename(target, Path(holder, "replaced"))
        os.replace(made if is_folder else made / target.name, target)


@contextlib.contextmanager
def disk_errors_told(target: Path) -> Iterator[None]:
    """What the disk refuses, a full one for example, in one line.

    Raises:
        RunFailedError: In the place of an ``OSError`` of the block.
    """
    try:
        yield
    except OSError as error:
        raise RunFailedError(
            f"{visible(str(target))} cannot be written: {reason(error)}; nothing was left behind"
        ) from None


def export_and_compare(
    source: ExportSource,
    format_: Format,
    options: Options,
    target: Path,
    *,
    measures: bool = False,
    notice: Callable[[str], None] = lambda text: None,
    report: Callable[[str], None] = lambda what: None,
    progressed: Callable[[int, int], None] = lambda done, total: None,
    cancelled: Callable[[], bool] = never,
) -> tuple[Exported, float | None]:
    """``export``, with perplexities where weights are rounded or left out, or where it is asked.

    Args:
        source: What.
        format_: As what.
        options: How.
        target: Where; what is there already is replaced.
        measures: Measure the perplexity of an exact export, too.
        notice: Told what is to be known of the figures.
        report: As of ``export``.
        progressed: As of ``export``.
        cancelled: As of ``export``.

    Returns:
        The export, and the perplexity of the model itself where it may be another.

    Raises:
        UserError: As of ``export``, which raises all that this does.
    """
    format_.load().check(source, options)
    is_rounded = format_.is_rounded or not options.is_exact
    validation = validation_tokens(source, notice) if measures or is_rounded else None
    done = export(
        source,
        format_,
        options,
        target,
        validation=validation,
        report=report,
        progressed=progressed,
        cancelled=cancelled,
    )
    if validation is None or not is_rounded:
        return done, None
    report("measuring the model")
    return done, measured_perplexity(source.model, validation, progressed, cancelled)


def export(
    source: ExportSource,
    format_: Format,
    options: Options,
    target: Path,
    *,
    validation: TokenArray | None = None,
    report: Callable[[str], None] = lambda what: None,
    progressed: Callable[[int, int], None] = lambda done, total: None,
    cancelled: Callable[[], bool] = never,
) -> Exported:
    """Write, verify and measure.

    Args:
        source: What.
        format_: As what.
        options: How.
        target: Where; what is there already is replaced.
        validation: Tokens to measure the perplexity of; None does not.
        report: Told what is being done.
        progressed: Told how many of how many validation tokens have been measured.
        cancelled: Polled between the parts.

    Raises:
        UserError: The format cannot express the model, or a package is missing.
        RunFailedError: What was written computes something else.
        CancelledError: ``cancelled`` became true.
        OSError: The disk is full.
    """
    exporter = format_.load()
    exporter.check(source, options)
    with replacing(target, is_folder=format_.is_folder) as place:
        report("writing")
        exporter.write(source, options, place)
        check_cancelled(cancelled, "the export")
        size = size_of(place)
        report("verifying")
        started = time.perf_counter()
        reopened = exporter.reopen(source, options, place)
        seconds = time.perf_counter() - started
        is_exact = options.is_exact and not format_.is_rounded
        verification = verify(source, reopened, is_exact=is_exact, cancelled=cancelled)
        perplexity = None
        if validation is not None:
            report("measuring")
            perplexity = measured_perplexity(reopened.model, validation, progressed, cancelled)
        del reopened
        result = Exported(
            format=format_.name,
            options=options,
            path=target,
            size_bytes=size,
            load_seconds=seconds,
            verification=verification,
            perplexity=perplexity,
        )
        if format_.is_folder:
            write_record(place, source, {**result.as_json(), "path": None})
    return result


def write_record(folder: Path, source: ExportSource, what: dict[str, Any]) -> None:
    """Say what a folder is, in ``export.json``."""
    origin = {
        "program": f"shakespeare-tui {__version__}",
        "checkpoint": source.checkpoint.reference,
    }
    write_json_atomically(folder / RECORD, origin | what)


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())
