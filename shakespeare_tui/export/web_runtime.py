"""ONNX Runtime Web, which a page needs to run a model: fetched once by ``npm``, pinned, checked."""

import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from shakespeare_tui.errors import UserError
from shakespeare_tui.files import file_sha256, reason, write_atomically
from shakespeare_tui.paths import cache_folder

_PACKAGE, _VERSION = "onnxruntime-web", "1.30.0"
_SHA256 = "d2228df7e4616bc3348bf504ee888f3bec43789a273f0a63f3e68d203ce3bf71"
_SCRIPT, _WASM = "dist/ort.wasm.bundle.min.mjs", "dist/ort-wasm-simd-threaded.wasm"
_TIMEOUT_SECONDS = 600


@dataclass(frozen=True)
class WebRuntime:
    """The two files that a page holds.

    Attributes:
        script: A module of JavaScript.
        wasm: What it runs.
    """

    script: bytes
    wasm: bytes


def check_web_runtime() -> None:
    """Look whether the runtime is here or may be fetched; nothing is.

    Raises:
        UserError: It cannot be had.
    """
    archive = _archive()
    if not archive.is_file():
        _npm(archive)


def _archive() -> Path:
    return cache_folder() / "web" / f"{_PACKAGE}-{_VERSION}.tgz"


def web_runtime() -> WebRuntime:
    """The runtime, from the cache, else by ``npm`` with the user's own settings.

    Raises:
        UserError: It cannot be had.
    """
    archive = _archive()
    if not archive.is_file() or file_sha256(archive) != _SHA256:
        _fetch(archive)
    try:
        with tarfile.open(archive) as tar:
            files = [tar.extractfile(f"package/{name}") for name in (_SCRIPT, _WASM)]
            script, wasm = (file.read() if file else b"" for file in files)
    except (tarfile.TarError, KeyError, OSError) as error:
        raise UserError(f"{archive} is damaged ({reason(error)}); delete it") from None
    return WebRuntime(script, wasm)


def _advice(archive: Path) -> str:
    return f"put {archive.name} into {archive.parent}"


def _npm(archive: Path) -> str:
    npm = shutil.which("npm")
    if npm is None:
        raise UserError(
            f"a page takes {_PACKAGE}, which npm fetches, and npm is not installed; install "
            f"Node.js, or {_advice(archive)}"
        )
    return npm


def _fetch(archive: Path) -> None:
    npm, advice = _npm(archive), _advice(archive)
    with tempfile.TemporaryDirectory(prefix="shakespeare-tui-") as folder:
        command = [npm, "pack", f"{_PACKAGE}@{_VERSION}", "--silent", "--ignore-scripts"]
        try:
            done = subprocess.run(
                command, cwd=folder, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS
            )
            words = (done.stderr.strip().splitlines() or ["no word why"])[0]
        except subprocess.TimeoutExpired:
            words = "it took too long"
        found = Path(folder) / archive.name
        if not found.is_file():
            raise UserError(f"npm cannot fetch {_PACKAGE} ({words}); connect once, or {advice}")
        content = found.read_bytes()
    if hashlib.sha256(content).hexdigest() != _SHA256:
        raise UserError(f"npm fetched another {_PACKAGE} {_VERSION} than is known; {advice}")
    write_atomically(archive, content)
