"""The Data screen: the corpora there are, and everything worth knowing about the chosen one."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, Vertical
from textual.content import Content
from textual.timer import Timer
from textual.widgets import OptionList, Static

from shakespeare_tui.data.available import AvailableCorpus, unchecked_corpora
from shakespeare_tui.errors import UserError
from shakespeare_tui.formatting import format_bytes
from shakespeare_tui.ui.data.corpus_list import CorpusList
from shakespeare_tui.ui.data.detail import CorpusDetail
from shakespeare_tui.ui.data.scans import KeptScans, Scan
from shakespeare_tui.ui.data.windows import WindowSettings
from shakespeare_tui.ui.jobs import Job, Jobs
from shakespeare_tui.ui.lab_screen import LabScreen
from shakespeare_tui.ui.widgets.text_page import bar

if TYPE_CHECKING:
    from shakespeare_tui.config.schema import Config
    from shakespeare_tui.ui.app import LabApp
    from shakespeare_tui.ui.services import Services

_NAME = "data.own_corpora"


class OwnTexts:
    """Absolute paths in the order of their import, kept in the settings.

    Args:
        app: Has the settings.
    """

    def __init__(self, app: "LabApp") -> None:
        self._app = app

    @property
    def specs(self) -> list[str]:
        """The paths."""
        return [line for line in self._app.settings.get(_NAME, "").split("\n") if line]

    def add(self, spec: str) -> None:
        """Remember a path."""
        if spec not in self.specs:
            self._app.remember(_NAME, "\n".join([*self.specs, spec]))

    def remove(self, spec: str) -> None:
        """Forget a path; the file stays where it is."""
        self._app.remember(_NAME, "\n".join(other for other in self.specs if other != spec))


@dataclass(frozen=True)
class Fetch:
    """A named corpus that is being brought into the cache."""

    spec: str
    job: "Job[Path]"


_LONGEST_BAR_CELLS = 30
_BAR_SHARE = 0.3


class CorpusProgress(Static):
    """Hidden while nothing is under way; a click cancels it."""

    DEFAULT_CSS: ClassVar[str] = """
    CorpusProgress {
        height: 1;
        padding: 0 1;
        display: none;
        text-wrap: nowrap;
        text-overflow: ellipsis;
    }
    """

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(markup=False, id=id)
        self._progress: tuple[str, int, int | None] | None = None

    def on_resize(self) -> None:
        """The bar follows the width at once, not with the next news."""
        if self._progress is not None:
            self.show(*self._progress)

    def show(self, what: str, done: int, total: int | None) -> None:
        """Show how far something has come.

        Args:
            what: What is under way.
            done: Bytes done.
            total: Bytes in all; None where nobody knows.
        """
        self.display = True
        self._progress = (what, done, total)
        parts: list[Content | str | tuple[str, str]] = [what, "  "]
        if total:
            cells = max(8, min(_LONGEST_BAR_CELLS, int(self.app.size.width * _BAR_SHARE)))
            share = min(1.0, done / total)
            is_ascii = bool(getattr(self.app, "ascii", False))
            filled = bar(share, cells, is_ascii)
            rest = ("." if is_ascii else "░") * (cells - len(filled))
            parts += [(filled, "$accent"), (rest, "$border-blurred"), f" {share:>4.0%}"]
            parts.append((f"  {format_bytes(done)} of {format_bytes(total)}", "$text-muted"))
        self.update(Content.assemble(*parts))

    def show_fetch(self, fetch: "Fetch | None") -> None:
        """Show how a fetch stands; nothing where there is none."""
        if fetch is None:
            self.hide()
        else:
            self.show(f"fetching {fetch.spec}", fetch.job.done, fetch.job.total)

    def show_scan(self, scan: Scan | None, name: str) -> None:
        """Show how the scan of a corpus stands; nothing where it is complete."""
        is_read = scan is not None and scan.state is not None and scan.state.is_read
        job = scan.job if scan is not None else None
        if job is None or job.error or (job.is_over and is_read):
            self.hide()
        elif job.is_over or job.cancelled.is_set():
            self.display, self._progress = True, None
            self.update(
                Content.assemble("reading was cancelled  ", ("r reads it again", "$text-muted"))
            )
        elif is_read:
            self.show("counting n-grams", 0, None)
        else:
            self.show(f"reading {name}", job.done, job.total)

    def hide(self) -> None:
        """Nothing is under way any more."""
        self.display, self._progress = False, None

    async def on_click(self) -> None:
        await self.run_action("screen.cancel")


_LOOKS_A_SECOND = 5
_SCAN_AFTER_SECONDS = 0.12


class DataScreen(LabScreen):
    """A list of corpora, and tabs about the one under the highlight."""

    MODE: ClassVar[str] = "data"
    CSS_PATH = "screen.tcss"
    HELP: ClassVar[str] = """\
