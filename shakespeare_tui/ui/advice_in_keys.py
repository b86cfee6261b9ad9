"""What a message advises, as one does it in the lab: its keys in place of commands and options.

Messages from below the screens are written for the command line. Whatever the lab shows of them
goes through ``in_lab``; a test reads all of them and fails where one still names an option.
"""

import re

_RESUME = r"resume \1 on the Checkpoints screen (5, then t)"
_WORDS = tuple(
    (re.compile(pattern), words)
    for pattern, words in (
        (r"train it with: shakespeare-tui train --no-ui --resume (\S+)", _RESUME),
        (r"resume it with --resume (\S+), or choose another --name", _RESUME + ", or another name"),
        (r": --resume (\S+)", ": " + _RESUME),
        (r"train it again with --name (\S+)", r"train it again as \1 on the Config screen (2)"),
        (r"give it a --name", "give it a name on the Config screen (2)"),
        (
            r"fetch it with: shakespeare-tui data fetch \S+",
            "fetch it in Data (1, then f)",
        ),
        (
            r"use it as it is with --set data\.corpus=(\S+)",
            r"import \1 in Data (1, then i)",
        ),
        (r"use --set data\.corpus=(\S+)", r"use \1 in Data (1, then u)"),
        (r" \(shakespeare-tui runs\)", " (5)"),
        (
            r"shakespeare-tui eval (\S+) measures it exactly",
            "a run that ends by itself is measured exactly",
        ),
        (r"\(--from \S+ keeps the weights\)", "(5, then f, keeps the weights)"),
        (r": --from (\S+)", r": 5, then f on \1"),
        (r"start one from it with --from (\S+)", r"start one from \1 on Checkpoints (5, then f)"),
        (r": --config (\S+)", r": 2, then o and \1"),
        (r", or add --(force|overwrite) to replace it", ""),
        (r"--dtype (\S+)", r"precision \1"),
        (r"--kv-cache", "a KV cache"),
        (r"--prune", "pruning"),
        (r"write --set (\S+)", r"write \1"),
        (r"--set (\S+)", r"\1"),
    )
)


def in_lab(message: str) -> str:
    """A message without words of the command line."""
    for pattern, words in _WORDS:
        message = pattern.sub(words, message)
    return message
