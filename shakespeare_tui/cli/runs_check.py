"""``runs check``: verify all that runs hold, and say what can be used."""

from dataclasses import asdict
from typing import TYPE_CHECKING

from shakespeare_tui.cli.console import print_json, print_result, say

if TYPE_CHECKING:
    from shakespeare_tui.training.verify import CheckpointCheck, RunCheck


def check_runs(names: list[str], *, as_json: bool) -> int:
    """Check the named runs, or all; 1 where anything is wrong."""
    from shakespeare_tui.paths import runs_folder
    from shakespeare_tui.runs.catalog import RunCatalog
    from shakespeare_tui.runs.folder import RunFolder, find_run
    from shakespeare_tui.training.verify import RunCheck, check_run

    root = runs_folder()
    if names:
        checks = [check_run(find_run(name, root)) for name in names]
    else:
        checks = [
            check_run(RunFolder(entry.path))
            if entry.info
            else RunCheck(name=entry.name, path=str(entry.path), problem=entry.problem)
            for entry in RunCatalog(root).entries()
        ]
    is_good = all(check.is_good for check in checks)
    if as_json:
        runs = [asdict(check) | {"is_good": check.is_good} for check in checks]
        print_json({"runs": runs, "is_good": is_good})
    else:
        for check in checks:
            print_result("\n".join(_check_lines(check)))
        if not checks:
            say(f"no runs in {root} yet; make one with: shakespeare-tui train --no-ui")
    return 0 if is_good else 1


def _check_lines(check: "RunCheck") -> list[str]:
    lines = [check.name if check.problem is None else f"{check.name}: {check.problem}"]
    lines += [
        f"  {checkpoint.reference}  {_verdict(checkpoint)}" for checkpoint in check.checkpoints
    ]
    if check.resumes_from is not None:
        lines.append(f"  resumes from step {check.resumes_from:,}")
    elif check.checkpoints:
        lines.append("  cannot be resumed")
    elif check.problem is None:
        lines.append("  no checkpoint yet")
    return lines


def _verdict(checkpoint: "CheckpointCheck") -> str:
    if checkpoint.problem is None and not checkpoint.resumes:
        return "generates text"
    if checkpoint.problem is None:
        return "good" if checkpoint.has_digests else "good, as far as can be told without digests"
    use = "generates text, cannot be resumed" if checkpoint.generates else "cannot be used"
    return f"{use}: {checkpoint.problem}"
