"""A headless Chromium, driven over its debugging pipe."""

import itertools
import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)


class Page:
    """A page in a browser of its own, which has no network.

    Args:
        path: The file that it opens.
        profile: An empty folder for the browser.
    """

    def __init__(self, path: Path, profile: Path) -> None:
        read, self._to = os.pipe()
        self._from, write = os.pipe()
        options = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--remote-debugging-pipe",
            "--host-resolver-rules=MAP * ~NOTFOUND",
            f"--user-data-dir={profile}",
        ]
        self._process = subprocess.Popen(
            ["bash", "-c", f'exec "$0" "$@" 3<&{read} 4>&{write}', CHROMIUM, *options],
            pass_fds=(read, write),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(read)
        os.close(write)
        self._numbers = itertools.count(1)
        self._buffer = b""
        self._session: str | None = None
        target = self.call("Target.createTarget", url=path.as_uri())["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]

    def call(self, method: str, **parameters: Any) -> Any:
        """One command of the DevTools protocol, and its result."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            while b"\0" not in self._buffer:
                piece = os.read(self._from, 1 << 16)
                assert piece, "the browser has ended"
                self._buffer += piece
            text, _, self._buffer = self._buffer.partition(b"\0")
            found = json.loads(text)
            if found.get("id") == number:
                assert "error" not in found, found
                return found["result"]

    def value(self, expression: str) -> Any:
        """What an expression of JavaScript comes to."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        return found["result"].get("value")

    def wait_for(self, expression: str, seconds: float = 120) -> None:
        """Until it is true."""
        deadline = time.monotonic() + seconds
        while not self.value(expression):
            assert time.monotonic() < deadline, self.value("document.body.innerText")
            time.sleep(0.1)

    def type(self, text: str) -> None:
        """As a keyboard would, into what has the focus."""
        self.call("Input.insertText", text=text)

    def close(self) -> None:
        """End the browser."""
        self._process.terminate()
        self._process.wait(20)
        os.close(self._to)
        os.close(self._from)
