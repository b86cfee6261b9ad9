"""A word that is nearly right: the message names what was meant, and the help that is near."""

import shlex

import pytest
from real_cli import CommandLine
from trained_run import trained

from shakespeare_tui.runs.folder import RunFolder

__all__ = ["trained"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("tarin", ("'tarin'", "did you mean train?", "See shakespeare-tui --help")),
        (
            "train --max-stps 3",
            ("--max-stps", "did you mean --max-steps?", "See shakespeare-tui train --help"),
        ),
        ("train --max-stps=3", ("option --max-stps;", "did you mean --max-steps?")),
        (
            "generate alpha --temprature 1",
            ("--temperature?", "See shakespeare-tui generate --help"),
        ),
        ("config sho", ("'sho'", "did you mean show?", "See shakespeare-tui config --help")),
        ("config show quick --jsn", ("did you mean --json?", "shakespeare-tui config show --help")),
        ("data inspct x", ("did you mean inspect?", "See shakespeare-tui data --help")),
        ("eval alpha --protocol exat", ("--protocol", "did you mean exact?")),
        ("generate alpha@bst", ("alpha@bst", "did you mean alpha@best?")),
        ("eval alpha@lst", ("did you mean alpha@last?",)),
        ("generate alpa", ("did you mean alpha?",)),
        ("compare alpha --strategies clasic", ("clasic", "did you mean classic?")),
        ("compare alpha --strategies 'greedy;clasic'", ("did you mean classic?",)),
        ("generate alpha --strategy tempreature=1", ("did you mean temperature?",)),
        ("train --no-ui --config tny", ("did you mean the preset tiny?",)),
        ("train --no-ui --set training.max_stps=1", ("max_steps",)),
        # Nothing is near: what there is is listed.
        ("zzz", ("there are train, watch", "; see shakespeare-tui --help")),
        ("train extra", ("unexpected argument 'extra'", "; see shakespeare-tui train --help")),
        ("train --zzz", ("unknown option --zzz; see shakespeare-tui train --help",)),
    ],
)
def test_what_was_meant(
    line: str, words: tuple[str, ...], trained: RunFolder, cli: CommandLine
) -> None:
    outcome = cli(*shlex.split(line))
    assert (outcome.code, outcome.out) == (2, "")
    told = [text for text in outcome.err.splitlines() if text.startswith("error: ")]
    assert len(told) == 1
    for word in words:
        assert word in told[0]
