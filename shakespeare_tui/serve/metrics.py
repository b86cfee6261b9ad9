"""What Prometheus reads of the server."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from shakespeare_tui.serve.models import ModelStore
from shakespeare_tui.serve.scheduler import Scheduler

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Metrics:
    """Counters of one server.

    Args:
        scheduler: Asked how many texts are under way.
        store: Asked what is loaded.
    """

    def __init__(self, scheduler: Scheduler, store: ModelStore) -> None:
        self._registry = registry = CollectorRegistry()
        prefix = "shakespeare_tui"
        self.requests = Counter(
            f"{prefix}_requests", "Requests answered.", ["path", "status"], registry=registry
        )
        self.seconds = Histogram(
            f"{prefix}_request_seconds",
            "From the first byte of a request to the last of its answer.",
            ["path"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.tokens = Counter(
            f"{prefix}_tokens", "Tokens read (prompt) and written.", ["kind"], registry=registry
        )
        self.cached = Counter(f"{prefix}_cached_texts", "Texts from memory.", registry=registry)
        for name, help_text, value in (
            ("texts_running", "Texts that are being written.", lambda: scheduler.running),
            ("texts_waiting", "Texts that wait.", lambda: scheduler.waiting),
            (
                "models_bytes",
                "About what loaded models take.",
                lambda: sum(model.size_bytes for model in store.loaded),
            ),
        ):
            Gauge(f"{prefix}_{name}", help_text, registry=registry).set_function(value)

    def text(self) -> bytes:
        """All of them, in Prometheus's format."""
        return generate_latest(self._registry)
