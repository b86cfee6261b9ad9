"""The power fails before any operation on files: what the disk then holds is resumed exactly.

A disk keeps what was synced. Of the rest, two extremes are replayed: all names are there and hold
only what was synced of their content; or a name is there only if its folder was synced since.

All of them: ``python -m pytest -n 0 -m slow tests/faults``.
"""

import shutil
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from counted import FAULTS
from faulty_runs import RUN, assert_same, finish, reference
from operations import watching
from real_cli import CommandLine

from shakespeare_tui.runs.folder import RunFolder

__all__ = ["reference"]

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc")

Image = dict[str, bytes | None]
"""What a disk holds: contents of files by path, None for a folder."""


@dataclass(eq=False)
class Node:
    """A file or folder on the disk, whatever its name is."""

    synced: bytes = b""
    entries: dict[str, "Node"] = field(default_factory=dict)


class Disk:
    """Follows a process and keeps what the disk would hold if the power failed now."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._nodes: dict[int, Node] = {}
        self.images: list[Image] = []

    def __call__(self, name: str, paths: tuple[str, ...]) -> None:
        tree = {path: self._node(path) for path in sorted(self._root.rglob("*"))}
        self._keep({str(p.relative_to(self._root)): n for p, n in tree.items()}, tree)
        self._keep(self._synced_names(tree), tree)
        path = Path(paths[-1])
        if name == "os.fsync" and path.is_dir():
            self._node(path).entries = {p.name: n for p, n in tree.items() if p.parent == path}
        elif name == "os.fsync":
            self._node(path).synced = path.read_bytes()
        elif name in ("os.remove", "os.rmdir", "os.rename") and path.exists():
            # Its number may be given to another file.
            self._nodes.pop(path.stat().st_ino)
        elif name == "truncate" and path in tree:
            tree[path].synced = b""

    def _node(self, path: Path) -> Node:
        return self._nodes.setdefault(path.stat().st_ino, Node())

    def _synced_names(self, tree: dict[Path, Node]) -> dict[str, Node]:
        found = {}
        # The folders of all runs and of the cache are there.
        waiting = [(p.name, n) for p, n in tree.items() if p.parent == self._root]
        while waiting:
            path, node = waiting.pop()
            found[path] = node
            waiting += [(f"{path}/{name}", child) for name, child in node.entries.items()]
        return found

    def _keep(self, names: dict[str, Node], tree: dict[Path, Node]) -> None:
        folders = {node for path, node in tree.items() if path.is_dir()}
        image = {p: None if n in folders or n.entries else n.synced for p, n in names.items()}
        if image not in self.images:
            self.images.append(image)


def restore(image: Image, root: Path) -> None:
    shutil.rmtree(root)
    root.mkdir()
    for path, content in sorted(image.items()):
        if content is None:
            (root / path).mkdir()
        else:
            (root / path).write_bytes(content)


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: CommandLine) -> Disk:
    """A disk that a whole run was written to."""
    root = tmp_path / "disk"
    for name in ("cache", "runs"):
        monkeypatch.setenv(f"SHAKESPEARE_TUI_{name.upper()}", str(root / name))
        (root / name).mkdir(parents=True)
    disk = Disk(root)
    with watching(root, disk):
        outcome = cli(*RUN, "--name=run")
    assert outcome.code == 0, outcome.err
    return disk


def check(
    images: list[Image], tmp_path: Path, cli: CommandLine, reference: RunFolder
) -> dict[str, int]:
    ways = {"resumed": 0, "begun": 0}
    for image in images:
        restore(image, tmp_path / "disk")
        way = finish(cli, tmp_path / "disk" / "runs")
        ways[way] += 1
        FAULTS[f"images of a power cut {way}"] += 1
        assert_same(RunFolder(tmp_path / "disk" / "runs" / "run"), reference)
    return ways


def test_what_a_power_cut_leaves_is_resumed_exactly(
    disk: Disk, tmp_path: Path, cli: CommandLine, reference: RunFolder
) -> None:
    every = len(disk.images) // 8
    ways = check(disk.images[:: every or 1], tmp_path, cli, reference)
    assert all(ways.values()), ways


@pytest.mark.slow
def test_what_any_power_cut_leaves_is_resumed_exactly(
    disk: Disk, tmp_path: Path, cli: CommandLine, reference: RunFolder
) -> None:
    check(disk.images, tmp_path, cli, reference)
