"""``runs show``: all that is known of one run."""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shakespeare_tui.cli.console import print_grid, print_json, print_result, print_table, say
from shakespeare_tui.errors import UserError
from shakespeare_tui.formatting import (
    format_accuracy,
    format_bytes,
    format_duration,
    format_loss,
)
from shakespeare_tui.models.parameters import (
    REPORT_TITLES,
    SIZE_TYPES,
    Component,
    ParameterReport,
    layer_title,
    parameter_report,
)
from shakespeare_tui.runs.catalog import RunCatalog
from shakespeare_tui.runs.compare.items import CheckpointItem, items_of
from shakespeare_tui.runs.compare.settings import differing_paths, preset_of, preset_texts
from shakespeare_tui.runs.event_log import read_events
from shakespeare_tui.runs.events import LayerStatistics
from shakespeare_tui.runs.folder import RunFolder, find_checkpoint, find_run, pretrained_note
from shakespeare_tui.runs.losses import Loss, bits_per_byte, perplexity
from shakespeare_tui.visible_text import visible

if TYPE_CHECKING:
    from rich.table import Table


def show_run(references: Sequence[str], *, as_json: bool) -> int:
    """Print one run; of its checkpoints the named one, or else the best, in detail."""
    from shakespeare_tui.paths import runs_folder

    if len(references) != 1:
        raise UserError("name one run, or one of its checkpoints: runs show RUN[@best|@last|@STEP]")
    run, step = _find(references[0], runs_folder())
    root = Path(os.path.abspath(run.path)).parent
    items = items_of(RunCatalog(root).entries())
    own = [item for item in items if item.run.name == run.name]
    chosen = next((item for item in own if _step(item) == step), own[0])
    report = None
    if chosen.run.info is not None and chosen.run.config is not None:
        config = chosen.run.config
        report = parameter_report(config.model, chosen.run.info.vocab_size, config.training)
    record = _record(run, chosen, own, items, report)
    if as_json:
        print_json(record)
    else:
        _print(record, chosen, report)
    return 0


def _find(reference: str, root: Path) -> tuple[RunFolder, int | None]:
    """The run, and the step that is meant; None where it has no checkpoint that can be used."""
    try:
        checkpoint = find_checkpoint(reference, root)
    except UserError:
        run = find_run(reference, root)  # where there is none, this says so
        if run.steps() and "@" in reference:
            raise
        return run, None
    return checkpoint.run, checkpoint.info.step


def _step(item: CheckpointItem) -> int | None:
    return item.checkpoint.step if item.checkpoint else None


def _record(
    run: RunFolder,
    chosen: CheckpointItem,
    own: Sequence[CheckpointItem],
    items: Sequence[CheckpointItem],
    report: ParameterReport | None,
) -> dict[str, Any]:
    """All of it as JSON has it; losses in nats a token, sizes in bytes, times in Unix seconds."""
    entry, info = chosen.run, chosen.run.info
    preset, changed = None, None
    if entry.texts is not None:
        preset = preset_of(entry.name, entry.former_names, entry.texts)
        theirs = preset_texts(preset)
        changed = {
            path: {"value": entry.texts[path], "preset": theirs[path]}
            for path in differing_paths(entry.texts, theirs)
        }
    return {
        "name": entry.name,
        "path": str(entry.path),
        "state": entry.state,
        "step": entry.step,
        "problem": entry.problem,
        "created": entry.created,
        "program_version": info.program_version if info else None,
        "note": entry.notes.note or None,
        "former_names": [former.name for former in entry.former_names],
        "parents": list(_parents(chosen, items)),
        "children": sorted({i.run.name for i in items if _parent_name(i) == entry.name}),
        "teachers": list(chosen.teachers),
        "students": sorted({i.run.name for i in items if entry.name in _names(i.teachers)}),
        "pretrained": info.pretrained if info else None,
        "experiment": info.experiment if info else None,
        "variant": info.variant if info else None,
        "preset": preset,
        "changed": changed,
        "config": None if entry.config is None else entry.config.by_path(),
        "corpus": info
        and {"name": info.corpus, "characters": info.characters, "sha256": info.corpus_sha256},
        "tokenizer": info
        and {
            "kind": entry.config.data.tokenizer if entry.config else None,
            "vocab_size": info.vocab_size,
            "bytes_per_token": info.bytes_per_token,
            "sha256": info.tokenizer_sha256,
        },
        "parameters": None if report is None else _report_record(report),
        "checkpoint": None if chosen.checkpoint is None else _checkpoint_record(chosen),
        "checkpoints": [_checkpoint_record(item) for item in own if item.checkpoint],
        "shared_bytes": run.frozen_path.stat().st_size if run.frozen_path.is_file() else 0,
        "layers": _layers_record(run),
    }


