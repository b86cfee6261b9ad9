"""A list that typing narrows: keys of the list work while the text field has the focus."""

from textual.app import App
from textual.widgets import Input, OptionList

from shakespeare_tui.ui.widgets.choice_dialog import Choice, ChoiceDialog

RUNS = tuple(Choice("run", name) for name in ("char@10", "pairs@20", "pairs@30", "words@40"))


async def test_arrows_choose_while_one_types() -> None:
    app: App[None] = App()
    app.ascii = False  # type: ignore[attr-defined]
    chosen: list[Choice | None] = []
    async with app.run_test() as pilot:
        app.push_screen(ChoiceDialog("Checkpoint", RUNS, "pairs@20"), chosen.append)
        await pilot.pause()
        options, field = app.screen.query_one(OptionList), app.screen.query_one(Input)

        def highlighted() -> str:
            assert options.highlighted_option is not None
            return str(options.highlighted_option.prompt).strip()

        assert highlighted() == "pairs@20"
        await pilot.press("down", "down", "up", "down")
        assert highlighted() == "words@40"
        await pilot.press("p", "a", "left", "backspace", "i", "delete")  # the field's own keys
        assert field.value == "i"
        await pilot.press("ctrl+u", *"pairs", "down", "enter")
    assert chosen == [RUNS[2]]
