import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from shakespeare_tui.data.inspect.characters import CorpusScanner
from shakespeare_tui.data.inspect.verdict import (
    Finding,
    Verdict,
    character_name,
    guess_encoding,
    judge,
    judge_unreadable,
)

SENTENCE = "To be, or not to be, that is the question.\n"


def verdict_of(text: str) -> Verdict:
    scanner = CorpusScanner()
    scanner.feed(text)
    return judge(scanner.snapshot())


def finding(verdict: Verdict, subject: str) -> Finding:
    (found,) = [item for item in verdict.findings if item.subject == subject]
    return found


@pytest.mark.parametrize(
    ("n_characters", "level"),
    [(500, "bad"), (50_000, "warning"), (200_000, "note"), (900_000, "good")],
)
def test_size_decides_how_fit_a_text_is(n_characters, level):
    text = (SENTENCE * (n_characters // len(SENTENCE) + 1))[:n_characters]
    verdict = verdict_of(text)
    assert finding(verdict, "size").level == level
    assert f"{n_characters:,}" in finding(verdict, "size").text
    assert verdict.level == level


def test_a_good_text_is_ready():
    verdict = verdict_of(SENTENCE * 20_000)
    assert {item.level for item in verdict.findings} == {"good"}
    assert verdict.summary == "ready for training"
    assert finding(verdict, "encoding").text == "ASCII"


def test_one_character_repeated_has_nothing_to_teach():
    verdict = verdict_of("a" * 200_000)
    assert (
        finding(verdict, "characters").text == "one character repeated: there is nothing to learn"
    )
    assert verdict.summary == "not usable as it is"


def test_rare_characters_are_named():
    verdict = verdict_of(SENTENCE * 20_000 + "€" + "é" * 10 + "ü" * 11 + "\u0301")
    assert finding(verdict, "encoding").text == "UTF-8"
    text = finding(verdict, "rare").text
    assert text.startswith("3 of them")
    assert "€" in text and "é" in text and "U+0301" in text and "ü" not in text


@pytest.mark.parametrize(
    ("addition", "level", "word"),
    [
        ("\ufffd", "warning", "U+FFFD"),
        ("\x07", "warning", "control"),
        ("line\r\n", "note", "carriage"),
    ],
)
def test_what_is_odd_about_the_encoding_is_said(addition, level, word):
    found = finding(verdict_of(SENTENCE * 20_000 + addition * 20), "encoding")
    assert found.level == level
    assert word in found.text


def test_large_vocabularies_are_remarked_on():
    few, many = ("".join(chr(0x4E00 + i) * 20 for i in range(n)) + SENTENCE for n in (2000, 9000))
    assert finding(verdict_of(few), "characters").level == "note"
    assert finding(verdict_of(many), "characters").level == "warning"


@pytest.mark.parametrize("codec", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"])
def test_the_command_that_it_names_converts_the_file(tmp_path: Path, codec):
    if shutil.which("iconv") is None:
        pytest.skip("there is no iconv here")
    text = "Être ou ne pas être, voilà la question: “To be?”\n" * 20
    path = tmp_path / "it's mine.txt"
    path.write_bytes(text.encode(codec))
    guess, command = guess_encoding(path)
    assert guess is not None and command is not None
    subprocess.run(command, shell=True, check=True)
    converted = Path(shlex.split(command)[-1]).read_bytes().decode("utf-8")
    assert converted.removeprefix("\ufeff") == text


def test_damaged_utf8_is_not_taken_for_latin_1(tmp_path):
    path = tmp_path / "text.txt"
    path.write_bytes("Être ou ne pas être\n".encode() * 100 + b"\xff" + b" end")
    guess, command = guess_encoding(path)
    assert "damaged" in guess
    assert "-c" in shlex.split(command)


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (bytes(range(256)) * 20, "binary"),
        (b"\x1f\x8b" + b"x" * 50, "gzip"),
        (b"PK\x03\x04" + b"x" * 50, "zip"),
        (b"%PDF-1.7\n", "PDF"),
    ],
)
def test_other_files_are_called_by_their_name(tmp_path, content, word):
    path = tmp_path / "file"
    path.write_bytes(content)
    guess, command = guess_encoding(path)
    assert word in guess
    assert command is None


def test_an_unreadable_corpus_is_judged_by_its_error(tmp_path):
    verdict = judge_unreadable("cannot read x; check its permissions", tmp_path / "missing")
    assert verdict.level == "bad"
    assert [item.text for item in verdict.findings] == ["cannot read x; check its permissions"]


@pytest.mark.parametrize(
    ("character", "name"),
    [("a", "a"), (" ", "space"), ("\n", "\\n"), ("\u200b", "U+200B"), ("\u0301", "U+0301")],
)
def test_characters_without_a_shape_get_a_name(character, name):
    assert character_name(character) == name
