import io
import json
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from real_cli import TINY, CommandLine
from trained_run import fingerprints, trained

from shakespeare_tui.cli.main import main
from shakespeare_tui.cli.writing import Written
from shakespeare_tui.runs.folder import RunFolder
from shakespeare_tui.training.torch_state import load_model

__all__ = ["trained"]
pytestmark = pytest.mark.usefixtures("trained")

PROMPT = "ROMEO:"


def generate(cli: CommandLine, *arguments: str, run: str = "alpha") -> dict[str, Any]:
    outcome = cli("generate", run, f"--prompt={PROMPT}", "--max-tokens=40", "--json", *arguments)
    assert (outcome.code, outcome.err) == (0, "")
    result: dict[str, Any] = json.loads(outcome.out)
    return result


def texts(cli: CommandLine, *arguments: str, run: str = "alpha") -> list[str]:
    return [sample["text"] for sample in generate(cli, *arguments, run=run)["samples"]]


class TestJson:
    def test_one_object_with_what_was_asked_and_made(self, cli: CommandLine) -> None:
        result = generate(cli, "--num-samples=3", "--top-k=20", "--top-p=0.9", "--seed=7")
        assert result["prompt"] == PROMPT
        assert result["checkpoint"] == "alpha@30"
        assert result["settings"] == {
            "temperature": 0.8,
            "top_k": 20,
            "top_p": 0.9,
            "repetition_penalty": 1.0,
            "seed": 7,
            "precision": "auto",
            "max_tokens": 40,
            "num_samples": 3,
        }
        assert [len(sample["text"]) for sample in result["samples"]] == [40, 40, 40]
        assert len({sample["text"] for sample in result["samples"]}) == 3
        assert result["tokens_per_second"] > 0

    @pytest.mark.parametrize("precision", ["float32", "bfloat16", "int8"])
    def test_every_precision_writes(self, precision: str, cli: CommandLine) -> None:
        result = generate(cli, f"--precision={precision}", "--num-samples=2")
        assert result["settings"]["precision"] == precision
        assert [len(sample["text"]) for sample in result["samples"]] == [40, 40]

    def test_speed_counts_the_new_tokens_of_all_samples(self) -> None:
        written = Written([[1] * 40, [2] * 40, [3] * 20], ["a", "b", "c"], seconds=4.0, steady=0.0)
        assert written.tokens_per_second == 25

    def test_greedy_is_temperature_0(self, cli: CommandLine) -> None:
        assert generate(cli, "--greedy", "--temperature=2")["settings"]["temperature"] == 0
        assert texts(cli, "--greedy") == texts(cli, "--temperature=0") == texts(cli, "--top-k=1")


class TestText:
    def test_same_seed_same_text(self, cli: CommandLine) -> None:
        assert texts(cli, "--seed=1") == texts(cli, "--seed=1") != texts(cli, "--seed=2")

    def test_a_sample_is_the_same_however_many_are_made_beside_it(self, cli: CommandLine) -> None:
        assert texts(cli, "--num-samples=4")[:2] == texts(cli, "--num-samples=2")

    @pytest.mark.parametrize("max_tokens", [5, 10, 11, 60])
    def test_greedy_is_the_likeliest_character_each_time(
        self, max_tokens: int, cli: CommandLine, trained: RunFolder
    ) -> None:
        arguments = ("--greedy", f"--max-tokens={max_tokens}")
        with_cache = texts(cli, *arguments)
        assert with_cache == texts(cli, *arguments, "--no-cache")
        # By hand, as far as the text fits into the context of 16.
        model, tokenizer = load_model(trained.checkpoint(30), torch.device("cpu"))
        tokens = tokenizer.encode(PROMPT).tolist()
        with torch.no_grad():
            for _ in range(min(max_tokens, 10)):
                tokens.append(int(model(torch.tensor([tokens]))[0, -1].argmax()))
        assert with_cache[0].startswith(tokenizer.decode(tokens[len(PROMPT) :]))

    def test_sampled_with_and_without_cache(self, cli: CommandLine) -> None:
        assert texts(cli, "--num-samples=2") == texts(cli, "--num-samples=2", "--no-cache")

    def test_prompt_longer_than_the_context(self, cli: CommandLine) -> None:
        prompt = "--prompt=" + "To be or not to be, that is the matter. " * 4
        assert texts(cli, prompt, "--greedy") == texts(cli, prompt, "--greedy", "--no-cache")

    def test_each_reference_is_another_model(self, cli: CommandLine, trained: RunFolder) -> None:
        def both(run: str) -> list[str]:
            # At a high temperature, differences show even in weak models.
            return texts(cli, "--greedy", run=run) + texts(cli, "--temperature=5", run=run)

        last = both("alpha@30")
        assert both("alpha@10") != last
        for reference in ("alpha", "alpha@best", "alpha@last", str(trained.checkpoint_folder(30))):
            assert both(reference) == last

    def test_repetition_penalty_repeats_less(self, cli: CommandLine) -> None:
        (plain,), (varied,) = (
            texts(cli, "--greedy"),
            texts(cli, "--greedy", "--repetition-penalty=9"),
        )
        assert len(set(varied)) > len(set(plain))


