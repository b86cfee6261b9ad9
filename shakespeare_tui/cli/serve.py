"""``serve``: models behind an HTTP server, for OpenAI's clients, plain ones and a browser."""

import argparse
import os
import signal
import socket
from typing import TYPE_CHECKING

from shakespeare_tui.cli.completion import checkpoint_names, completes
from shakespeare_tui.cli.console import check_device, print_json, say, whole_number
from shakespeare_tui.cli.writing import PRECISIONS, NamedModel, find_model
from shakespeare_tui.errors import UserError
from shakespeare_tui.files import reason

if TYPE_CHECKING:
    from shakespeare_tui.serve.models import Opened, ServedModel

_KEY_VARIABLE = "SHAKESPEARE_TUI_API_KEY"
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_PACKAGES = "serving takes packages that are not installed: pip install 'shakespeare-tui[serve]'"
# Of a file of another program, whose shape is known only when it is open.
_UNKNOWN_STREAM_BYTES = 50_000_000


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = subparsers.add_parser(
        "serve",
        help="serve models over HTTP: a page, OpenAI's API, POST /generate",
        description="Serve models over HTTP until Ctrl-C or SIGTERM, after which texts that are "
        "under way are still written. There is a page at /, the API of OpenAI below /v1, "
        "/generate, /score, /health, /metrics and /openapi.json.",
        epilog="Example: shakespeare-tui serve quick-1 --port 8000",
    )
    checkpoints = parser.add_argument(
        "checkpoints",
        nargs="+",
        metavar="RUN[@REF]",
        help="runs, or exported .onnx or .gguf files; the first answers where none is named",
    )
    completes(checkpoints, checkpoint_names)
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="where to listen; others than this machine's own 127.0.0.1 take a key",
    )
    parser.add_argument("--port", type=whole_number, default=8000, help="8000; 0 takes a free one")
    parser.add_argument(
        "--api-key",
        metavar="KEY",
        help=f"what clients must send as their bearer token; better given as {_KEY_VARIABLE}",
    )
    parser.add_argument(
        "--cors",
        action="append",
        default=[],
        metavar="ORIGIN",
        help="let pages of ORIGIN, https://example.org, use it from a browser; repeatable",
    )
    parser.add_argument(
        "--memory-limit",
        type=whole_number,
        metavar="MB",
        help="what loaded models may take together; default: half of the free memory",
    )
    parser.add_argument(
        "--max-tokens", type=whole_number, default=2048, metavar="N", help="of one text (2048)"
    )
    parser.add_argument(
        "--max-prompt", type=whole_number, default=16_384, metavar="N", help="tokens (16384)"
    )
    parser.add_argument(
        "--max-running", type=whole_number, default=64, metavar="N", help="texts at once (64)"
    )
    parser.add_argument(
        "--max-waiting",
        type=whole_number,
        default=256,
        metavar="N",
        help="texts that wait for their turn; more are refused with 429 (256)",
    )
    parser.add_argument(
        "--timeout", type=whole_number, default=120, metavar="SECONDS", help="of a request (120)"
    )
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="auto",
        help="auto computes in the model's own precision; bfloat16 and int8 round the weights",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
    parser.add_argument("--access-log", action="store_true", help="print a line for each request")
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object when it is ready"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Serve until told to end."""
    api_key = arguments.api_key or os.environ.get(_KEY_VARIABLE) or None
    _check(arguments, api_key)
    try:
        import prometheus_client  # noqa: F401
        import starlette  # noqa: F401
        import uvicorn
    except ImportError:
        raise UserError(_PACKAGES) from None
    from shakespeare_tui.machine import free_memory, usable_cores
    from shakespeare_tui.serve.app import create_app
    from shakespeare_tui.serve.limits import Limits
    from shakespeare_tui.serve.models import ModelStore
    from shakespeare_tui.serve.service import Service

    # Before anything is loaded: a port in use fails at once.
    listener = listen(arguments.host, arguments.port)
    names = dict.fromkeys(arguments.checkpoints)
    models = [_served(find_model(name), name, arguments) for name in names]
    memory = arguments.memory_limit and arguments.memory_limit * 10**6
    memory = memory or (free_memory() or 4 * 10**9) // 2
    store = ModelStore(models, memory, say)
    taken = 0
    for model in models:
        taken += model.size_bytes
        if taken <= memory:
            with store.lease(model):
                pass
    limits = Limits(
        max_tokens=arguments.max_tokens,
        prompt_tokens=arguments.max_prompt,
        running=arguments.max_running,
        waiting=arguments.max_waiting,
        seconds=arguments.timeout,
    )
    service = Service(store, limits, usable_cores())
    is_loopback = arguments.host in _LOOPBACK
    app = create_app(
        service,
        api_key=api_key,
        hosts=_LOOPBACK if is_loopback else None,
        origins=arguments.cors,
    )
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    url = f"http://{shown}:{port}"
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            # A warning for each request that is no HTTP would let anyone fill the log.
            log_level="info" if arguments.access_log else "error",
            access_log=arguments.access_log,
            limit_concurrency=limits.connections,
            timeout_graceful_shutdown=arguments.timeout,
            server_header=False,
        )
    )
    if arguments.json:
        print_json({"url": url, "models": [model.name for model in models], "pid": os.getpid()})
    say(f"serving {', '.join(names)} at {url}; Ctrl-C ends it")
    # Uvicorn ends in order at either signal and then raises it again, for whoever wants it.
    before = [signal.signal(number, _ignored) for number in (signal.SIGTERM, signal.SIGINT)]
    try:
        server.run(sockets=[listener])
    finally:
        for number, handler in zip((signal.SIGTERM, signal.SIGINT), before, strict=True):
            signal.signal(number, handler)
        service.close()
    say("ended")
    return 0


