"""Numbers and times as people read them, the same on the command line and on the screens."""

import math


def format_duration(seconds: float) -> str:
    """``42s``, ``1m 40s``, ``3h 05m`` or ``2d 04h``."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h {whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d {whole % 86400 // 3600:02d}h"


def format_count(count: float) -> str:
    """``512``, ``65.10K``, ``10.65M`` or ``1.20B``."""
    # The limits lie where rounding would reach a fourth digit: 999,960 is 1.00M, not 1000.0K.
    if count < 999.5:
        return f"{count:.0f}"
    if count < 999.95e3:
        return _four_digits(count / 1e3) + "K"
    if count < 999.95e6:
        return _four_digits(count / 1e6) + "M"
    return f"{count / 1e9:.2f}B"


def _four_digits(value: float) -> str:
    return f"{value:.1f}" if value >= 99.995 else f"{value:.2f}"


def format_bytes(size: float) -> str:
    """``512 B``, ``1.1 MB`` or ``2.0 GB``, in powers of 1000."""
    if size < 999.5:
        return f"{size:.0f} B"
    for unit in ("kB", "MB", "GB", "TB"):
        size /= 1000
        if size < 999.95 or unit == "TB":
            break
    return f"{size:.1f} {unit}"


def format_loss(loss: float | None) -> str:
    """Four digits after the point, or a dash where there is none."""
    return "-" if loss is None or not math.isfinite(loss) else f"{loss:.4f}"


def perplexity(loss: float | None) -> float | None:
    """Exponential of the ``loss`` in nats; None where there is none or it has no finite value."""
    if loss is None or not math.isfinite(loss) or loss > 700:
        return None
    return math.exp(loss)
