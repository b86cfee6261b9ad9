"""How much memory this process holds."""

import sys


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