def _ignored(number: int, frame: object) -> None:
    pass


def _check(arguments: argparse.Namespace, api_key: str | None) -> None:
    check_device(arguments.device)
    if not 0 <= arguments.port <= 65_535:
        raise UserError(f"--port must be from 0 to 65535, got {arguments.port}")
    for name in ("max_tokens", "max_prompt", "max_running", "timeout"):
        value = getattr(arguments, name)
        if value < 1:
            raise UserError(f"--{name.replace('_', '-')} must be at least 1, got {value}")
    for name in ("max_waiting", "memory_limit"):
        value = getattr(arguments, name)
        if value is not None and value < 0:
            raise UserError(f"--{name.replace('_', '-')} must be at least 0, got {value}")
    if arguments.host not in _LOOPBACK and api_key is None:
        raise UserError(
            f"--host {arguments.host} lets other machines in, which takes a key: set "
            f"{_KEY_VARIABLE}, or give --api-key"
        )
    if api_key is not None and not (api_key.isascii() and api_key.isprintable()):
        raise UserError("the API key must be of printable ASCII characters")


def listen(host: str, port: int) -> socket.socket:
    """Where clients will connect.

    Raises:
        UserError: The port is in use, or the host is none of this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise UserError(
            f"cannot listen at {host}, port {port}: {reason(error)}; give another --port or --host"
        ) from None


def _served(found: NamedModel, name: str, arguments: argparse.Namespace) -> "ServedModel":
    from pathlib import Path

    from shakespeare_tui.serve.models import ServedModel

    precision, device = arguments.precision, arguments.device

    def opened() -> "Opened":
        from shakespeare_tui.decoding.factory import decoder_maker
        from shakespeare_tui.serve.models import Opened

        # Found anew: the run may have been deleted, or trained on.
        model = find_model(name).open(device, precision)
        return Opened(model, decoder_maker(model, precision))

    checkpoint = found.checkpoint
    path = Path(name) if checkpoint is None else checkpoint.weights_path
    stream = _UNKNOWN_STREAM_BYTES
    if found.config is not None:
        shape = found.config.model
        # Keys and values in float32.
        numbers = 2 * shape.n_layers * shape.key_heads * shape.head_width
        stream = 4 * numbers * min(found.config.seq_len, shape.max_seq_len)
    return ServedModel(
        name=Path(name).name if checkpoint is None else name,
        tokenizer=found.tokenizer,
        open=opened,
        # The model, and its weights as they are packed for decoding.
        size_bytes=2 * (path.stat().st_size if checkpoint is None else checkpoint.weights_bytes),
        stream_bytes=stream,
        prompts=tuple(found.prompts),
        chat_template=found.chat_template,
        created=int(path.stat().st_mtime),
    )
