"""The character tokenizer: its order, its way back, and what it says about what it cannot take."""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shakespeare_tui.data.tokenizers.kinds import TOKENIZERS, tokenizer_kind
from shakespeare_tui.data.tokenizers.tokenizer import (
    CharTokenizer,
    UnknownCharacterError,
    load_tokenizer,
    smallest_dtype,
)
from shakespeare_tui.errors import UserError

texts = st.text(min_size=1, max_size=80)


@given(texts)
def test_ids_are_places_in_code_point_order(text: str) -> None:
    tokenizer = CharTokenizer(text)
    order = sorted(set(text), key=ord)
    assert tokenizer.vocab == {character: order.index(character) for character in order}
    assert tokenizer.vocab_size == len(order)
    assert tokenizer.encode(text).tolist() == [order.index(character) for character in text]


@given(texts)
def test_decoding_gives_the_text_back(text: str) -> None:
    tokenizer = CharTokenizer().fit(text)
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.encode("").tolist() == [] and tokenizer.decode([]) == ""


def test_newline_is_0_and_space_is_1_in_english_text() -> None:
    assert CharTokenizer("To be,\nor not").encode("\n ").tolist() == [0, 1]


def test_fitting_again_forgets_the_first_text() -> None:
    tokenizer = CharTokenizer("abc").fit("xyz")
    assert tokenizer.vocab == {"x": 0, "y": 1, "z": 2}
    with pytest.raises(UnknownCharacterError):
        tokenizer.encode("a")


@given(st.text(alphabet="abc", max_size=20), st.characters(exclude_characters="abc"), st.text())
def test_first_unknown_character_is_named_with_its_place(
    before: str, unknown: str, after: str
) -> None:
    with pytest.raises(UnknownCharacterError) as caught:
        CharTokenizer("abc").encode(before + unknown + after)
    assert (caught.value.character, caught.value.position) == (unknown, len(before))
    message = str(caught.value)
    assert repr(unknown) in message
    assert f"U+{ord(unknown):04X}" in message
    assert f"position {len(before)} " in message
    assert isinstance(caught.value, UserError)
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize("unknown", ["`", "d", "\x00", "中", "\U0010ffff", "\udcff"])
def test_neighbours_and_extremes_of_the_vocabulary_are_unknown(unknown: str) -> None:
    # \udcff is how a byte that is not UTF-8 arrives from the command line.
    with pytest.raises(UnknownCharacterError, match="position 1 "):
        CharTokenizer("abc").encode("a" + unknown)


def test_an_unfitted_tokenizer_knows_no_character() -> None:
    tokenizer = CharTokenizer()
    assert tokenizer.vocab_size == 0 and tokenizer.vocab == {}
    with pytest.raises(UserError):
        tokenizer.encode("a")
    with pytest.raises(UserError):
        tokenizer.decode([0])


def test_empty_text_cannot_be_fitted() -> None:
    with pytest.raises(UserError, match="at least one character"):
        CharTokenizer("")
    with pytest.raises(UserError, match="at least one character"):
        CharTokenizer.from_vocabulary([])


@pytest.mark.parametrize("token", [3, -1, 10**6])
def test_ids_outside_the_vocabulary_are_refused(token: int) -> None:
    with pytest.raises(UserError, match="vocabulary size 3"):
        CharTokenizer("abc").decode([0, token])


@pytest.mark.parametrize(
    ("vocab_size", "name"),
    [(1, "uint8"), (256, "uint8"), (257, "uint16"), (65536, "uint16"), (65537, "uint32")],
)
def test_smallest_type_holds_every_id(vocab_size: int, name: str) -> None:
    assert smallest_dtype(vocab_size).name == name
    assert np.iinfo(name).max >= vocab_size - 1


def test_arrays_have_the_smallest_type() -> None:
    characters = [chr(i) for i in range(0x4E00, 0x4E00 + 257)]
    few, many = CharTokenizer("abc"), CharTokenizer.from_vocabulary(characters)
    assert few.encode("cab").dtype == np.uint8
    assert many.encode("".join(characters)).dtype == np.uint16
    assert many.encode(characters[-1]).tolist() == [256]


def test_saved_tokenizer_loads_as_it_was(tmp_path: Path) -> None:
    text = 'Ümläut 中文 🎭\r\n\t"\\\u2028\x7f'
    tokenizer = CharTokenizer(text)
    tokenizer.save(tmp_path / "tokenizer.json")
    loaded = load_tokenizer(tmp_path / "tokenizer.json")
    assert loaded.encode(text).tolist() == tokenizer.encode(text).tolist()
    assert loaded.vocab_size == tokenizer.vocab_size
    assert loaded.fingerprint == tokenizer.fingerprint
    record = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))
    assert record == {"type": "char", "characters": sorted(set(text))}


@given(texts, texts)
def test_fingerprints_are_equal_where_the_vocabularies_are(one: str, other: str) -> None:
    first, second = CharTokenizer(one), CharTokenizer(other)
    assert (first.fingerprint == second.fingerprint) == (first.vocab == second.vocab)
    expected = hashlib.sha256("".join(sorted(set(one))).encode()).hexdigest()
    assert first.fingerprint == expected


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"7",
        b'"char"',
        b"\xff\xfe\x00",
        b'{"type": "char"}',
        b'{"type": "char", "characters": []}',
        b'{"type": "char", "characters": "abc"}',
        b'{"type": "char", "characters": ["b", "a"]}',
        b'{"type": "char", "characters": ["a", "a"]}',
        b'{"type": "char", "characters": ["a", "bc"]}',
        b'{"type": "char", "characters": ["a", ""]}',
        b'{"type": "char", "characters": ["a", 5]}',
        b'{"type": "char", "characters": [["a"]]}',
        b'{"type": "char", "characters": ["a", null, {}]}',
        b'{"type": "char", "characters": ["a", "\\ud800"]}',
        b'{"type": ["char"], "characters": ["a"]}',
        b"[" * 100_000,
        b'{"characters": ' * 100_000,
        b'{"type": ' + b"9" * 5000 + b"}",
    ],
    ids=lambda content: content[:44].decode("latin-1"),
)
def test_damaged_files_are_one_line_that_names_the_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        load_tokenizer(path)
    message = str(caught.value)
    assert str(path) in message
    assert len(message.splitlines()) == 1
    assert len(message) < 400 + len(str(path))


@pytest.mark.parametrize("keep", [1, 10, 30, 60])
def test_truncated_files_are_refused(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "tokenizer.json"
    CharTokenizer("some text to know").save(path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match="tokenizer"):
        load_tokenizer(path)


def test_missing_files_and_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="missing"):
        load_tokenizer(tmp_path / "tokenizer.json")
    with pytest.raises(UserError, match="cannot be read"):
        load_tokenizer(tmp_path)


def test_tokenizers_of_a_newer_version_say_update(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text('{"type": "sentences", "merges": []}')
    with pytest.raises(UserError, match="'sentences'; update shakespeare-tui"):
        load_tokenizer(path)


def test_both_ends_of_unicode_make_a_vocabulary() -> None:
    ends = chr(0) + chr(sys.maxunicode)
    tokenizer = CharTokenizer(ends)
    assert tokenizer.encode(ends[::-1]).tolist() == [1, 0]
    assert tokenizer.decode([1, 0]) == ends[::-1]
    with pytest.raises(UnknownCharacterError):
        tokenizer.encode("a")


@pytest.mark.parametrize("name", sorted(TOKENIZERS))
def test_every_kind_is_where_it_is_said_to_be(name: str) -> None:
    assert tokenizer_kind(name).name == name
