"""The history of prompts: walking it, keeping it."""

from shakespeare_tui.ui.playground.prompt import PromptHistory


def test_up_and_down_walk_and_the_unsent_text_comes_back() -> None:
    history = PromptHistory(["ROMEO:", "KING:"])
    assert history.earlier("half writ") == "KING:"
    assert history.earlier("KING:") == "ROMEO:"
    assert history.earlier("ROMEO:") is None
    assert history.later() == "KING:"
    assert history.later() == "half writ"
    assert history.later() is None


def test_what_was_just_sent_is_skipped_on_the_way_back() -> None:
    history = PromptHistory()
    history.add("ROMEO:")
    history.add("KING:")
    assert history.earlier("KING:") == "ROMEO:"


def test_each_prompt_is_kept_once_and_fifty_at_most() -> None:
    history = PromptHistory(str(number) for number in range(60))
    assert len(history.prompts) == 50
    history.add("20")
    assert history.prompts[-1] == "20"
    assert history.prompts.count("20") == 1
    history.add("")
    assert history.prompts[-1] == "20"


def test_it_survives_json_and_damage_leaves_it_empty() -> None:
    history = PromptHistory(["a\nb", "[red]"])
    assert PromptHistory.from_json(history.to_json()).prompts == ("a\nb", "[red]")
    for damaged in ("", "{", "3", '{"a": 1}'):
        assert PromptHistory.from_json(damaged).prompts == ()
    assert PromptHistory.from_json('["a", 3]').prompts == ("a",)
