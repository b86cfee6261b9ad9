"""A report of a small experiment: what it says, that it stands alone, and what it refuses."""

import dataclasses
import json
import re
import statistics
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest
from real_cli import CommandLine
from small_experiments import prepare, table_of, train

from shakespeare_tui.cli.main import main
from shakespeare_tui.config.load import load_config
from shakespeare_tui.data.source import locate_corpus
from shakespeare_tui.experiments.folder import ExperimentFolder
from shakespeare_tui.experiments.table import Spread, table_of_runs
from shakespeare_tui.report.content import gap_verdict, report_of
from shakespeare_tui.report.pictures import Pictures
from shakespeare_tui.report.readings import published_figures, welch_interval
from shakespeare_tui.runs.catalog import RunCatalog
from shakespeare_tui.runs.folder import find_run

RUNS = ("micro-1", "micro-2", "micro-3", "micro-4")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two widths with two seeds each, and their report in ``report``."""
    home = tmp_path_factory.mktemp("reported")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHAKESPEARE_TUI_CACHE", str(home / "cache"))
        patch.setenv("SHAKESPEARE_TUI_RUNS", str(home / "runs"))
        folder = prepare(home, "axes: {d_model: [8, 16]}\nseeds: [1, 2]\n", limit=4)
        train(folder, home / "runs")
        assert main(["report", "micro", "--output", str(home / "report")]) == 0
    return home


@pytest.fixture(autouse=True)
def folders(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHAKESPEARE_TUI_RUNS", str(home / "runs"))


class Page(HTMLParser):
    """What a browser would find in a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.addresses: list[str] = []
        self.count: Counter[str] = Counter()
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.count[tag] += 1
        for name, value in attrs:
            if name == "id":
                self.anchors.add(value or "")
            if name in ("src", "href", "xlink:href", "srcset"):
                self.addresses.append(value or "")

    def handle_data(self, data: str) -> None:
        self.words += data


@pytest.fixture(scope="module")
def page(home: Path) -> Page:
    return Page((home / "report" / "report.html").read_text(encoding="utf-8"))


def test_the_page_stands_alone_and_its_links_lead_somewhere(home: Path, page: Page) -> None:
    assert page.addresses and all(address.startswith("#") for address in page.addresses)
    assert {address[1:] for address in page.addresses} <= page.anchors
    assert page.count["svg"] == 6 and page.count["script"] == page.count["img"] == 0
    assert {f"run-{name}" for name in RUNS} <= page.anchors
    text = (home / "report" / "report.html").read_text(encoding="utf-8")
    # A name that ends a sentence is linked like any other.
    assert '<a href="#run-micro-4">micro-4</a>.' in text
    assert not re.search(r"url\((?!#)|@import", text)
    # Pictures take the colours of the page, light or dark, from its style sheet.
    pictures = "".join(re.findall(r"<svg.*?</svg>", text, re.DOTALL))
    assert set(re.findall(r"(?:fill|stroke): (#\w+)", pictures)) <= {"#000000"}


def test_the_text_has_its_pictures_in_both_colours(home: Path) -> None:
    text = (home / "report" / "report.md").read_text(encoding="utf-8")
    named = re.findall(r'srcset="([^"]+)"|src="([^"]+)"', text)
    files = {name for pair in named for name in pair if name}
    assert files == {path.name for path in (home / "report").glob("*.png")}
    assert len(files) == 12
    for name in files:
        assert (home / "report" / name).read_bytes().startswith(b"\x89PNG")


def test_means_and_spreads_are_those_of_the_runs(home: Path, page: Page) -> None:
    for names in (("micro-1", "micro-3"), ("micro-2", "micro-4")):
        bests = [find_run(name, home / "runs").best() for name in names]
        losses = [best.info.loss.value for best in bests if best and best.info.loss]
        mean, deviation = statistics.fmean(losses), statistics.stdev(losses)
        assert f"{mean:.4f} ± {deviation:.4f}" in page.words
    assert "exact protocol" in page.words


def test_tokens_are_those_of_the_corpus(page: Page) -> None:
    source = locate_corpus("sample")
    assert source is not None
    counts = Counter("".join(source.iter_text()))
    total = counts.total()
    ten = sum(count for _, count in counts.most_common(10)) / total
    assert f"{total:,} tokens of 1.00 bytes" in page.words
    assert (
        f"{len(counts):,} of {len(counts):,} tokens of the vocabulary occur (100.0%)" in page.words
    )
    assert f"the ten commonest make {ten:.1%} of the text" in page.words