class TestPrompt:
    def test_unknown_character_is_the_tokenizers_message(
        self, cli: CommandLine, trained: RunFolder
    ) -> None:
        with pytest.raises(Exception, match="position 2") as caught:
            trained.tokenizer().encode("ab€")
        outcome = cli("generate", "alpha", "--prompt=ab€")
        assert (outcome.code, outcome.out) == (2, "")
        assert outcome.err == f"error: {caught.value}\n"

    def test_by_default_the_runs_first(self, cli: CommandLine) -> None:
        outcome = cli("generate", "alpha", "--max-tokens=3")
        assert outcome.code == 0
        assert outcome.out.startswith("ROMEO:")

    def test_a_run_whose_text_lacks_the_default_prompts_characters(
        self, cli: CommandLine, tmp_path: Path
    ) -> None:
        corpus = tmp_path / "small.txt"
        corpus.write_text("abc abd " * 100)
        training = cli(
            "train", "--no-ui", *TINY, f"--corpus={corpus}", "--max-steps=2", "--name=small"
        )
        assert training.code == 0
        outcome = cli("generate", "small", "--max-tokens=5")
        assert (outcome.code, len(outcome.out)) == (0, 7)
        # The summary's command fits the corpus too.
        assert cli(*_next_command(training.out)).code == 0


def _next_command(summary: str) -> list[str]:
    (line,) = (line for line in summary.splitlines() if line.startswith("next "))
    name, *arguments = shlex.split(line.removeprefix("next "))
    assert name == "shakespeare-tui"
    return arguments


class TestStreaming:
    def test_streamed_is_the_jsons_text(self, cli: CommandLine) -> None:
        outcome = cli("generate", "alpha", f"--prompt={PROMPT}", "--max-tokens=40", "--seed=5")
        assert outcome.out == PROMPT + texts(cli, "--seed=5")[0] + "\n"
        assert outcome.err.endswith(" tokens/s\n")

    def test_several_under_headings(self, cli: CommandLine) -> None:
        arguments = ("generate", "alpha", f"--prompt={PROMPT}", "--max-tokens=40")
        outcome = cli(*arguments, "--num-samples=3")
        wanted = texts(cli, "--num-samples=3")
        for number, text in enumerate(wanted, start=1):
            assert f" sample {number} of 3 " in outcome.out
            assert PROMPT + text + "\n" in outcome.out

    def test_each_character_as_soon_as_it_is_made(self, monkeypatch: pytest.MonkeyPatch) -> None:
        pieces: list[str] = []

        class Watched(io.StringIO):
            def flush(self) -> None:
                pieces.append(self.getvalue())

        monkeypatch.setattr(sys, "stdout", Watched())
        assert main(["generate", "alpha", f"--prompt={PROMPT}", "--max-tokens=9"]) == 0
        lengths = [len(piece) for piece in pieces]
        assert lengths[:10] == [len(PROMPT) + made for made in range(10)]

    def test_characters_that_the_terminal_lacks(
        self, monkeypatch: pytest.MonkeyPatch, cli: CommandLine, tmp_path: Path
    ) -> None:
        corpus = tmp_path / "greek.txt"
        corpus.write_text("αβγ δε " * 200, encoding="utf-8")
        cli("train", "--no-ui", *TINY, f"--corpus={corpus}", "--max-steps=2", "--name=greek")
        for extra in ([], ["--json"]):
            raw = io.BytesIO()
            stdout = io.TextIOWrapper(raw, encoding="ascii")
            monkeypatch.setattr(sys, "stdout", stdout)
            assert main(["generate", "greek", "--max-tokens=30", "--prompt=αβ", *extra]) == 0
            stdout.flush()
            text = raw.getvalue().decode("ascii")
            if extra:
                assert json.loads(text)["prompt"] == "αβ"
                assert set(json.loads(text)["samples"][0]["text"]) <= set("αβγδε ")
            else:
                assert text.startswith("??")


