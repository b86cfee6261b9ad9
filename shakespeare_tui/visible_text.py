"""Text from outside, made harmless to a terminal: what would steer it is shown instead.

A corpus, a name, a note or a server's answer may hold escape sequences (ESC, OSC, CSI, the C1
controls), and characters that turn the direction of writing. Whatever is printed or painted and was
not written by this program passes through ``visible`` first.
"""

import re
import unicodedata
from functools import lru_cache

LINES = "\n\t"
"""What running text may keep; a name, a title or a table's cell keeps nothing."""

# Scripts need them, and they do nothing but join and part letters.
_JOINERS = "\u200c\u200d"


def is_harmless(character: str) -> bool:
    """Whether a terminal shows this character, or a space, and does nothing else.

    Not so are controls, formats (among them all that turn the direction of writing), surrogates,
    the separators that some terminals take for line ends, and what no font has.
    """
    is_shown = character.isprintable() or unicodedata.category(character) == "Zs"
    return is_shown or character in _JOINERS


class _Signs(dict[int, str]):
    """For ``str.translate``: what stands for a code point, found when it is first met."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        sign = character
        if not is_harmless(character):
            sign = character.encode("unicode_escape").decode("ascii")
        self[code] = sign
        return sign


@lru_cache(8)
def _signs(keep: str) -> _Signs:
    return _Signs({ord(character): character for character in keep})


def visible(text: str, keep: str = "") -> str:
    r"""The text with ``\x1b`` and the like in place of what would steer a terminal.

    Args:
        text: Anything.
        keep: Characters that stay as they are: ``LINES`` for text of several lines.
    """
    return text if text.isprintable() else text.translate(_signs(keep))


_MEANING = {r"\n": "\n", r"\t": "\t", r"\\": "\\"}
_SIGN = {meaning: sign for sign, meaning in _MEANING.items()}


def read_line(line: str) -> str:
    """The text that was meant."""
    return re.sub(r"\\[nt\\]", lambda found: _MEANING[found[0]], line)


def write_line(text: str) -> str:
    """The text as it is typed in one line; ``read_line`` gives it back."""
    return re.sub(r"[\n\t\\]", lambda found: _SIGN[found[0]], text)
