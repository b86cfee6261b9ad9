"""The server in this process, with a tiny model: what it answers is what the library writes."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import OpenAI
from real_cli import CommandLine
from served_models import MODEL, TEMPLATE, TOKENIZER, alone, listening, served
from starlette.testclient import TestClient

from shakespeare_tui.cli.serve import listen
from shakespeare_tui.decoding.factory import decoder_maker
from shakespeare_tui.decoding.score import score_tokens
from shakespeare_tui.errors import UserError
from shakespeare_tui.serve.app import create_app
from shakespeare_tui.serve.limits import Limits, RefusedError
from shakespeare_tui.serve.models import ModelStore, Opened, ServedModel
from shakespeare_tui.serve.scheduler import Scheduler
from shakespeare_tui.serve.service import Service


def make_client(limits: Limits, *models: ServedModel, **options: Any) -> TestClient:
    service = Service(ModelStore(models, 250), limits, 2)
    app = create_app(service, **options)
    return TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False)


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    limits = Limits(max_tokens=100, prompt_tokens=50, body_bytes=3000, samples=4)
    models = served("first", prompts=("To be",)), served("chats", chat_template=TEMPLATE)
    with make_client(limits, *models) as found:
        yield found


@pytest.fixture(scope="module")
def official() -> Iterator[OpenAI]:
    """OpenAI's own client, and a server that listens."""
    limits = Limits(max_tokens=100_000, body_bytes=3000, samples=4)
    models = served("first"), served("chats", chat_template=TEMPLATE)
    with (
        listening(create_app(Service(ModelStore(models, 250), limits, 2))) as url,
        OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as client,
    ):
        yield client


def completion(client: TestClient, **body: Any) -> dict[str, Any]:
    answer = client.post("/v1/completions", json={"prompt": "To be", **body})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_generate_answers_as_the_command_writes(client: TestClient) -> None:
    body = {"prompt": "To be", "temperature": 0.7, "seed": 3, "max_tokens": 40}
    answer = client.post("/generate", json=body).json()
    assert answer["success"] is True
    assert (answer["prompt"], answer["temperature"]) == ("To be", 0.7)
    assert answer["generated"] == alone("To be", 3, 40, 0.7)[0]
    assert answer["finish_reason"] == "length"


def test_many_at_once_are_each_as_written_alone(client: TestClient) -> None:
    found: dict[int, list[str]] = {}

    def ask(seed: int) -> None:
        choices = completion(client, seed=seed, max_tokens=30 + seed, n=2)["choices"]
        found[seed] = [choice["text"] for choice in choices]

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {seed: alone("To be", seed, 30 + seed, 1.0, 2) for seed in range(8)}


def test_equal_seeded_requests_come_from_memory(client: TestClient) -> None:
    first = completion(client, seed=77, max_tokens=20)["choices"]
    assert completion(client, seed=77, max_tokens=20)["choices"] == first
    assert "shakespeare_tui_cached_texts_total 1.0" in client.get("/metrics").text


def test_the_official_client_gets_texts_whole_and_in_pieces(official: OpenAI) -> None:
    asked: dict[str, Any] = {"model": "first", "prompt": "To be", "seed": 5, "max_tokens": 60}
    whole = official.completions.create(**asked, n=2, temperature=0.7)
    assert [choice.text for choice in whole.choices] == alone("To be", 5, 60, 0.7, 2)
    assert {choice.finish_reason for choice in whole.choices} == {"length"}
    texts, usage = ["", ""], None
    for chunk in official.completions.create(
        **asked,
        n=2,
        temperature=0.7,
        echo=True,
        stream=True,
        stream_options={"include_usage": True},
    ):
        usage = chunk.usage
        for choice in chunk.choices:
            texts[choice.index] += choice.text
    assert texts == ["To be" + choice.text for choice in whole.choices]
    assert usage is not None and usage == whole.usage
    assert (usage.prompt_tokens, usage.completion_tokens) == (5, 120)
    several = official.completions.create(model="first", prompt=["To", "be"], seed=5, max_tokens=9)
    expected = [alone(prompt, 5, 9, 1.0)[0] for prompt in ("To", "be")]
    assert [choice.text for choice in several.choices] == expected


