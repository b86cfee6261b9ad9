"""Numbers and times as people read and write them, the same in files, commands and screens."""

import math
import re

_SECONDS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "min": 60.0, "s": 1.0}
DURATION_PATTERN = r"^(?:\d+(?:\.\d+)?\s*(?:d|h|min|m|s)\s*)+$"
"""What ``parse_duration`` reads, as a regular expression."""
_DURATION = re.compile(DURATION_PATTERN, re.ASCII)
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(d|h|min|m|s)", re.ASCII)
_GROUPED = re.compile(r"[+-]?\d{1,3}(?:,\d{3})+(?:\.\d+)?", re.ASCII)


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


def format_duration_exactly(seconds: float) -> str:
    """``100s`` as ``1m 40s``, without rounding: ``parse_duration`` reads it back equal."""
    rest, parts = seconds, []
    for unit in ("d", "h", "m"):
        whole, rest = divmod(rest, _SECONDS[unit])
        if whole:
            parts.append(f"{whole:.0f}{unit}")
    if rest or not parts:
        parts.append(f"{rest:.10g}s")
    return " ".join(parts)


def parse_duration(text: str) -> float | None:
    """Seconds in ``100s``, ``1m 40s``, ``1.5h`` or ``2d 4h``; None where no units are written."""
    text = text.strip().lower()
    if not _DURATION.match(text):
        return None
    return sum(float(amount) * _SECONDS[unit] for amount, unit in _DURATION_PART.findall(text))


def ungrouped(text: str) -> str:
    """A number without the commas between its thousands: ``131,072`` becomes ``131072``."""
    return text.replace(",", "") if _GROUPED.fullmatch(text.strip()) else text


def parse_integer(text: str) -> int | None:
    """The number in ``500``, ``131,072`` or ``1e6``; None where it is no whole number."""
    text = ungrouped(text)
    try:
        return int(text)
    except ValueError:
        pass
    try:
        number = float(text)
    except ValueError:
        return None
    return int(number) if number.is_integer() else None


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


def format_accuracy(share: float | None) -> str:
    """Per cent with a digit after the point, or a dash where it is not known."""
    return "-" if share is None or not math.isfinite(share) else f"{share:.1%}"


def format_rate(rate: float, digits: int = 1) -> str:
    """A learning rate as configs write it: ``3e-4``, ``2.5e-4``, ``0.03``, ``1``."""
    mantissa, exponent = f"{rate:.{digits - 1}e}".split("e")
    if -2 <= int(exponent) <= 2:
        return f"{float(f'{mantissa}e{exponent}'):g}"
    return f"{float(mantissa):g}e{int(exponent)}"


def counted(count: int, noun: str) -> str:
    """``1 file``, ``2 files``, ``1,200 files``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def per_second(count: float, seconds: float) -> float:
    """How many a second; 0 where no time has passed."""
    return count / seconds if seconds > 0 else 0.0


def context_note(seq_len: float, max_seq_len: float) -> str:
    """What to say beside figures of a model that was trained on windows shorter than it can read.

    Empty where it was not.
    """
    if seq_len >= max_seq_len:
        return ""
    return (
        f"evaluated and sampled at {int(seq_len):,} tokens, the trained length (data.seq_len); "
        f"positions up to {int(max_seq_len):,} (model.max_seq_len) are never trained"
    )
