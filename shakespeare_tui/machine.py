"""What the computer offers, found out without torch: cores, memory, disk, terminal."""

import contextlib
import ctypes
import importlib.util
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TextIO

Colours = Literal["none", "16", "256", "16 million"]


@dataclass(frozen=True)
class Memory:
    """Main memory in bytes; ``available`` is None where the system does not tell."""

    total: int | None
    available: int | None


@dataclass(frozen=True)
class Terminal:
    """The terminal behind a stream; ``is_terminal`` is False in a pipe or a file."""

    is_terminal: bool
    columns: int
    rows: int
    colours: Colours
    encoding: str

    @property
    def is_utf8(self) -> bool:
        """Whether it takes every character."""
        return self.encoding.lower().replace("-", "") in ("utf8", "cp65001")


def usable_cores() -> int:
    """Processor cores that this process may use: its affinity, capped by a container's quota."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    quota, _, period = _first_line("/sys/fs/cgroup/cpu.max").partition(" ")
    if quota.isdigit() and period.isdigit() and int(period) > 0:
        cores = min(cores, max(1, round(int(quota) / int(period))))
    return cores


def blas_threads() -> int:
    """Threads of NumPy's matrix products, as OpenBLAS and its like find them out at start."""
    for name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"):
        if os.environ.get(name, "").isdecimal() and int(os.environ[name]) > 0:
            return int(os.environ[name])
    return usable_cores()


def has_bf16_products() -> bool:
    """Whether the processor has instructions for products of bfloat16; false if it is not told."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            for line in file:
                name, _, words = line.partition(":")
                if name.strip() in ("flags", "Features"):
                    return not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(words.split())
    except OSError:
        pass
    return False


def has_torch() -> bool:
    """Whether PyTorch is installed; this does not load it."""
    return importlib.util.find_spec("torch") is not None


def map_torch() -> None:
    """Load torch's libraries without holding up the other threads, as ``import`` would.

    Python holds its lock while an import loads a library: 0.2 s for torch's from the disk cache,
    seconds from a cold disk, in which nothing else gets on and no key is answered. A call through
    ctypes does not hold it, and the import then finds the libraries loaded. Where this does not
    work, the import does it.
    """
    spec = importlib.util.find_spec("torch")
    if sys.platform == "win32" or spec is None or spec.origin is None:
        return
    suffix = "dylib" if sys.platform == "darwin" else "so"
    folder = Path(spec.origin).parent / "lib"
    with contextlib.suppress(OSError, AttributeError):
        dlopen = ctypes.CDLL(None).dlopen
        dlopen.argtypes, dlopen.restype = (ctypes.c_char_p, ctypes.c_int), ctypes.c_void_p
        # In torch's own order and visibility: what the others depend on is seen by all.
        for name, flags in (
            ("libtorch_global_deps", os.RTLD_NOW | os.RTLD_GLOBAL),
            ("libtorch_python", os.RTLD_NOW),
        ):
            dlopen(os.fsencode(folder / f"{name}.{suffix}"), flags)


def backend_of(setting: str) -> Literal["torch", "numpy"]:
    """What ``training.backend`` comes to on this machine."""
    is_torch = setting == "torch" or (setting == "auto" and has_torch())
    return "torch" if is_torch else "numpy"


@dataclass(frozen=True)
class Launched:
    """A process's place among those that ``torchrun`` started to do one work together.

    Attributes:
        rank: Its number among all.
        processes: How many there are.
        local_rank: Its number on this machine.
        local_processes: How many there are here.
        restarts: How often all of them were started again, after one of them had ended.
    """

    rank: int
    processes: int
    local_rank: int
    local_processes: int
    restarts: int = 0


def launched() -> Launched | None:
    """This process's place, by the variables that ``torchrun`` sets; None where it is by itself."""
    try:
        rank, processes = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        # Other launchers set no more than these: on one machine, then.
        local_rank = int(os.environ.get("LOCAL_RANK", rank))
        local_processes = int(os.environ.get("LOCAL_WORLD_SIZE", processes))
        restarts = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0))
    except (KeyError, ValueError):
        return None
    if processes == 1 and "TORCHELASTIC_RUN_ID" not in os.environ:
        return None
    return Launched(rank, processes, local_rank, local_processes, restarts)


def processor_name() -> str:
    """The processor's name, or at least its architecture."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            for line in file:
                key, _, value = line.partition(":")
                if key.strip() == "model name":
                    return value.strip()
    except OSError:
        pass
    return platform.processor() or platform.machine() or "unknown processor"


def memory() -> Memory:
    """Main memory that this process may use, capped by a container's limit."""
    if sys.platform == "win32":
        return _windows_memory()
    known = {}
    try:
        with open("/proc/meminfo", encoding="ascii", errors="replace") as file:
            for line in file:
                key, _, rest = line.partition(":")
                if rest.strip().endswith("kB"):
                    known[key] = int(rest.split()[0]) * 1024
    except OSError:
        pass
    total = known.get("MemTotal") or _physical_memory()
    available = known.get("MemAvailable")
    limit = _first_line("/sys/fs/cgroup/memory.max")
    if limit.isdigit() and (total is None or int(limit) < total):
        total = int(limit)
        used = _first_line("/sys/fs/cgroup/memory.current")
        left = total - int(used) if used.isdigit() else total
        available = left if available is None else min(available, left)
    return Memory(total, available)


