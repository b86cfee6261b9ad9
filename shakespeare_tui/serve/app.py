"""The routes: requests in JSON, answers as OpenAI's clients and plain ones expect them."""

import asyncio
import contextlib
import hmac
import json
import re
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shakespeare_tui import __version__
from shakespeare_tui.data.tokenizers.tokenizer import unsaid_share
from shakespeare_tui.errors import UserError
from shakespeare_tui.export.page import page
from shakespeare_tui.files import parse_json
from shakespeare_tui.serve import bodies
from shakespeare_tui.serve.limits import RefusedError
from shakespeare_tui.serve.models import ServedModel
from shakespeare_tui.serve.openapi import openapi_document
from shakespeare_tui.serve.service import Service
from shakespeare_tui.serve.texts import Piece, TextOrder, TokenScore

LOOPBACK = ("127.0.0.1", "localhost", "::1")
_OPEN_PATHS = ("/", "/health")
_CHAT_TOKENS = 512
_MODEL_CHOICE = """<div class="row">
  <label>Model <select id="model"></select></label>
  <label id="locked" hidden>API key <input id="key" type="password" autocomplete="off"></label>
</div>"""

Result = TypeVar("Result")


def create_app(
    service: Service,
    *,
    api_key: str | None = None,
    hosts: Iterable[str] | None = LOOPBACK,
    origins: Sequence[str] = (),
) -> ASGIApp:
    """The server as an ASGI application.

    Args:
        service: What is behind it; closed with it.
        api_key: What clients must bring; None lets everyone in.
        hosts: Names by which it may be called, so that no page of elsewhere reaches it by a name
            of its own; None takes all.
        origins: Of pages that browsers may let in.
    """
    routes = _Routes(service)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        service.close()

    paths = {
        "/": (routes.page, "GET"),
        "/generate": (routes.generate, "POST"),
        "/score": (routes.score, "POST"),
        "/v1/completions": (routes.completions, "POST"),
        "/v1/chat/completions": (routes.chat, "POST"),
        "/v1/models": (routes.models, "GET"),
        "/v1/models/{name:path}": (routes.model, "GET"),
        "/health": (routes.health, "GET"),
        "/metrics": (routes.metrics, "GET"),
        "/openapi.json": (routes.openapi, "GET"),
    }
    cors = Middleware(
        CORSMiddleware,
        allow_origins=list(origins),
        allow_methods=["GET", "POST"],
        allow_headers=["authorization", "content-type"],
    )
    app = Starlette(
        routes=[
            Route(path, endpoint, methods=[method]) for path, (endpoint, method) in paths.items()
        ],
        lifespan=lifespan,
        middleware=[cors] if origins else [],
        exception_handlers={
            RefusedError: lambda request, error: _refused(error),
            HTTPException: _no_such_route,
            # Nobody reads it.
            ClientDisconnect: lambda request, error: Response(status_code=499),
            Exception: _failed,
        },
    )
    return _Gate(app, service, api_key, None if hosts is None else frozenset(hosts))


def _refused(error: RefusedError) -> Response:
    headers = {"retry-after": "1"} if error.status in (429, 503) else {}
    if error.status == 401:
        headers["www-authenticate"] = "Bearer"
    # ``success`` is what plain clients look for.
    content = {"success": False, **error.as_json()}
    return JSONResponse(content, error.status, headers=headers)


def _no_such_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    words = {404: "there is nothing at this path", 405: "this path takes another method"}
    message = f"{words.get(error.status_code, error.detail)}; /openapi.json lists what there is"
    return _refused(RefusedError(error.status_code, message))


def _failed(request: Request, error: Exception) -> Response:
    return _refused(RefusedError(500, "the server failed at this request; its log says why"))