def _parents(item: CheckpointItem, items: Sequence[CheckpointItem]) -> Iterator[str]:
    """The checkpoints that the weights came from, the nearest first."""
    parents = {each.run.name: each.parent for each in items}
    seen = {item.run.name}
    parent = item.parent
    while parent is not None:
        yield parent
        name = parent.rpartition("@")[0]
        parent = None if name in seen else parents.get(name)
        seen.add(name)


def _parent_name(item: CheckpointItem) -> str | None:
    return item.parent.rpartition("@")[0] if item.parent else None


def _names(references: Sequence[str]) -> list[str]:
    return [reference.rpartition("@")[0] for reference in references]


def _checkpoint_record(item: CheckpointItem) -> dict[str, Any]:
    checkpoint = item.checkpoint
    assert checkpoint is not None
    info, size = checkpoint.info, item.unit.bytes_per_token
    return {
        "reference": checkpoint.reference,
        "step": checkpoint.step if checkpoint.step >= 0 else None,
        "is_best": checkpoint.is_best,
        "is_last": checkpoint.is_last,
        "problem": checkpoint.problem,
        "losses": [_loss_record(loss, size) for loss in item.losses],
        "train_loss": item.train_loss,
        "size_bytes": checkpoint.size_bytes,
        "time": info.time if info else None,
        "elapsed_seconds": info.elapsed_seconds if info else None,
    }


def _loss_record(loss: Loss, bytes_per_token: float | None) -> dict[str, Any]:
    return {
        "protocol": loss.protocol or None,
        "loss": loss.value,
        "perplexity": perplexity(loss.value),
        "bits_per_byte": bits_per_byte(loss.value, bytes_per_token) if bytes_per_token else None,
        "accuracy": loss.accuracy,
    }


def _report_record(report: ParameterReport) -> dict[str, Any]:
    def part(component: Component) -> dict[str, Any]:
        sizes = {kind: component.size_bytes(kind) for kind in SIZE_TYPES}
        return {"count": component.parameters, "trained": component.trained, "bytes": sizes}

    return {
        "components": {name: part(component) for name, component in report.components.items()},
        "model": part(report.model),
        "adapters": part(report.adapters) if report.adapters.parameters else None,
        "trained": report.trained,
        "trained_share": report.trained_share,
    }


def _layers_record(run: RunFolder) -> dict[str, Any] | None:
    """How strongly each layer learned when that was measured last."""
    last = None
    try:
        for event in read_events(run.events_path):
            if isinstance(event, LayerStatistics):
                last = event
    except OSError as error:
        say(f"{run.events_path.name} cannot be read: {error.strerror or error}")
    return None if last is None else asdict(last)


def _print(
    record: Mapping[str, Any], chosen: CheckpointItem, report: ParameterReport | None
) -> None:
    rows = [(name, value) for name, value in _summary(record, chosen) if value]
    print_grid(rows)
    if report is not None:
        print_result("\nparameters")
        print_table(_table(REPORT_TITLES, report.rows()))
        if report.adapters.parameters:
            print_result(
                f"{report.trained_share:.2%} are trained: adapters, which are added to the "
                "matrices where the model is used"
            )
    if record["checkpoints"]:
        shared = record["shared_bytes"]
        besides = f", and {format_bytes(shared)} that they share" if shared else ""
        print_result(f"\ncheckpoints{besides}")
        titles = ("step", "val loss", "protocol", "bits/byte", "accuracy", "train", "size", "")
        print_table(_table(titles, map(_checkpoint_row, record["checkpoints"])))
    if (layers := record["layers"]) is not None:
        print_result(f"\nlayers at step {layers['step']:,}")
        each = zip(layers["layers"], layers["grad_norms"], layers["update_ratios"], strict=False)
        cells = [(layer_title(name), _figure(norm), _figure(ratio)) for name, norm, ratio in each]
        print_table(_table(("", "gradient", "update/weight"), cells))
    if chosen.run.info is not None and chosen.run.info.pretrained is not None:
        say(f"note: {pretrained_note(chosen.run.info.pretrained)}")