def free_memory() -> int | None:
    """Bytes of main memory that are free, or there at all; None where the system tells neither."""
    found = memory()
    return found.total if found.available is None else found.available


def terminal(stream: TextIO, environment: Mapping[str, str]) -> Terminal:
    """What the terminal behind ``stream`` can show, by its size and what it says of itself."""
    size = shutil.get_terminal_size()
    is_terminal = stream.isatty()
    colours = _colours(environment) if is_terminal else "none"
    encoding = getattr(stream, "encoding", None) or "unknown"
    return Terminal(is_terminal, size.columns, size.lines, colours, encoding)


def nearest_existing(folder: Path) -> Path:
    """``folder`` if it exists, else the closest parent that does."""
    folder = folder.absolute()
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder


def free_bytes(folder: Path) -> int:
    """Free disk space where ``folder`` is, or would be made.

    Raises:
        OSError: The disk cannot be asked.
    """
    return shutil.disk_usage(nearest_existing(folder)).free


def write_problem(folder: Path) -> str | None:
    """Try to write in ``folder``, or where it would be made; say why that fails, or None."""
    try:
        # Asking for permissions is not enough: read-only disks and quotas show only on writing.
        with tempfile.TemporaryFile(dir=nearest_existing(folder)) as file:
            file.write(b"x")
    except OSError as error:
        return error.strerror or str(error)
    return None


def _colours(environment: Mapping[str, str]) -> Colours:
    term = environment.get("TERM", "")
    if environment.get("NO_COLOR") or term == "dumb":
        return "none"
    if environment.get("COLORTERM", "").lower() in ("truecolor", "24bit"):
        return "16 million"
    if sys.platform == "win32" and environment.get("WT_SESSION"):
        return "16 million"
    return "256" if "256color" in term or term in ("alacritty", "xterm-kitty") else "16"


def _physical_memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError):
        return None


def _windows_memory() -> Memory:
    class Status(ctypes.Structure):
        _fields_ = (
            ("length", ctypes.c_ulong),
            ("load", ctypes.c_ulong),
            *(
                (name, ctypes.c_ulonglong)
                for name in ("total", "available", "pages", "free_pages", "virtual", "free", "rest")
            ),
        )

    status = Status()
    status.length = ctypes.sizeof(Status)
    windll = getattr(ctypes, "windll", None)
    if windll is None or not windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)):
        return Memory(None, None)
    return Memory(int(status.total), int(status.available))


def _first_line(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.readline().strip()
    except OSError:
        return ""


def resident_bytes() -> int | None:
    """Memory that the process holds now; where the system tells only the peak, that; else None."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * resource.getpagesize()
    except (OSError, ValueError, IndexError):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        # Bytes on macOS, KiB elsewhere.
        return peak if sys.platform == "darwin" else peak * 1024


# From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -2, -3, -8
_LARGEST_MMAP_THRESHOLD = 32 * 1024 * 1024


def keep_freed_memory() -> None:
    """Make the C allocator reuse large blocks: a step frees and takes the same ones again.

    By default glibc returns them to the kernel, which then clears every page anew: thousands of
    page faults a step, about a tenth of a small model's step. Does nothing on other C libraries.
    Call it before training threads start: threads get arenas of their own otherwise.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # musl has no mallopt
        return
    mallopt(_M_ARENA_MAX, 1)
    mallopt(_M_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)
    mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
    mallopt(_M_TOP_PAD, 8 * _LARGEST_MMAP_THRESHOLD)


def give_back_freed_memory() -> None:
    """Return to the system what the C allocator keeps of what was freed; glibc only.

    Before work of another kind, whose blocks are of other sizes: it would take memory beside what
    is kept for the steps. Milliseconds for a small model, where the next step takes its own anew.
    """
    if sys.platform.startswith("linux"):
        with contextlib.suppress(OSError, AttributeError):  # musl has no malloc_trim
            ctypes.CDLL(None).malloc_trim(0)


class CoreRegister:
    """The threads of the run that is trained in this process; safe to read from any thread.

    Attributes:
        total: Threads it trains with; 0 while none is trained.
        is_paused: Whether the run is paused and leaves the processor to others.
    """

    def __init__(self) -> None:
        self.total = 0
        self.is_paused = False

    @property
    def beside(self) -> int | None:
        """Threads for other work now, at least one; None where it may have them all."""
        if not self.total or self.is_paused:
            return None
        return self.share

    @property
    def usable(self) -> int:
        """Threads for work that is not the run: its share beside one, else all."""
        return self.beside or blas_threads()

    @property
    def share(self) -> int:
        """Threads that other work has beside a run: half of them."""
        return max(1, self.total // 2)

    @contextlib.contextmanager
    def training(self, threads: int) -> Iterator[None]:
        """Enter a run that trains with so many threads."""
        self.total = threads
        try:
            yield
        finally:
            self.total = 0

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """The run is paused."""
        self.is_paused = True
        try:
            yield
        finally:
            self.is_paused = False


CORES = CoreRegister()
"""The one register of this process."""


def sharing_words(run: str) -> str:
    """What is said of work beside the run that is being trained."""
    if CORES.total < 2:
        return f"shares the cores with {run}"
    return f"{CORES.share} of {CORES.total} cores, in turns with {run}"