class _Gate:
    """Lets in whoever calls by the right name and key, and counts."""

    def __init__(
        self, app: ASGIApp, service: Service, api_key: str | None, hosts: frozenset[str] | None
    ) -> None:
        self._app, self._metrics = app, service.metrics
        self._api_key, self._hosts = api_key, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500
        path = scope["path"]
        known = path if re.fullmatch(r"/[a-z0-9/._]{0,30}", path) else "other"
        known = "/v1/models" if path.startswith("/v1/models/") else known

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            problem = self._problem(scope)
            answer = self._app if problem is None else _refused(problem)
            await answer(scope, receive, counted)
        finally:
            known = "other" if status == 404 else known
            self._metrics.requests.labels(known, str(status)).inc()
            self._metrics.seconds.labels(known).observe(time.perf_counter() - began)

    def _problem(self, scope: Scope) -> RefusedError | None:
        headers = {name: value for name, value in scope["headers"]}
        host = re.sub(r":\d*$", "", headers.get(b"host", b"").decode("latin-1")).strip("[]")
        if self._hosts is not None and host.lower() not in self._hosts:
            return RefusedError(421, "this server is not called by that name; use its address")
        is_preflight = scope["method"] == "OPTIONS"
        if self._api_key is None or scope["path"] in _OPEN_PATHS or is_preflight:
            return None
        given = headers.get(b"authorization", b"")
        if hmac.compare_digest(given, b"Bearer " + self._api_key.encode()):
            return None
        message = "the API key is missing or wrong; send it as 'Authorization: Bearer KEY'"
        return RefusedError(401, message, code="invalid_api_key")


async def _read_json(request: Request, service: Service) -> Any:
    """The body.

    Raises:
        RefusedError: It is too long, comes too slowly, or is no JSON.
    """
    limits = service.limits
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        # What no page of elsewhere can send without being asked for first.
        raise RefusedError(415, "send JSON, with the header 'Content-Type: application/json'")
    too_long = RefusedError(413, f"the body is longer than {limits.body_bytes:,} bytes")
    if request.headers.get("content-length", "0").rjust(20, "0") > str(limits.body_bytes).rjust(
        20, "0"
    ):
        raise too_long
    content = bytearray()
    try:
        async with asyncio.timeout(limits.body_seconds):
            async for piece in request.stream():
                content += piece
                if len(content) > limits.body_bytes:
                    raise too_long
    except TimeoutError:
        raise RefusedError(
            408, f"the body did not arrive within {limits.body_seconds:g} seconds"
        ) from None
    try:
        return parse_json(bytes(content))
    except ValueError as error:
        raise RefusedError(400, f"the body is no JSON: {error}") from None