@pytest.mark.parametrize("stop", ["e", "ab", ["Q", "zz", "o"]])
def test_a_stop_text_ends_the_text_and_is_no_part_of_it(
    official: OpenAI, stop: str | list[str]
) -> None:
    stops = [stop] if isinstance(stop, str) else stop
    found = official.completions.create(
        model="first", prompt="To be", seed=9, max_tokens=100, n=2, stop=stop
    )
    for choice, text in zip(found.choices, alone("To be", 9, 100, 1.0, 2), strict=True):
        ends = [text.index(each) for each in stops if each in text]
        assert choice.text == (text[: min(ends)] if ends else text)
        assert choice.finish_reason == ("stop" if ends else "length")


@pytest.mark.parametrize("max_tokens", [6, 0])
def test_logprobs_are_the_models_and_echo_scores_the_prompt(
    official: OpenAI, max_tokens: int
) -> None:
    (choice,) = official.completions.create(
        model="first", prompt="To be", seed=2, max_tokens=max_tokens, logprobs=3, echo=True
    ).choices
    told = choice.logprobs
    assert told is not None and told.token_logprobs and told.top_logprobs
    assert "".join(told.tokens or []) == choice.text
    nats = score_tokens(MODEL, TOKENIZER.encode(choice.text)).nats  # type: ignore[arg-type]
    assert told.token_logprobs[0] is None
    assert told.token_logprobs[1:] == pytest.approx((-nats[1:]).tolist(), abs=1e-4)
    assert told.text_offset == list(range(5 + max_tokens))
    assert all(3 <= len(each) <= 4 for each in told.top_logprobs[1:])


def test_score_agrees_with_the_evaluation(client: TestClient) -> None:
    answer = client.post("/score", json={"text": "To be, or not"}).json()
    surprise = score_tokens(MODEL, TOKENIZER.encode("To be, or not"))
    assert answer["mean_surprise"] == pytest.approx(surprise.mean(), abs=1e-5)
    assert "".join(each["token"] for each in answer["tokens"]) == "To be, or not"


def test_chats_take_the_models_template(official: OpenAI) -> None:
    asked: dict[str, Any] = {
        "model": "chats",
        "messages": [{"role": "user", "content": "hi"}],
        "seed": 4,
        "max_completion_tokens": 12,
    }
    (choice,) = official.chat.completions.create(**asked, logprobs=True, top_logprobs=2).choices
    (text,) = alone("user:hi|", 4, 12, 1.0)
    assert (choice.message.role, choice.message.content) == ("assistant", text)
    assert choice.logprobs is not None and choice.logprobs.content is not None
    assert "".join(each.token for each in choice.logprobs.content) == text
    assert {len(each.top_logprobs) for each in choice.logprobs.content} == {2}
    deltas = [chunk.choices[0] for chunk in official.chat.completions.create(**asked, stream=True)]
    assert "".join(each.delta.content or "" for each in deltas) == text
    assert (deltas[0].delta.role, deltas[-1].finish_reason) == ("assistant", "length")
    with pytest.raises(openai.BadRequestError, match="no chat template"):
        official.chat.completions.create(**{**asked, "model": "first"})


