"""Orders from the event loop to the threads that write, and their texts back."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from shakespeare_tui.data.tokenizers.tokenizer import shown_token, token_starts
from shakespeare_tui.decoding.score import score_tokens
from shakespeare_tui.errors import UserError
from shakespeare_tui.runs.losses import perplexity
from shakespeare_tui.serve.limits import Limits, RefusedError
from shakespeare_tui.serve.metrics import Metrics
from shakespeare_tui.serve.models import ModelStore, ServedModel
from shakespeare_tui.serve.scheduler import Scheduler, Ticket
from shakespeare_tui.serve.texts import Piece, TextCache, TextOrder, joined_by_sample, write_pieces

_log = logging.getLogger(__name__)


class Service:
    """All that is behind the routes.

    Args:
        store: The models.
        limits: Every bound.
        threads: How many write.
    """

    def __init__(self, store: ModelStore, limits: Limits, threads: int) -> None:
        self.store, self.limits = store, limits
        self.scheduler = Scheduler(threads, limits.running, limits.waiting, limits.stream_bytes)
        self.cache = TextCache(limits.cache_bytes)
        self.metrics = Metrics(self.scheduler, store)
        self._loader = ThreadPoolExecutor(len(store.models), "load")
        self._loading: dict[str, asyncio.Future[None]] = {}

    async def load(self, model: ServedModel) -> None:
        """Have a model in memory before something is asked of it.

        Code may have to be compiled for it, which takes long on a busy machine. That is no work of
        one request: it is on nobody's clock, and those who write go on meanwhile.

        Raises:
            RefusedError: It cannot be loaded.
        """
        if self.store.is_loaded(model):
            return
        loading = self._loading.get(model.name)
        if loading is None or loading.done():
            loop = asyncio.get_running_loop()
            loading = loop.run_in_executor(self._loader, self._load, model)
            # Whoever waited for it may have left.
            loading.add_done_callback(lambda done: done.cancelled() or done.exception())
            self._loading[model.name] = loading
        await asyncio.shield(loading)

    def _load(self, model: ServedModel) -> None:
        with self.store.lease(model):
            pass

    async def write(
        self, orders: Sequence[TextOrder], *, is_repeatable: bool
    ) -> AsyncIterator[tuple[int, Piece]]:
        """Yield the pieces of all orders, each with its place among them, as they are written.

        What is not wanted any more, because the iterator is closed, is given up.

        Args:
            orders: What to write.
            is_repeatable: Whether the same may be ordered again, and is kept.

        Raises:
            RefusedError: One cannot be written.
        """
        for name in {order.model for order in orders}:
            await self.load(self.store.find(name))
        fresh: dict[int, list[Piece]] = {}
        for place, order in enumerate(orders):
            known = self.cache.get(order) if is_repeatable else None
            if known is None:
                fresh[place] = []
                continue
            self.metrics.cached.inc()
            for piece in known:
                yield place, piece
        arrivals = _Arrivals(self.limits.seconds)
        tickets: list[Ticket[Piece]] = []
        try:
            for place in fresh:
                order = orders[place]
                model = self.store.find(order.model)
                self.metrics.tokens.labels("prompt").inc(len(order.prompt))
                tickets.append(
                    self.scheduler.submit(
                        self._steps(order, model),
                        arrivals.at(place),
                        weight=model.stream_bytes * order.samples,
                    )
                )
            left = len(fresh)
            while left:
                place, pieces, is_over = await arrivals.next()
                left -= is_over
                if is_repeatable:
                    fresh[place] += pieces
                    if is_over:
                        self.cache.put(orders[place], fresh[place])
                for piece in joined_by_sample(pieces):
                    self.metrics.tokens.labels("generated").inc(piece.tokens)
                    yield place, piece
        finally:
            for ticket in tickets:
                ticket.cancel()

    def _steps(self, order: TextOrder, model: ServedModel) -> Iterator[Piece]:
        with self.store.lease(model) as opened:
            yield from write_pieces(order, opened, model.tokenizer)

    async def score(
        self, model: ServedModel, tokens: Sequence[int], unsaid: float = 0.0
    ) -> dict[str, Any]:
        """How surprising a text is.

        Args:
            model: Reads it.
            tokens: At least two.
            unsaid: The share of them that do not say the text; then there is no mean.

        Raises:
            RefusedError: The model cannot be loaded.
        """

        def steps() -> Iterator[dict[str, Any]]:
            with self.store.lease(model) as opened:
                text = np.array(tokens, np.int64)
                surprise = score_tokens(opened.model, text, batch=1)  # type: ignore[arg-type]
                starts = token_starts(model.tokenizer, text)
                mean = None if unsaid else surprise.nats_per_character(starts)
                yield {
                    "model": model.name,
                    "unknown_share": unsaid,
                    "mean_surprise": mean,
                    "perplexity": perplexity(mean),
                    "accuracy": surprise.accuracy(),
                    "tokens": [
                        {
                            "token": shown_token(model.tokenizer, int(token)),
                            "surprise": float(nats) if rank else None,
                            "entropy": float(entropy) if rank else None,
                            "rank": int(rank) or None,
                        }
                        for token, nats, entropy, rank in zip(
                            text, surprise.nats, surprise.entropy, surprise.rank, strict=True
                        )
                    ],
                }

        await self.load(model)
        arrivals = _Arrivals(self.limits.seconds)
        ticket = self.scheduler.submit(steps(), arrivals.at(0), weight=model.stream_bytes)
        try:
            _, found, _ = await arrivals.next()
        finally:
            ticket.cancel()
        self.metrics.tokens.labels("prompt").inc(len(tokens))
        result: dict[str, Any] = found[0]
        return result

    def close(self) -> None:
        """Give up what is under way, and end the threads."""
        self._loader.shutdown(wait=False, cancel_futures=True)
        self.scheduler.close()


class _Arrivals:
    """What comes from the scheduler's threads, in the event loop.

    Args:
        seconds: How long it may take in all, waiting for a turn included.
    """

    def __init__(self, seconds: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._deadline = self._loop.time() + seconds
        self._queue: asyncio.Queue[tuple[int, Sequence[Any], BaseException | None, bool]] = (
            asyncio.Queue()
        )

    def at(self, place: int) -> Any:
        """Takes what is delivered for one order."""

        def deliver(items: Sequence[Any], problem: BaseException | None, is_over: bool) -> None:
            if items or problem or is_over:
                self._loop.call_soon_threadsafe(
                    self._queue.put_nowait, (place, items, problem, is_over)
                )

        return deliver

    async def next(self) -> tuple[int, Sequence[Any], bool]:
        try:
            async with asyncio.timeout_at(self._deadline):
                place, items, problem, is_over = await self._queue.get()
        except TimeoutError:
            raise RefusedError(
                408, "the request took too long; ask for fewer tokens", code="timeout"
            ) from None
        if isinstance(problem, UserError):
            raise RefusedError(400, str(problem))
        if problem is not None and not isinstance(problem, RefusedError):
            _log.error("a request failed", exc_info=problem)
            raise RefusedError(500, "the server failed at this request; its log says why")
        if problem is not None:
            raise problem
        return place, items, is_over
