"""``web``: the whole lab in a browser of this machine, by textual-serve."""

import argparse
import shlex
import sys
from typing import TYPE_CHECKING

from shakespeare_tui.cli.console import say, whole_number
from shakespeare_tui.errors import UserError

if TYPE_CHECKING:
    from aiohttp import web

_HOST = "127.0.0.1"


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = subparsers.add_parser(
        "web",
        help="open the lab in a browser",
        description="Serve the whole lab to browsers of this machine, a lab of its own for each "
        "tab, until Ctrl-C. Whoever reaches it can do what you can: other machines cannot.",
        epilog="Example: shakespeare-tui web, then open http://127.0.0.1:8001",
    )
    parser.add_argument("--port", type=whole_number, default=8001, help="8001")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Serve until told to end."""
    from shakespeare_tui.cli.serve import listen

    if not 1 <= arguments.port <= 65_535:
        raise UserError(f"--port must be from 1 to 65535, got {arguments.port}")
    try:
        from aiohttp import web
        from textual_serve.server import Server
    except ImportError:
        raise UserError(
            "the lab in a browser takes a package that is not installed: "
            "pip install 'shakespeare-tui[web]'"
        ) from None
    listen(_HOST, arguments.port).close()
    origin = f"http://{_HOST}:{arguments.port}"

    class LabServer(Server):  # type: ignore[misc, unused-ignore]
        """Lets in this machine's own pages: what a page of elsewhere opens is refused."""

        async def on_startup(self, app: "web.Application") -> None:
            app.on_response_prepare.append(_without_network)
            say(f"the lab is at {origin}; Ctrl-C ends it")

        async def handle_websocket(self, request: "web.Request") -> "web.WebSocketResponse":
            if request.headers.get("origin") != origin:
                raise web.HTTPForbidden(text="the lab is not opened from other pages")
            return await super().handle_websocket(request)

    command = shlex.join([sys.executable, "-m", "shakespeare_tui"])
    LabServer(command, _HOST, arguments.port, "shakespeare-tui").serve()
    return 0


async def _without_network(request: "web.Request", response: "web.StreamResponse") -> None:
    """The page is shown with what this machine has: no font is fetched from elsewhere."""
    response.headers["content-security-policy"] = (
        "default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval' ws:"
    )