def test_an_earlier_report_is_replaced_and_nothing_else(
    home: Path, tmp_path: Path, cli: CommandLine
) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    refused = cli("report", "micro", "--output", str(mine))
    assert refused.code == 2 and "other files" in refused.err
    assert [path.name for path in mine.iterdir()] == ["thesis.txt"]
    (mine / "thesis.txt").rename(mine / "report.html")
    found = json.loads(cli("report", "micro-2", "--output", str(mine), "--json").out)
    assert "years of work" not in (mine / "report.html").read_text(encoding="utf-8")
    assert {Path(name).name for name in found["files"]} == {path.name for path in mine.iterdir()}


def test_runs_that_differ_in_their_seeds_are_one_variant(home: Path) -> None:
    entries = [entry for entry in RunCatalog(home / "runs").entries() if entry.name in RUNS]
    table = table_of_runs(sorted(entries, key=lambda entry: entry.name))
    assert [[row.name for row in variant.rows] for variant in table.variants] == [
        ["micro-1", "micro-3"],
        ["micro-2", "micro-4"],
    ]
    assert [variant.variant.label for variant in table.variants] == ["d_model=8", "d_model=16"]
    planned = table_of(ExperimentFolder(home / "experiments" / "micro"), home / "runs")
    spreads = [variant.spread("val_loss") for variant in table.variants]
    assert spreads == [variant.spread("val_loss") for variant in planned.variants]


def test_published_figures_are_set_beside_their_own_protocol_alone(home: Path) -> None:
    table = table_of(ExperimentFolder(home / "experiments" / "micro"), home / "runs")
    assert all(item.source and item.protocol for item in published_figures())
    config = load_config("nanogpt-cpu")
    rows = tuple(dataclasses.replace(row, config=config) for row in table.rows)
    other = dataclasses.replace(table, rows=rows)

    def published(which: object) -> list[tuple[str, ...]]:
        report = report_of(which, now=0.0, write_sample=lambda row, prompt: "")  # type: ignore[arg-type]
        sections = [section for section in report.sections if section.name == "published"]
        return [row.cells for section in sections for row in section.tables[0].rows]

    assert published(table) == []  # another corpus
    # The runs were measured exactly and by a subset, never as nanoGPT does: no difference is told.
    assert {cells[4] for cells in published(other)} == {""}
    assert len(published(other)) == len(published_figures())


def test_the_interval_of_a_difference_is_welchs() -> None:
    first, second = Spread.of([1.0, 3.0]), Spread.of([6.0, 8.0])
    assert first and second
    found = welch_interval(first, second)
    assert found is not None and not found.excludes_zero
    # Standard error 1.4142, two degrees of freedom: t is 4.3027.
    assert (found.difference, found.half_width) == pytest.approx((5.0, 6.085), abs=1e-3)
    single = Spread.of([1.0])
    assert single and welch_interval(first, single) is None


@pytest.mark.parametrize(
    ("gap", "word"), [(-0.01, "none"), (0.05, "small"), (0.2, "clear"), (0.6, "large")]
)
def test_a_gap_is_judged_by_its_share(gap: float, word: str) -> None:
    assert gap_verdict(gap, 2.0).startswith(word)


def test_two_corpora_are_answered_each_with_its_generalisation(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("All that glisters is not gold, often have you heard. " * 60)
    arm = "the-text-that-comes-with-the-program-and-is-short"
    arms = f"arms: {{{arm}: {{}}, two: {{set: {{corpus: {tmp_path}/mine.txt}}}}}}\n"
    folder = prepare(tmp_path, arms)
    train(folder, tmp_path / "runs")
    table = table_of(folder, tmp_path / "runs")
    report = report_of(table, now=0.0, write_sample=lambda row, prompt: "")
    told = []
    for name, corpus in (("micro-1", "sample"), ("micro-2", "mine.txt")):
        best = find_run(name, tmp_path / "runs").best()
        assert best and best.info.val_loss and best.info.train_loss
        gap = best.info.val_loss - best.info.train_loss
        told.append(f"{gap:+.4f} ({gap / best.info.val_loss:+.1%}) on {corpus} ({name})")
    assert report.answer[-1].endswith(f"in nats per token: {' and '.join(told)}.")
    # A label is there in full, or visibly cut.
    labels = re.findall(r"<text[^>]*>([^<]*)</text>", Pictures(report, table).svg("gap"))
    assert f"micro-1  {arm}" in labels


def test_what_is_not_there_is_refused(cli: CommandLine) -> None:
    for names, words in ((["micor-1"], "micro-1"), (["micro", "micro-1"], "by itself")):
        outcome = cli("report", *names)
        assert outcome.code == 2 and words in outcome.err and len(outcome.err.splitlines()) == 1
