"""What one client, and all of them, may ask for; and the answer to whoever asks for more."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Limits:
    """Every bound of the server.

    Attributes:
        max_tokens: The most tokens of one text.
        prompt_tokens: The most tokens of one prompt.
        samples: The most texts of one request.
        body_bytes: The longest body.
        body_seconds: How long a client may take to send it.
        running: How many texts are written at once; the others wait.
        waiting: How many wait; more are refused.
        seconds: How long a request may take, its turn included, and not the loading of its model.
        stream_bytes: Keys and values of all texts that are written at once.
        cache_bytes: What is kept of seeded texts, to be given again; 0 keeps nothing.
        logprob_bytes: Logits of one request that are kept for its ``logprobs``.
        connections: The most clients that are connected.
    """

    max_tokens: int = 2048
    prompt_tokens: int = 16_384
    samples: int = 16
    body_bytes: int = 1_000_000
    body_seconds: float = 10.0
    running: int = 64
    waiting: int = 256
    seconds: float = 120.0
    stream_bytes: int = 1_000_000_000
    cache_bytes: int = 64_000_000
    logprob_bytes: int = 64_000_000
    connections: int = 1024


class RefusedError(Exception):
    """A request that is answered by an error.

    Args:
        status: Of HTTP.
        message: One line, the fix included.
        param: The field that is wrong.
        code: A word for programs.
    """

    def __init__(
        self, status: int, message: str, param: str | None = None, code: str | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code

    def as_json(self) -> dict[str, Any]:
        """As OpenAI's clients read it."""
        kinds = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        return {
            "error": {
                "message": self.message,
                "type": kinds.get(self.status, kind),
                "param": self.param,
                "code": self.code,
            }
        }