def _summary(record: Mapping[str, Any], chosen: CheckpointItem) -> Iterator[tuple[str, str]]:
    """Names and values; those without a value are for nobody to read."""
    info, now = chosen.run.info, time.time()
    step = "" if record["step"] is None else f", step {record['step']:,}"
    age = format_duration(max(0.0, now - record["created"]))
    version = f", with {record['program_version']}" if record["program_version"] else ""
    yield "run", record["name"]
    yield "", record["path"]
    yield "state", f"{record['state']}{step}; made {age} ago{version}"
    yield "problem", record["problem"] or ""
    yield "note", record["note"] or ""
    yield "formerly", ", ".join(record["former_names"])
    yield "from", " ← ".join(record["parents"])
    yield "imported from", record["pretrained"] or ""
    yield "continued by", ", ".join(record["children"])
    yield "taught by", ", ".join(record["teachers"])
    yield "teacher of", ", ".join(record["students"])
    yield "experiment", ": ".join(filter(None, (record["experiment"], record["variant"])))
    if record["changed"] is not None:
        changes = (
            f"{path.partition('.')[2]}={change['value'] or 'empty'}"
            for path, change in record["changed"].items()
        )
        yield "config", f"{record['preset']} {' '.join(changes)}".strip()
    if info is not None:
        if info.corpus:
            yield "corpus", f"{info.corpus}, {info.characters:,} characters"
        size = "" if info.bytes_per_token is None else f", {info.bytes_per_token:.2f} bytes a token"
        kind = record["tokenizer"]["kind"] or ""
        yield "tokenizer", f"{kind} of {info.vocab_size:,} tokens{size}".strip()
    found = record["checkpoint"]
    if found is None:
        yield "checkpoint", "none yet"
        return
    marks = _marks(found)
    yield "checkpoint", f"{found['reference']}{f' ({marks})' if marks else ''}"
    yield "", found["problem"] or ""
    for loss in found["losses"]:
        yield "val loss", ", ".join(_loss_words(loss))
    if found["train_loss"] is not None:
        yield "train loss", format_loss(found["train_loss"])
    if found["elapsed_seconds"]:
        yield "trained for", format_duration(found["elapsed_seconds"])


def _loss_words(loss: Mapping[str, Any]) -> Iterator[str]:
    yield f"{format_loss(loss['loss'])} ({loss['protocol'] or 'protocol unknown'})"
    if loss["bits_per_byte"] is not None:
        yield f"{loss['bits_per_byte']:.4f} bits per byte"
    if loss["perplexity"] is not None:
        yield f"perplexity {loss['perplexity']:.2f}"
    if loss["accuracy"] is not None:
        yield f"accuracy {format_accuracy(loss['accuracy'])}"


def _marks(record: Mapping[str, Any]) -> str:
    return " ".join(word for word in ("best", "last") if record[f"is_{word}"])


def _checkpoint_row(record: Mapping[str, Any]) -> tuple[str, ...]:
    loss: Mapping[str, Any] = next(iter(record["losses"]), {})
    return (
        record["reference"] if record["step"] is None else f"{record['step']:,}",
        format_loss(loss.get("loss")),
        loss.get("protocol") or "-",
        format_loss(loss.get("bits_per_byte")),
        format_accuracy(loss.get("accuracy")),
        format_loss(record["train_loss"]),
        format_bytes(record["size_bytes"]),
        record["problem"] or _marks(record),
    )


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.2e}"


def _table(
    titles: Sequence[str], rows: "Iterator[Sequence[str]] | Sequence[Sequence[str]]"
) -> "Table":
    """Numbers to the right; the first and the last column are words where they have no title."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for title in titles:
        is_text = title in ("", "protocol")
        table.add_column(title, justify="left" if is_text else "right", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(visible(cell)) for cell in row))
    return table