def test_the_official_client_knows_the_errors(official: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as wrong:
        official.completions.create(model="first", prompt="To be", temperature=-1)
    assert (wrong.value.param, wrong.value.type) == ("temperature", "invalid_request_error")
    with pytest.raises(openai.NotFoundError) as unknown:
        official.completions.create(model="gpt-4", prompt="To be")
    assert unknown.value.code == "model_not_found"
    with pytest.raises(openai.APIStatusError) as too_long:
        official.completions.create(model="first", prompt="x" * 4000)
    assert too_long.value.status_code == 413
    assert [model.id for model in official.models.list()] == ["first", "chats"]
    assert official.models.retrieve("chats").owned_by == "shakespeare-tui"
    refusals: tuple[tuple[dict[str, Any], Limits, type[openai.APIStatusError]], ...] = (
        ({"api_key": "secret"}, Limits(), openai.AuthenticationError),
        ({}, Limits(waiting=0), openai.RateLimitError),
    )
    for options, limits, kind in refusals:
        with make_client(limits, served("first"), **options) as client:
            other = OpenAI(
                base_url="http://127.0.0.1/v1", api_key="any", max_retries=0, http_client=client
            )
            with pytest.raises(kind):
                other.completions.create(model="first", prompt="To be")


def test_a_text_whose_client_has_left_is_given_up(official: OpenAI) -> None:
    stream = official.completions.create(
        model="first", prompt="To be", max_tokens=100_000, stream=True
    )
    next(iter(stream))
    stream.close()
    deadline = time.monotonic() + 60
    while official.get("../health", cast_to=dict[str, Any])["running"]:
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({}, 400, "prompt is missing"),
        ({"prompt": "To be", "temprature": 1}, 400, "did you mean temperature?"),
        ({"prompt": "To be", "temperature": -1}, 400, "temperature"),
        ({"prompt": "To be", "temperature": "hot"}, 400, "temperature"),
        ({"prompt": "To be", "max_tokens": 101}, 400, "limit of 100"),
        ({"prompt": "x" * 51}, 400, "limit of 50"),
        ({"prompt": ""}, 400, "empty"),
        ({"prompt": "é"}, 400, "is not in the vocabulary"),
        ({"prompt": "x" * 3000}, 413, "3,000 bytes"),
        ({"prompt": "To be", "strategy": "tempo=1", "max_tokens": 9}, 400, "unknown sampling step"),
        ({"prompt": "To be", "model": "../../etc/passwd"}, 404, "there is first, chats"),
        ([1], 400, "must be a JSON object"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    client: TestClient, body: Any, status: int, words: str
) -> None:
    answer = client.post("/generate", json=body)
    assert answer.status_code == status
    message = answer.json()["error"]["message"]
    assert words in message
    assert "\n" not in message


def test_bodies_that_are_no_json_are_refused(client: TestClient) -> None:
    assert client.post("/generate", content=b"{}").status_code == 415
    headers = {"content-type": "application/json"}
    for content in (b"{", b"[" * 2000, b"\xff"):
        assert client.post("/generate", content=content, headers=headers).status_code == 400
    assert client.get("/generate").status_code == 405
    assert client.get("/checkpoints/../run.json").status_code == 404
    assert client.get("/health", headers={"host": "evil.example"}).status_code == 421


def test_what_is_served_is_described(client: TestClient) -> None:
    assert [model["id"] for model in client.get("/v1/models").json()["data"]] == ["first", "chats"]
    assert client.get("/v1/models/chats").json()["chat"] is True
    assert client.get("/v1/models/other").status_code == 404
    assert client.get("/health").json()["status"] == "ok"
    document = client.get("/openapi.json").json()
    assert {"/generate", "/v1/completions", "/score"} <= document["paths"].keys()
    page = client.get("/")
    assert "connect-src 'self'" in page.headers["content-security-policy"]
    assert (
        "access-control-allow-origin"
        not in client.get("/health", headers={"origin": "https://example.org"}).headers
    )


def test_a_key_is_asked_for_and_pages_of_others_may_be_let_in() -> None:
    options = {"api_key": "secret", "hosts": None, "origins": ["https://example.org"]}
    with make_client(Limits(), served("first"), **options) as client:
        assert client.get("/health").status_code == 200
        assert client.get("/v1/models").status_code == 401
        right = {"authorization": "Bearer secret", "origin": "https://example.org"}
        answer = client.get("/v1/models", headers=right)
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == "https://example.org"


def test_models_are_given_up_for_others_and_a_deleted_one_is_told() -> None:
    notices: list[str] = []

    def deleted() -> Opened:
        raise UserError("no run 'gone' in /home/someone")

    models = served("a"), served("b"), served("c"), served("gone", open=deleted)
    service = Service(ModelStore(models, 250, notices.append), Limits(), 1)
    with TestClient(create_app(service), base_url="http://127.0.0.1") as client:
        for name in "abca":
            body = {"prompt": "To", "model": name, "max_tokens": 2}
            assert client.post("/generate", json=body).status_code == 200
        answer = client.post("/generate", json={"prompt": "To", "model": "gone"})
    assert answer.status_code == 503
    assert "deleted or damaged" in answer.json()["error"]["message"]
    assert "/home" not in answer.text
    assert notices[:5] == [
        "loaded a",
        "loaded b",
        "gave up a to make room",
        "loaded c",
        "gave up b to make room",
    ]


def test_a_model_that_loads_long_is_on_nobodys_clock_and_in_nobodys_way() -> None:
    loading, may_load = threading.Event(), threading.Event()
    found: list[int] = []

    def opened_late() -> Opened:
        loading.set()
        assert may_load.wait(200)
        return Opened(MODEL, decoder_maker(MODEL))

    limits = Limits(seconds=2)
    with make_client(limits, served("first"), served("late", open=opened_late)) as client:

        def ask() -> None:
            body = {"prompt": "To", "model": "late", "n": 2, "stop": "e", "max_tokens": 2}
            found.append(client.post("/v1/completions", json=body).status_code)

        threads = [threading.Thread(target=ask) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            assert loading.wait(60)
            assert completion(client, model="first", max_tokens=2)["choices"]
            threads[0].join(1.2 * limits.seconds)
            assert not found
        finally:
            may_load.set()
            for thread in threads:
                thread.join()
    assert found == [200, 200]


def test_more_than_the_queue_holds_is_refused_and_cancelled_work_is_closed() -> None:
    scheduler = Scheduler(threads=1, running=1, waiting=1, running_bytes=100)
    begun, closed, over = threading.Event(), threading.Event(), threading.Event()

    def endless() -> Iterator[int]:
        try:
            while True:
                begun.set()
                yield 1
        finally:
            closed.set()

    def deliver(items: Any, problem: Any, is_over: bool) -> None:
        if is_over:
            over.set()

    first = scheduler.submit(endless(), deliver, weight=1)
    assert begun.wait(10)
    scheduler.submit(iter(()), lambda *_: None, weight=1)
    with pytest.raises(RefusedError, match="try again"):
        scheduler.submit(iter(()), lambda *_: None, weight=1)
    first.cancel()
    assert closed.wait(10) and over.wait(10)
    scheduler.close()


def test_bad_command_lines_are_one_line(cli: CommandLine) -> None:
    with listen("127.0.0.1", 0) as used:
        port = used.getsockname()[1]
        for arguments, words in (
            (["serve", "nobody", f"--port={port}"], "give another --port"),
            (["web", f"--port={port}"], "give another --port"),
            (["serve", "nobody", "--port=0"], "there is no run"),
            (["serve", "nobody.gguf", "--port=0"], "there is no file"),
            (["serve", "nobody", "--port=70000"], "from 0 to 65535"),
            (["serve", "nobody", "--host=0.0.0.0"], "takes a key"),
            (["serve", "nobody", "--max-tokens=0"], "at least 1"),
        ):
            done = cli(*arguments)
            assert (done.code, done.err.count("\n")) == (2, 1), done.err
            assert words in done.err


def test_nothing_of_the_server_reads_a_path_from_a_request(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    with make_client(Limits(), served("first")) as client:
        for path in (f"/{tmp_path}/secret", f"/v1/models/{tmp_path}/secret", "/..%2f..%2fetc"):
            answer = client.get(path)
            assert answer.status_code == 404
            assert str(tmp_path) not in answer.text
