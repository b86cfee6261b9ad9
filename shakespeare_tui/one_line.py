r"""Texts typed in one line: ``\n`` is a new line, ``\t`` a tab, ``\\`` a backslash.

The rule holds for prompts and stop texts, in the lab and on the command line. Any other backslash
stands for itself.
"""

import re

_MEANING = {r"\n": "\n", r"\t": "\t", r"\\": "\\"}
_SIGN = {meaning: sign for sign, meaning in _MEANING.items()}


def read_line(line: str) -> str:
    """The text that was meant."""
    return re.sub(r"\\[nt\\]", lambda found: _MEANING[found[0]], line)


def write_line(text: str) -> str:
    """The text as it is typed in one line; ``read_line`` gives it back."""
    return re.sub(r"[\n\t\\]", lambda found: _SIGN[found[0]], text)
