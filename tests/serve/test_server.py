"""The server in this process, with a tiny model: what it answers is what the library writes."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from shakespeare_tui.config.schema import ModelConfig
from shakespeare_tui.data.tokenizers.chat_template import ChatTemplate
from shakespeare_tui.data.tokenizers.tokenizer import CharTokenizer
from shakespeare_tui.decoding.columns import Column, generate_columns
from shakespeare_tui.decoding.factory import decoder_maker, make_decoder
from shakespeare_tui.decoding.score import score_tokens
from shakespeare_tui.errors import UserError
from shakespeare_tui.models.numpy_gpt import GPT
from shakespeare_tui.sampling import strategy_from_flags
from shakespeare_tui.serve.app import create_app
from shakespeare_tui.serve.limits import Limits, RefusedError
from shakespeare_tui.serve.models import ModelStore, Opened, ServedModel
from shakespeare_tui.serve.scheduler import Scheduler
from shakespeare_tui.serve.service import Service

TOKENIZER = CharTokenizer("\n !,.:abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ|<>")
SHAPE = ModelConfig(d_model=16, n_heads=2, n_layers=1, d_ff=32, max_seq_len=16)
MODEL = GPT(SHAPE, TOKENIZER.vocab_size, np.random.default_rng(0))
TEMPLATE = ChatTemplate("{% for m in messages %}{{ m.role }}:{{ m.content }}|{% endfor %}")


def served(name: str, **values: Any) -> ServedModel:
    return ServedModel(
        name=name,
        tokenizer=TOKENIZER,
        open=values.pop("open", lambda: Opened(MODEL, decoder_maker(MODEL))),
        size_bytes=values.pop("size_bytes", 100),
        stream_bytes=10,
        **values,
    )


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


def alone(prompt: str, seed: int, tokens: int, temperature: float, samples: int = 1) -> list[str]:
    column = Column(strategy=strategy_from_flags(temperature), samples=samples, seed=seed)
    rows = generate_columns(
        make_decoder(MODEL, 1), TOKENIZER.encode(prompt).tolist(), [column], max_tokens=tokens
    )
    return [TOKENIZER.decode(stream) for stream in zip(*rows, strict=True)]


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


def test_a_stream_is_the_text_in_pieces(client: TestClient) -> None:
    whole = completion(client, seed=5, max_tokens=60, n=2, echo=True)["choices"]
    body = {"prompt": "To be", "seed": 5, "max_tokens": 60, "n": 2, "echo": True, "stream": True}
    body["stream_options"] = {"include_usage": True}
    answer = client.post("/v1/completions", json=body)
    lines = [line.removeprefix("data: ") for line in answer.text.splitlines() if line]
    assert lines[-1] == "[DONE]"
    *chunks, usage = map(json.loads, lines[:-1])
    texts = ["", ""]
    for chunk in chunks:
        for choice in chunk["choices"]:
            texts[choice["index"]] += choice["text"]
    assert texts == [choice["text"] for choice in whole]
    assert usage["usage"] == {"prompt_tokens": 5, "completion_tokens": 120, "total_tokens": 125}


@pytest.mark.parametrize("stop", ["e", "ab", ["Q", "zz", "o"]])
def test_a_stop_text_ends_the_text_and_is_no_part_of_it(
    client: TestClient, stop: str | list[str]
) -> None:
    (text,) = alone("To be", 9, 100, 1.0)
    stops = [stop] if isinstance(stop, str) else stop
    ends = [text.index(each) for each in stops if each in text]
    (choice,) = completion(client, seed=9, max_tokens=100, stop=stop)["choices"]
    assert choice["text"] == (text[: min(ends)] if ends else text)
    assert choice["finish_reason"] == ("stop" if ends else "length")


def test_logprobs_are_the_models_and_echo_scores_the_prompt(client: TestClient) -> None:
    (choice,) = completion(client, seed=2, max_tokens=6, logprobs=3, echo=True)["choices"]
    told = choice["logprobs"]
    assert "".join(told["tokens"]) == choice["text"]
    nats = score_tokens(MODEL, TOKENIZER.encode(choice["text"])).nats  # type: ignore[arg-type]
    assert told["token_logprobs"][0] is None
    assert told["token_logprobs"][1:] == pytest.approx((-nats[1:]).tolist(), abs=1e-4)
    assert told["text_offset"] == list(range(11))
    assert all(3 <= len(each) <= 4 for each in told["top_logprobs"][1:])


def test_score_agrees_with_the_evaluation(client: TestClient) -> None:
    answer = client.post("/score", json={"text": "To be, or not"}).json()
    surprise = score_tokens(MODEL, TOKENIZER.encode("To be, or not"))
    assert answer["mean_surprise"] == pytest.approx(surprise.mean(), abs=1e-5)
    assert "".join(each["token"] for each in answer["tokens"]) == "To be, or not"


def test_chats_take_the_models_template(client: TestClient) -> None:
    messages = [{"role": "user", "content": "hi"}]
    body = {"model": "chats", "messages": messages, "seed": 4, "max_tokens": 12}
    answer = client.post("/v1/chat/completions", json=body).json()
    assert answer["choices"][0]["message"]["content"] == alone("user:hi|", 4, 12, 1.0)[0]
    refused = client.post("/v1/chat/completions", json={**body, "model": "first"})
    assert refused.status_code == 400
    assert "no chat template" in refused.json()["error"]["message"]


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


def test_nothing_of_the_server_reads_a_path_from_a_request(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    with make_client(Limits(), served("first")) as client:
        for path in (f"/{tmp_path}/secret", f"/v1/models/{tmp_path}/secret", "/..%2f..%2fetc"):
            answer = client.get(path)
            assert answer.status_code == 404
            assert str(tmp_path) not in answer.text
