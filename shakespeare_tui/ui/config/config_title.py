"""The line above the form: what is edited, how far it is from that, and what is wrong."""

from typing import ClassVar

from textual.content import Content
from textual.widgets import Static

from shakespeare_tui.config.config_draft_state import Origin
from shakespeare_tui.config.draft import ConfigDraft
from shakespeare_tui.ui.config.config_rows import WRONG, shown


class ConfigTitle(Static):
    """One line about a draft, or about what it is compared with."""

    DEFAULT_CSS: ClassVar[str] = "ConfigTitle { height: 1; padding: 0 1; }"

    def __init__(self) -> None:
        super().__init__(id="config-title", markup=False)

    def show_draft(self, draft: ConfigDraft) -> None:
        """Name the origin, and count changes and mistakes."""
        origin = draft.origin
        parts = [_name(origin)]
        changed, wrong = len(draft.changed_paths), sum(map(len, draft.problems.values()))
        if changed:
            parts.append(Content.styled(f"{changed} changed", "$accent"))
        if wrong:
            parts.append(Content.styled(f"{WRONG} {wrong} wrong (n)", "$error"))
        if origin.start_from:
            parts.append(Content.styled(f"weights of {origin.start_from}", "$warning"))
        self.update(Content("   ").join(parts))

    def show_comparison(self, other: Origin) -> None:
        """Name what the draft is compared with."""
        self.update(Content.assemble(("difference from ", "$text-muted"), _name(other)))


def _name(origin: Origin) -> Content:
    kind = "" if origin.kind == "config" else f" {origin.kind}"
    return Content.assemble((shown(origin.name), "bold"), (kind, "$text-muted"))
