"""Tell whether a file of weights is whole, from its header and size alone."""

import json
import re
from typing import Any

from shakespeare_tui.files import read_head

_LENGTH_BYTES = 8
_FIRST_BYTES = 32768
_LARGEST_HEADER = 100_000_000
_LAST_END = re.compile(rb'.*"data_offsets":\s*\[\s*\d+,\s*(\d+)', re.DOTALL)


def weights_problem(path: str, size: int) -> str | None:
    """What is wrong with a safetensors file; None where it looks whole.

    The format is 8 bytes with the header's length, a JSON header with each tensor's place, and the
    tensors; nothing of the tensors is read.

    Args:
        path: The file.
        size: Its size in bytes.

    Raises:
        OSError: It cannot be read.
    """
    head = read_head(path, _FIRST_BYTES)
    length = int.from_bytes(head[:_LENGTH_BYTES], "little")
    if not 0 < length <= min(size, _LARGEST_HEADER):
        return "it is not a safetensors file"
    start = _LENGTH_BYTES + length
    if len(head) < min(size, start):
        head = read_head(path, start)
    header = head[_LENGTH_BYTES:start]
    # As a rule the last tensor of the header ends the file: no need to take it all apart.
    last = _LAST_END.match(header)
    if last is not None and header.rstrip().endswith(b"}") and start + int(last[1]) == size:
        return None
    try:
        end = start + _largest_end(json.loads(header))
    except (ValueError, AttributeError, LookupError, TypeError, RecursionError):
        return "its header is damaged"
    return None if size == end else f"it has {size:,} bytes, not {end:,}: it was cut off"


def _largest_end(header: dict[str, Any]) -> int:
    tensors = [tensor for name, tensor in header.items() if name != "__metadata__"]
    return max((int(tensor["data_offsets"][1]) for tensor in tensors), default=0)