Corpora to train on: named ones, text files in data/, and files you import. The selected one is
read and analysed as you watch; [ and ] switch tabs, escape returns to the list.

u selects it for training: Config and Train then use it. f downloads a named corpus and verifies
its SHA-256. i imports a text file or a folder of text files; Overview then says whether it is
suitable for training: encoding, size, rare characters.

The n-gram baselines (nats per character on the validation split) are what a trained model has to
beat. Text shows where the validation split begins, the boundaries of tokens, and their ids (t); the
arrows ←→ or a click go to a token, of which the line above then tells. Windows shows how seq_len
and stride cut the training split, and how targets are shifted from inputs by one token.
Tokens counts the corpus in tokens of a kind (c; b puts another beside it, + and - change how many
byte pairs are learned); o goes on to the longest, the commonest, the merges and the vocabulary."""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("u", "use", "Use", tooltip="train on this corpus", id="data.use"),
        Binding("f", "fetch", "Fetch", id="data.fetch"),
        Binding("i", "import_text", "Import", id="data.import"),
        Binding("x", "cancel", "Cancel", id="data.cancel"),
        Binding("left_square_bracket", "tab(-1)", "Previous tab", show=False, id="data.tab_before"),
        Binding("right_square_bracket", "tab(1)", "Tabs", key_display="[ ]", id="data.tab_after"),
        Binding("y", "copy_figures", "Copy figures", show=False, id="data.copy"),
        Binding("r", "read_again", "Refresh", show=False, id="data.read_again"),
        Binding("delete", "forget", "Remove from list", show=False, id="data.forget"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._items = {item.spec: item for item in unchecked_corpora()}
        self._config: Config | None = None
        self._scans = KeptScans()
        self._jobs = Jobs(self)
        self._scan: Scan | None = None
        self._fetch: Fetch | None = None
        self._wanted: str | None = None
        self._scan_timer: Timer | None = None
        self._is_listed = False
        self._live_keys: tuple[bool, ...] = ()

    def compose_body(self) -> ComposeResult:
        """The list with its progress lines, and the tabs."""
        with Container(id="data-body"):
            with Vertical(id="corpora-frame"):
                yield CorpusList(id="corpora")
            with Vertical(id="detail-side"):
                yield CorpusDetail(id="detail")
                yield CorpusProgress(id="fetch-progress")
                yield CorpusProgress(id="scan-progress")

    def on_mount(self) -> None:
        """List what the catalogue has; what is at hand is found out afterwards."""
        self._looker = self.set_interval(1 / _LOOKS_A_SECOND, self._look_at_jobs, pause=True)
        self._show_list()
        corpora = self.query_one(CorpusList)
        corpora.highlight(self._chosen or next(iter(self._items)))
        corpora.focus()

    def on_screen_shown(self) -> None:
        """Look again: files and the draft may have changed meanwhile."""
        self.call_after_refresh(self._list_corpora)
        self._show_highlighted()

    def on_unmount(self) -> None:
        """Threads must not outlive the screen."""
        self._jobs.close()

    # --- the list ------------------------------------------------------------------------------

    def _list_corpora(self) -> None:
        from shakespeare_tui.data.available import available_corpora

        own, services = self._own.specs, self.lab.services
        self._jobs.start(
            "list", lambda job: (available_corpora(own), _config_of(services)), self._take_list
        )

    @property
    def _own(self) -> OwnTexts:
        return OwnTexts(self.lab)

    @property
    def _chosen(self) -> str | None:
        """The corpus that training will use, as far as that is known."""
        return self._config.data.corpus if self._config else None

    def _take_list(self, job: "Job[tuple[tuple[AvailableCorpus, ...], Config]]") -> None:
        if job.result is None:
            self._tell_failure(job)
            return
        items, config = job.result
        before = self._items
        self._config = config
        self._items = {item.spec: item for item in items}
        chosen = self._chosen
        self._show_list()
        if not self._is_listed and chosen:
            self.query_one(CorpusList).highlight(chosen)
        self._is_listed = True
        if self._wanted in self._items:
            self.query_one(CorpusList).highlight(self._wanted or "")
            self._wanted = None
        self.query_one(CorpusDetail).set_windows(WindowSettings.of(config))
        unchanged = {spec for spec, item in self._items.items() if before.get(spec) == item}
        self._scans.drop_stale(unchanged, config.data)
        self._show_highlighted()

    def _tell_failure(self, job: Job[Any]) -> None:
        if job.error:
            self.lab.say(job.error, is_error=True)

    def _show_list(self) -> None:
        self.query_one(CorpusList).show(
            list(self._items.values()), self._chosen, self._scans.refused
        )

    @property
    def _item(self) -> AvailableCorpus | None:
        """The corpus under the highlight."""
        return self._items.get(self.query_one(CorpusList).highlighted_spec or "")

    @on(OptionList.OptionHighlighted, "#corpora")
    def _show_highlighted(self) -> None:
        item = self._item
        if item is None:
            return
        scan, fetched = self._scans.get(item.spec), self._fetch.spec if self._fetch else None
        self.query_one(CorpusDetail).show(item, scan, fetched)
        self._show_progress()
        if item.is_at_hand and scan is None:
            self._scan_soon(item.spec)
        self._refresh_keys()

    def _refresh_keys(self) -> None:
        """Draw the footer anew where other keys do something now."""
        keys = ("fetch", "cancel", "tab", "forget")
        live = tuple(bool(self.check_action(key, ())) for key in keys)
        if live != self._live_keys:
            self._live_keys = live
            self.refresh_bindings()

    # --- scans and fetches ---------------------------------------------------------------------

    def _scan_soon(self, spec: str) -> None:
        """Scan the corpus unless the highlight moves on at once."""
        if self._scan_timer is not None:
            self._scan_timer.stop()
        self._scan_timer = self.set_timer(_SCAN_AFTER_SECONDS, lambda: self._start_scan(spec))

    def _start_scan(self, spec: str) -> None:
        item = self._item
        if item is None or item.spec != spec or self._scans.get(spec) or self._config is None:
            return
        if self._scan is not None:
            self._scans.drop(self._scan.spec)
        data, engine = self._config.data, self.lab.services.engine
        self._scan = Scan(spec, data, engine, self._jobs, self._end_scan)
        self._scans.keep(self._scan)
        self._looker.resume()
        self._refresh_keys()

    def _look_at_jobs(self) -> None:
        """Show how far the jobs have come; runs only while there are any."""
        self._show_progress()
        if self._fetch is None and self._scan is None:
            self._looker.pause()
        elif self.is_current:
            self._show_highlighted()

    def _show_progress(self) -> None:
        item = self._item
        self.query_one("#fetch-progress", CorpusProgress).show_fetch(self._fetch)
        scan = self._scans.get(item.spec) if item is not None and item.is_at_hand else None
        name = item.name if item is not None else ""
        self.query_one("#scan-progress", CorpusProgress).show_scan(scan, name)

    def _end_scan(self, job: Job[None]) -> None:
        self._scan = None
        self._show_ended()

    def _end_fetch(self, job: Job[Path]) -> None:
        assert self._fetch is not None
        if job.state == "done":
            self.lab.say(f"{self._fetch.spec} is here, its SHA-256 is right")
        self._tell_failure(job)
        self._fetch = None
        self._list_corpora()
        self._show_ended()

    def _show_ended(self) -> None:
        self._look_at_jobs()
        self._show_list()
        self._show_highlighted()

    # --- actions -------------------------------------------------------------------------------

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Keys show only where they do something."""
        if not self.is_mounted:
            return True
        item = self._item
        if action == "fetch":
            return item is not None and item.status == "absent" and self._fetch is None
        if action == "cancel":
            return self._fetch is not None or self._scan is not None
        if action == "tab":
            return self.query_one(CorpusDetail).state is not None
        if action == "forget":
            return item is not None and item.spec in self._own.specs
        return True

    @on(OptionList.OptionSelected, "#corpora")
    def _selected(self) -> None:
        item = self._item
        if item is not None and item.status == "absent":
            self.action_fetch()
        else:
            self.action_use()

    def action_use(self) -> None:
        """Take the corpus for training."""
        item = self._item
        if item is None:
            return
        scan = self._scans.get(item.spec)
        problem = item.problem or (scan.problem if scan else "")
        if problem:
            self.lab.say(problem, is_error=True)
            return
        draft = self.lab.services.draft
        draft.set_text("data.corpus", item.spec)
        if draft.config is None:
            self.lab.say(
                f"the config takes {item.name}, but has errors: 2 shows them", is_error=True
            )
            return
        self._config = draft.config
        self._show_list()
        self.lab.say(f"training will use {item.name}: 2 for the config, 3 to train")

    def action_fetch(self) -> None:
        """Bring the corpus to this machine."""
        item = self._item
        if item is None or item.status != "absent" or self._fetch is not None:
            return
        from shakespeare_tui.data.catalogue import find_entry
        from shakespeare_tui.data.download import fetch

        entry = find_entry(item.spec)
        job = self._jobs.start(
            "fetch", lambda job: fetch(entry, job.report, job.cancelled), self._end_fetch
        )
        self._fetch = Fetch(item.spec, job)
        self._looker.resume()
        self._look_at_jobs()
        self._show_highlighted()

    def action_cancel(self) -> None:
        """Call off the fetch; without one, the scan."""
        self._jobs.cancel("fetch" if self._fetch is not None else "scan")

    def action_import_text(self) -> None:
        """Ask for a text of one's own and put it on the list."""
        from shakespeare_tui.ui.data.import_dialog import CorpusImport

        self.app.push_screen(CorpusImport(), self._import)

    def _import(self, spec: str | None) -> None:
        if spec is None:
            return
        self._own.add(spec)
        self._wanted = self._listed_as(spec)
        self._list_corpora()

    def _listed_as(self, spec: str) -> str:
        """The spec under which a path is on the list already, or the path itself."""
        for item in self._items.values():
            if item.path is not None and Path(item.path).resolve() == Path(spec).resolve():
                return item.spec
        return spec

    def action_forget(self) -> None:
        """Take an imported text off the list; the file stays where it is."""
        item = self._item
        if item is not None:
            self._own.remove(item.spec)
            self._list_corpora()

    def action_read_again(self) -> None:
        """Read the corpus anew: the file may have changed."""
        item = self._item
        if item is not None:
            self._scans.drop(item.spec)
            self._list_corpora()

    def action_tab(self, direction: int) -> None:
        """The next tab, or the one before."""
        self.query_one(CorpusDetail).switch(direction)

    @property
    def home(self) -> CorpusList:
        """The list."""
        return self.query_one(CorpusList)

    def action_copy_figures(self) -> None:
        """Copy the figures as JSON, the same as ``data inspect --json`` prints."""
        import json

        state = self.query_one(CorpusDetail).state
        report = state.report() if state is not None else None
        if report is None:
            self.lab.say("the figures are not complete yet", is_error=True)
        else:
            text = json.dumps(report.to_json(), indent=2, ensure_ascii=False)
            self.lab.copy(text, f"the figures of {report.source.name}")


def _config_of(services: "Services") -> "Config":
    """What training uses."""
    from shakespeare_tui.config.schema import Config

    try:
        return services.draft.runnable.config or Config()
    except UserError:
        # Whoever trains will be told; looking at data needs no preset.
        return Config()