async def _gone(request: Request) -> None:
    """Until the client has left."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _while_wanted(request: Request, work: Awaitable[Result]) -> Result:
    """The result; given up when the client leaves.

    Raises:
        ClientDisconnect: The client has left.
    """
    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(_gone(request))
    try:
        done, _ = await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if task in done:
            return task.result()
        raise ClientDisconnect
    finally:
        for each in (task, gone):
            each.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


class _EventStream(Response):
    """Server-sent events, one JSON object each; ends when the client leaves."""

    def __init__(
        self, request: Request, first: list[Any], rest: AsyncIterator[Any], seconds: float
    ) -> None:
        super().__init__(media_type="text/event-stream", headers={"cache-control": "no-cache"})
        del self.headers["content-length"]
        self._request, self._first, self._rest = request, first, rest
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        sending = asyncio.ensure_future(self._send(send))
        gone = asyncio.ensure_future(_gone(self._request))
        try:
            # A client that reads nothing is given up, too: sending to it does not return.
            await asyncio.wait(
                (sending, gone), timeout=self._seconds, return_when=asyncio.FIRST_COMPLETED
            )
            if sending.done():
                sending.result()
        finally:
            for task in (sending, gone):
                task.cancel()
            await asyncio.gather(sending, gone, return_exceptions=True)

    async def _send(self, send: Send) -> None:
        async def event(record: Any) -> None:
            text = record if isinstance(record, str) else json.dumps(record, ensure_ascii=False)
            body = f"data: {text}\n\n".encode("utf-8", "surrogatepass")
            await send({"type": "http.response.body", "body": body, "more_body": True})

        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        try:
            for record in self._first:
                await event(record)
            async for record in self._rest:
                await event(record)
            await event("[DONE]")
        except RefusedError as error:
            await event(error.as_json())
        finally:
            await self._rest.aclose()  # type: ignore[attr-defined]
        await send({"type": "http.response.body", "body": b"", "more_body": False})


class _Routes:
    def __init__(self, service: Service) -> None:
        self._service = service
        self._page = page(
            "shakespeare_tui.serve",
            TITLE="shakespeare-tui",
            STATUS="asking for models …",
            BEFORE=_MODEL_CHOICE,
            AFTER="",
        )
        self._started = time.time()

    async def page(self, request: Request) -> Response:
        policy = (
            "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
            "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        return HTMLResponse(self._page, headers={"content-security-policy": policy})

    async def health(self, request: Request) -> Response:
        scheduler = self._service.scheduler
        return JSONResponse(
            {
                "status": "ok",
                "version": __version__,
                "models": [model.name for model in self._service.store.models],
                "loaded": [model.name for model in self._service.store.loaded],
                "running": scheduler.running,
                "waiting": scheduler.waiting,
                "uptime_seconds": round(time.time() - self._started, 1),
            }
        )

    async def metrics(self, request: Request) -> Response:
        text = self._service.metrics.text()
        return Response(text, media_type="text/plain; version=0.0.4")

    async def openapi(self, request: Request) -> Response:
        return JSONResponse(openapi_document(__version__))

    async def models(self, request: Request) -> Response:
        found = [_described(model) for model in self._service.store.models]
        return JSONResponse({"object": "list", "data": found})

    async def model(self, request: Request) -> Response:
        return JSONResponse(_described(self._service.store.find(request.path_params["name"])))

    async def generate(self, request: Request) -> Response:
        body = await self._body(request, bodies.GenerateBody)
        model = self._service.store.find(body.model)
        prompt = await asyncio.to_thread(bodies.encoded, body.prompt, model.tokenizer)
        order = body.order(
            model, prompt, self._service.limits, max_tokens=body.max_tokens, keeps_stop=True
        )
        heat = order.strategy.parameters.get("temperature")

        async def written() -> dict[str, Any]:
            (choice,) = await self._collect([order], body)
            return {
                "success": True,
                "prompt": body.prompt,
                "generated": choice.text,
                "temperature": 0 if order.strategy.step("greedy") else heat,
                "model": model.name,
                "seed": order.seed,
                "tokens": choice.tokens,
                "finish_reason": choice.reason,
            }

        return JSONResponse(await _while_wanted(request, written()))

    async def score(self, request: Request) -> Response:
        body = await self._body(request, bodies.ScoreBody)
        model = self._service.store.find(body.model)
        tokens = await asyncio.to_thread(bodies.encoded, body.text, model.tokenizer)
        limits = self._service.limits
        if not 2 <= len(tokens) <= limits.prompt_tokens:
            raise RefusedError(
                400,
                f"text must have from 2 to {limits.prompt_tokens:,} tokens, got {len(tokens):,}",
                "text",
            )
        unsaid = await asyncio.to_thread(unsaid_share, model.tokenizer, body.text)
        scored = self._service.score(model, tokens, unsaid)
        return JSONResponse(await _while_wanted(request, scored))

    async def completions(self, request: Request) -> Response:
        body = await self._body(request, bodies.CompletionBody)
        model = self._service.store.find(body.model)
        if body.best_of not in (None, body.n):
            raise RefusedError(400, "best_of must be n: all texts are given", "best_of")
        max_tokens = 16 if body.max_tokens is None else body.max_tokens
        if not max_tokens and not body.echo:
            raise RefusedError(400, "max_tokens must be at least 1 without echo", "max_tokens")
        prompts = await asyncio.to_thread(body.prompts, model.tokenizer)
        orders = [
            body.order(
                model,
                prompt,
                self._service.limits,
                max_tokens=max_tokens,
                samples=body.n,
                top_logprobs=body.logprobs,
                scores_prompt=body.echo and body.logprobs is not None,
            )
            for prompt in prompts
        ]
        echoes = [model.tokenizer.decode(prompt) if body.echo else "" for prompt in prompts]
        frame = _Frame("text_completion", "cmpl", model.name)
        return await self._answer(request, body, orders, _Completions(frame, body, echoes))

    async def chat(self, request: Request) -> Response:
        body = await self._body(request, bodies.ChatBody)
        model = self._service.store.find(body.model)
        if model.chat_template is None:
            raise RefusedError(
                400,
                f"{model.name} was not made for chats: it has no chat template; use "
                "/v1/completions",
                "model",
            )
        messages = [message.as_template() for message in body.messages]
        try:
            text = await asyncio.to_thread(model.chat_template.render, messages)
        except UserError as error:
            raise RefusedError(400, str(error), "messages") from None
        prompt = await asyncio.to_thread(bodies.encoded, text, model.tokenizer)
        most = self._service.limits.max_tokens
        order = body.order(
            model,
            prompt,
            self._service.limits,
            max_tokens=body.max_completion_tokens or body.max_tokens or min(most, _CHAT_TOKENS),
            samples=body.n,
            top_logprobs=(body.top_logprobs or 0) if body.logprobs else None,
        )
        frame = _Frame("chat.completion", "chatcmpl", model.name)
        return await self._answer(request, body, [order], _Chats(frame, body))

    async def _body(self, request: Request, kind: type[bodies.Known]) -> bodies.Known:
        try:
            return bodies.read_body(kind, await _read_json(request, self._service))
        except ClientDisconnect:
            raise RefusedError(400, "the body was cut short") from None

    async def _collect(
        self, orders: Sequence[TextOrder], body: bodies.SamplingBody
    ) -> list["_Choice"]:
        choices = _choices(orders)
        async with contextlib.aclosing(self._pieces(orders, body)) as pieces:
            async for place, piece in pieces:
                for choice in choices:
                    choice.take(place, piece)
        return choices

    def _pieces(self, orders: Sequence[TextOrder], body: bodies.SamplingBody) -> Any:
        is_drawn = any(order.strategy.method == "sample" for order in orders)
        return self._service.write(orders, is_repeatable=body.seed is not None or not is_drawn)

    async def _answer(
        self,
        request: Request,
        body: bodies.OpenAiBody,
        orders: Sequence[TextOrder],
        form: "_Completions | _Chats",
    ) -> Response:
        if not body.stream:

            async def written() -> dict[str, Any]:
                choices = await self._collect(orders, body)
                return {**form.whole(choices), "usage": _usage(orders, choices)}

            return JSONResponse(await _while_wanted(request, written()))
        events = self._events(orders, body, form)
        # An error before the first piece has a status of its own.
        first = [await _while_wanted(request, anext(events))]
        return _EventStream(request, first, events, self._service.limits.seconds)

    async def _events(
        self,
        orders: Sequence[TextOrder],
        body: bodies.OpenAiBody,
        form: "_Completions | _Chats",
    ) -> AsyncIterator[dict[str, Any]]:
        choices = _choices(orders)
        async with contextlib.aclosing(self._pieces(orders, body)) as pieces:
            async for place, piece in pieces:
                for choice in choices:
                    if choice.take(place, piece):
                        for record in form.parts(choice, piece):
                            yield record
        if body.stream_options is not None and body.stream_options.include_usage:
            yield {**form.frame.chunk([]), "usage": _usage(orders, choices)}


def _described(model: ServedModel) -> dict[str, Any]:
    return {
        "id": model.name,
        "object": "model",
        "created": model.created,
        "owned_by": "shakespeare-tui",
        "vocab_size": model.tokenizer.vocab_size,
        "chat": model.chat_template is not None,
        "prompts": list(model.prompts),
    }


class _Choice:
    """One text of an answer."""

    def __init__(self, place: int, sample: int, index: int) -> None:
        self.place, self.sample, self.index = place, sample, index
        self.text, self.tokens, self.reason = "", 0, ""
        self.scores: list[TokenScore] = []
        self.offset = 0
        self.is_begun = False

    def take(self, place: int, piece: Piece) -> bool:
        """Add a piece, where it is of this text or of its prompt."""
        if place != self.place or piece.sample not in (self.sample, -1):
            return False
        if piece.sample >= 0:
            self.text += piece.text
        self.tokens += piece.tokens
        self.scores += piece.scores
        self.reason = piece.reason or self.reason
        return True


def _choices(orders: Sequence[TextOrder]) -> list[_Choice]:
    pairs = [(place, n) for place, order in enumerate(orders) for n in range(order.samples)]
    return [_Choice(place, sample, index) for index, (place, sample) in enumerate(pairs)]


def _usage(orders: Sequence[TextOrder], choices: Sequence[_Choice]) -> dict[str, int]:
    read = sum(len(order.prompt) for order in orders)
    written = sum(choice.tokens for choice in choices)
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}


class _Frame:
    """What stands around the texts of an answer."""

    def __init__(self, kind: str, prefix: str, model: str) -> None:
        self._kind = kind
        self._common = {
            "id": f"{prefix}-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": model,
        }

    def whole(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {**self._common, "object": self._kind, "choices": choices}

    def chunk(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        suffix = ".chunk" if self._kind.startswith("chat") else ""
        return {**self._common, "object": self._kind + suffix, "choices": choices}


class _Completions:
    """Answers of ``/v1/completions``."""

    def __init__(self, frame: _Frame, body: bodies.CompletionBody, echoes: Sequence[str]) -> None:
        self.frame, self._echoes = frame, echoes
        self._has_logprobs = body.logprobs is not None

    def whole(self, choices: Sequence[_Choice]) -> dict[str, Any]:
        return self.frame.whole(
            [
                {
                    "index": choice.index,
                    "text": self._echoes[choice.place] + choice.text,
                    "logprobs": self._logprobs(choice, choice.scores),
                    "finish_reason": choice.reason,
                }
                for choice in choices
            ]
        )

    def parts(self, choice: _Choice, piece: Piece) -> Iterable[dict[str, Any]]:
        """Of one piece; the prompt goes before the first."""
        text = "" if piece.sample < 0 else piece.text
        if not choice.is_begun:
            text = self._echoes[choice.place] + text
            choice.is_begun = True
        record = {
            "index": choice.index,
            "text": text,
            "logprobs": self._logprobs(choice, piece.scores),
            "finish_reason": piece.reason,
        }
        return [self.frame.chunk([record])]

    def _logprobs(self, choice: _Choice, scores: Sequence[TokenScore]) -> Mapping[str, Any] | None:
        if not self._has_logprobs:
            return None
        offsets = []
        for score in scores:
            offsets.append(choice.offset)
            choice.offset += len(score.text)
        return {
            "tokens": [score.text for score in scores],
            "token_logprobs": [score.logprob for score in scores],
            "top_logprobs": [
                None
                if score.logprob is None
                else {each.text: each.logprob for each in (*score.top, score)}
                for score in scores
            ],
            "text_offset": offsets,
        }


class _Chats:
    """Answers of ``/v1/chat/completions``."""

    def __init__(self, frame: _Frame, body: bodies.ChatBody) -> None:
        self.frame, self._has_logprobs = frame, body.logprobs

    def whole(self, choices: Sequence[_Choice]) -> dict[str, Any]:
        return self.frame.whole(
            [
                {
                    "index": choice.index,
                    "message": {"role": "assistant", "content": choice.text, "refusal": None},
                    "logprobs": self._logprobs(choice.scores),
                    "finish_reason": choice.reason,
                }
                for choice in choices
            ]
        )

    def parts(self, choice: _Choice, piece: Piece) -> Iterable[dict[str, Any]]:
        """Of one piece; who speaks comes with the first, why it is over with the last."""
        delta = {"content": piece.text}
        if not choice.is_begun:
            delta = {"role": "assistant", **delta}
            choice.is_begun = True
        record = {
            "index": choice.index,
            "delta": delta,
            "logprobs": self._logprobs(piece.scores),
            "finish_reason": piece.reason,
        }
        return [self.frame.chunk([record])]

    def _logprobs(self, scores: Sequence[TokenScore]) -> Mapping[str, Any] | None:
        if not self._has_logprobs:
            return None

        def record(score: TokenScore) -> dict[str, Any]:
            return {"token": score.text, "logprob": score.logprob, "bytes": list(score.bytes)}

        content = [
            {**record(score), "top_logprobs": [record(each) for each in score.top]}
            for score in scores
        ]
        return {"content": content, "refusal": None}