class TestOutput:
    def test_text(self, cli: CommandLine, tmp_path: Path) -> None:
        path = tmp_path / "out.txt"
        path.write_text("what was there before")
        arguments = (
            "generate",
            "alpha",
            f"--prompt={PROMPT}",
            "--max-tokens=40",
            "--num-samples=2",
        )
        refused = cli(*arguments, f"--output={path}")
        assert (refused.code, refused.out) == (2, "")
        assert "exists" in refused.err and "--force" in refused.err
        assert path.read_text() == "what was there before"
        outcome = cli(*arguments, f"--output={path}", "--force")
        assert (outcome.code, outcome.out) == (0, "")
        assert outcome.err == f"wrote 2 samples to {path}\n"
        content = path.read_text(encoding="utf-8")
        assert content.count("sample ") == 2
        for text in texts(cli, "--num-samples=2"):
            assert PROMPT + text + "\n" in content

    def test_one_sample_is_the_bare_text(self, cli: CommandLine, tmp_path: Path) -> None:
        path = tmp_path / "out.txt"
        cli("generate", "alpha", f"--prompt={PROMPT}", "--max-tokens=40", f"--output={path}")
        assert path.read_text() == PROMPT + texts(cli)[0] + "\n"

    def test_json(self, cli: CommandLine, tmp_path: Path) -> None:
        path = tmp_path / "out.json"
        outcome = cli(
            *("generate", "alpha", f"--prompt={PROMPT}", "--max-tokens=40", "--json"),
            f"--output={path}",
        )
        assert (outcome.code, outcome.out) == (0, "")
        saved, printed = json.loads(path.read_text()), generate(cli)
        assert saved.pop("tokens_per_second") > 0
        del printed["tokens_per_second"]
        assert saved == printed

    def test_the_run_is_left_as_it_was(self, cli: CommandLine, trained: RunFolder) -> None:
        before = fingerprints(trained.path)
        generate(cli)
        assert fingerprints(trained.path) == before


def test_a_reader_that_leaves_is_no_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with (tmp_path / "out").open("w") as file:

        class Closed(io.StringIO):
            def write(self, text: str) -> int:
                raise BrokenPipeError

            def fileno(self) -> int:
                return file.fileno()

        monkeypatch.setattr(sys, "stdout", Closed())
        assert main(["generate", "alpha", "--max-tokens=3"]) == 0


class TestOneRuleForPrompts:
    def test_a_backslash_and_n_are_a_new_line(self, cli: CommandLine) -> None:
        typed = generate(cli, r"--prompt=ROMEO:\nO", "--max-tokens=40")
        assert typed["prompt"] == "ROMEO:\nO"
        assert typed["samples"] == generate(cli, "--prompt=ROMEO:\nO", "--max-tokens=40")["samples"]

    def test_stop_follows_it(self, cli: CommandLine) -> None:
        whole = texts(cli, "--max-tokens=400", "--temperature=1.5")[0]
        assert "\n" in whole
        stopped = texts(cli, "--max-tokens=400", "--temperature=1.5", r"--stop=\n")[0]
        assert stopped == whole[: whole.index("\n") + 1]

    def test_a_dash_reads_stdin_as_it_is(
        self, cli: CommandLine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for read, words in ((b"ROMEO:\nO", None), (b"", "stdin is empty"), (b"\xff", "not UTF-8")):
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(read)))
            outcome = cli("generate", "alpha", "--prompt=-", "--max-tokens=5", "--json")
            if words is None:
                assert json.loads(outcome.out)["prompt"] == "ROMEO:\nO"
            else:
                assert outcome.code == 2
                assert words in outcome.err

    @pytest.mark.parametrize(
        ("given", "words"),
        [("1e30", "below 2^63"), ("9" * 5000, "below 2^63"), ("1.5", "a whole number")],
    )
    def test_whole_numbers(self, given: str, words: str, cli: CommandLine) -> None:
        written = generate(cli, "--max-tokens=4e1", "--seed=1,000")
        assert (written["settings"]["max_tokens"], written["settings"]["seed"]) == (40, 1000)
        outcome = cli("generate", "alpha", f"--max-tokens={given}")
        assert outcome.code == 2
        assert words in outcome.err
