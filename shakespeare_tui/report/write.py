"""Writes a report: one page that holds everything, a Markdown text, and pictures as PNG files."""

import re
import shutil
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from shakespeare_tui.errors import UserError
from shakespeare_tui.experiments.table import ExperimentTable
from shakespeare_tui.files import atomic_folder
from shakespeare_tui.report.content import Report
from shakespeare_tui.report.pictures import DARK, LIGHT, Pictures, colour_names

if TYPE_CHECKING:
    from jinja2 import Template

PAGE, TEXT = "report.html", "report.md"


def check_folder(folder: Path) -> None:
    """Refuse a folder that holds anything but an earlier report.

    Raises:
        UserError: It does.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file; name another folder with --output")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / PAGE).is_file():
        raise UserError(f"{folder} holds other files; name another folder with --output")


def write_report(report: Report, table: ExperimentTable, folder: Path) -> list[Path]:
    """Write a report into a folder, in place of an earlier one; nothing is left half written.

    Returns:
        The files: the page, the text, and two pictures of each section that has one.

    Raises:
        UserError: matplotlib or jinja2 is not installed, or the folder holds something else.
    """
    check_folder(folder)
    pictures = Pictures(report, table)
    names = [section.picture for section in report.sections if section.picture]
    with atomic_folder(folder.with_name(f".{folder.name}.new")) as unnamed:
        drawn = {name: pictures.svg(name) for name in names}
        (unnamed / PAGE).write_text(_page(report, drawn), encoding="utf-8")
        (unnamed / TEXT).write_text(_text(report), encoding="utf-8")
        for name in names:
            (unnamed / f"{name}.png").write_bytes(pictures.png(name, LIGHT))
            (unnamed / f"{name}-dark.png").write_bytes(pictures.png(name, DARK))
    if folder.is_dir():
        shutil.rmtree(folder)
    folder.with_name(f".{folder.name}.new").rename(folder)
    return [folder / PAGE, folder / TEXT, *sorted(folder.glob("*.png"))]


def _page(report: Report, drawn: dict[str, str]) -> str:
    from markupsafe import Markup

    runs = {row.cells[0] for s in report.sections if s.name == "runs" for row in s.tables[0].rows}

    def linked(text: str) -> Markup:
        """A text whose words that name runs lead to the list of runs."""
        parts = re.split(r"([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9_-])?)", text)
        made = (
            f'<a href="#run-{escape(part)}">{escape(part)}</a>' if part in runs else escape(part)
            for part in parts
        )
        return Markup("".join(made))  # each part is escaped

    return _template("report.html", is_html=True).render(
        report=report,
        pictures={name: Markup(svg) for name, svg in drawn.items()},
        linked=linked,
        light=colour_names(LIGHT),
        dark=colour_names(DARK),
    )


def _text(report: Report) -> str:
    text = _template("report.md", is_html=False).render(report=report)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def _template(name: str, *, is_html: bool) -> "Template":
    try:
        import jinja2
    except ImportError:
        raise UserError(
            "a report takes packages that are not installed: pip install 'shakespeare-tui[report]'"
        ) from None
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=is_html,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["cell"] = _markdown_cell
    environment.filters["fence"] = _fence
    return environment.get_template(name)


def _markdown_cell(text: str) -> str:
    """A text that stays in its cell of a Markdown table, and is not taken for markup."""
    escaped = re.sub(r"([\\`*_\[\]<>|~])", r"\\\1", text)
    return " ".join(escaped.split()) or " "


def _fence(text: str) -> str:
    """A fence longer than any in the text."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    return "`" * max(3, longest + 1)
