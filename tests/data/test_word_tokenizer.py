"""Words as tokens, counted as the word-level releases of WikiText are."""

import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from shakespeare_tui.data.tokenizers.word import WordTokenizer

# The form of the word-level release: a space before every word and before each line's end.
WIKI = " \n = Homarus gammarus = \n \n The <unk> lobster , known as lobster . \n"
WORDS = WordTokenizer.from_corpus([WIKI])


def test_tokens_are_words_and_line_ends() -> None:
    words = WordTokenizer.from_corpus([WIKI])
    ids = words.encode(WIKI)
    assert len(ids) == sum(len(line.split()) + 1 for line in WIKI.splitlines())
    assert words.vocab_size == len({*WIKI.split(), "\n"})
    assert words.decode(ids.tolist()) == WIKI
    assert words.token_bytes(int(ids[2])) == b" Homarus"


def test_a_word_outside_the_vocabulary_is_the_unknown_one() -> None:
    words = WordTokenizer.from_corpus([WIKI])
    ids = words.encode(" The crab . \n").tolist()
    assert words.decode(ids) == " The <unk> . \n"
    few = WordTokenizer.from_corpus(["b b a a a c"], 3)
    assert few.vocab_size == 3
    assert few.decode(few.encode("b a c").tolist()) == "<unk> a<unk>".replace("<", " <")


def test_the_file_opens_elsewhere(tmp_path) -> None:  # type: ignore[no-untyped-def]
    words = WordTokenizer.from_corpus([WIKI])
    words.save(tmp_path / "tokenizer.json")
    elsewhere = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert elsewhere.encode(WIKI).ids == words.encode(WIKI).tolist()
    assert elsewhere.decode(elsewhere.encode(WIKI).ids) == WIKI


@given(st.lists(st.sampled_from([*WIKI.split(), " ", "\n", "  "]), max_size=30), st.integers(1, 9))
def test_a_cut_changes_no_token(words: list[str], size: int) -> None:
    text = " ".join(words)
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    ids = [token for part in WORDS.encode_stream(pieces) for token in part.tolist()]
    assert ids == WORDS.encode(text).tolist()
