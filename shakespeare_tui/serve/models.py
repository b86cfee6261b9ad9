"""The models that are served: loaded when they are asked for, and given up when room is needed."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from shakespeare_tui.data.tokenizers.chat_template import ChatTemplate
from shakespeare_tui.data.tokenizers.tokenizer import Tokenizer
from shakespeare_tui.decoding.decoder import Decoder
from shakespeare_tui.decoding.factory import AnyModel
from shakespeare_tui.errors import RunFailedError, UserError
from shakespeare_tui.formatting import format_bytes
from shakespeare_tui.serve.limits import RefusedError


@dataclass(frozen=True, eq=False)
class Opened:
    """A model in memory.

    Attributes:
        model: In evaluation mode.
        make_decoder: Of one stream; all of them share the model's weights.
    """

    model: AnyModel
    make_decoder: Callable[[], Decoder]


@dataclass(frozen=True, eq=False)
class ServedModel:
    """A model that may be asked for.

    Attributes:
        name: How requests name it.
        tokenizer: Its tokenizer.
        open: Loads it; raises ``UserError`` where that cannot be done.
        size_bytes: About what it takes in memory.
        stream_bytes: Keys and values of one text of it, at most.
        prompts: For a page to begin with.
        chat_template: None where it was not made for chats.
        created: Seconds since 1970.
    """

    name: str
    tokenizer: Tokenizer
    open: Callable[[], Opened]
    size_bytes: int
    stream_bytes: int
    prompts: Sequence[str] = ()
    chat_template: ChatTemplate | None = None
    created: int = 0


@dataclass
class _Place:
    served: ServedModel
    opened: Opened | None = None
    # Loaded, or being loaded: its memory is spoken for.
    is_counted: bool = False
    leases: int = 0
    used: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)


class ModelStore:
    """Models by name, in bounded memory.

    Args:
        models: The first is the one that is meant where none is named.
        memory_bytes: What those that are loaded may take together.
        notice: Told what is loaded, given up, or cannot be.

    Raises:
        UserError: One alone takes more, or two have one name.
    """

    def __init__(
        self,
        models: Sequence[ServedModel],
        memory_bytes: int,
        notice: Callable[[str], None] = lambda text: None,
    ) -> None:
        for model in models:
            if model.size_bytes > memory_bytes:
                raise UserError(
                    f"{model.name} takes about {format_bytes(model.size_bytes)}, more than the "
                    f"memory limit of {format_bytes(memory_bytes)}; raise --memory-limit"
                )
        self._places = {model.name: _Place(model) for model in models}
        if len(self._places) < len(models):
            raise UserError("a model is named twice; keep one of them")
        self._memory_bytes, self._notice = memory_bytes, notice
        self._lock = threading.Lock()

    @property
    def models(self) -> list[ServedModel]:
        """All of them, the usual one first."""
        return [place.served for place in self._places.values()]

    @property
    def loaded(self) -> list[ServedModel]:
        """Those that are in memory."""
        return [place.served for place in self._places.values() if place.opened is not None]

    def find(self, name: str | None) -> ServedModel:
        """The model of a request.

        Raises:
            RefusedError: There is none of that name.
        """
        if name is None:
            return self.models[0]
        place = self._places.get(name)
        if place is None:
            known = ", ".join(self._places)
            raise RefusedError(
                404, f"no such model is served; there is {known}", "model", "model_not_found"
            )
        return place.served

    def is_loaded(self, served: ServedModel) -> bool:
        """Whether it is in memory."""
        return self._places[served.name].opened is not None

    @contextlib.contextmanager
    def lease(self, served: ServedModel) -> Iterator[Opened]:
        """The model, loaded, and kept in memory as long as it is used.

        Raises:
            RefusedError: It cannot be loaded, or not beside those in use.
        """
        place = self._places[served.name]
        with self._lock:
            place.leases += 1
        try:
            with place.lock:  # whoever else wants it waits until it is there
                if place.opened is None:
                    self._make_room(place)
                    place.opened = self._open(place)
                opened = place.opened
            yield opened
        finally:
            with self._lock:
                place.leases -= 1
                place.used = time.monotonic()

    def _open(self, place: _Place) -> Opened:
        served = place.served
        try:
            opened = served.open()
        except (UserError, RunFailedError, OSError) as error:
            place.is_counted = False
            message = " ".join(str(error).split())
            self._notice(f"{served.name} cannot be loaded: {message}")
            # Paths of this machine are none of a client's business.
            raise RefusedError(
                503,
                f"{served.name} cannot be loaded: it was deleted or damaged while it was served",
                "model",
                "model_unavailable",
            ) from None
        self._notice(f"loaded {served.name}")
        return opened

    def _make_room(self, wanted: _Place) -> None:
        with self._lock:
            loaded = [place for place in self._places.values() if place.is_counted]
            needed = wanted.served.size_bytes + sum(p.served.size_bytes for p in loaded)
            for place in sorted(loaded, key=lambda place: place.used):
                if needed > self._memory_bytes and not place.leases:
                    place.opened, place.is_counted = None, False
                    needed -= place.served.size_bytes
                    self._notice(f"gave up {place.served.name} to make room")
            if needed > self._memory_bytes:
                raise RefusedError(
                    503,
                    f"{wanted.served.name} does not fit into memory beside the models in use; "
                    "try again in a moment",
                    "model",
                    "no_memory",
                )
            wanted.is_counted = True
