"""A headless Chromium, driven over its debugging pipe."""

import base64
import io
import itertools
import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

from PIL import Image

_ESCAPES = re.compile(r"\x1b(\[[0-9;?=<>]*[a-zA-Z]|[()].|[=>])")
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)


class Page:
    """A page in a browser of its own, which reaches this machine and no network.

    Args:
        url: What it opens.
        profile: An empty folder for the browser.
    """

    def __init__(self, url: str, profile: Path) -> None:
        read, self._to = os.pipe()
        self._from, write = os.pipe()
        options = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--window-size=1200,800",
            "--remote-debugging-pipe",
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
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
        self._received = b""
        self._session: str | None = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        self.call("Network.enable")
        self.call("Page.navigate", url=url)

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
            if found.get("method") == "Network.webSocketFrameReceived":
                frame = found["params"]["response"]
                data = frame["payloadData"]
                self._received += base64.b64decode(data) if frame["opcode"] == 2 else b""
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

    def press(self, key: str) -> None:
        """One key that writes a character, down and up."""
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, text=key)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key)

    def colours(self) -> int:
        """How many colours the page has now."""
        with Image.open(io.BytesIO(base64.b64decode(self._screenshot()))) as image:
            found = image.convert("RGB").getcolors(1 << 24)
        return len(found or [])

    def _screenshot(self) -> str:
        return str(self.call("Page.captureScreenshot", format="png")["data"])

    def wait_for_text(self, pattern: str, seconds: float = 120) -> re.Match[str]:
        """Until a terminal in the page has been sent a text since this was asked last."""
        deadline = time.monotonic() + seconds
        while True:
            self.value("0")  # what has come is read on the way
            text = _ESCAPES.sub("", self._received.decode("utf-8", "replace"))
            if match := re.search(pattern, text):
                self._received = b""
                return match
            assert time.monotonic() < deadline, text[-2000:]
            time.sleep(0.1)

    def close(self) -> None:
        """End the browser."""
        self._process.terminate()
        self._process.wait(20)
        os.close(self._to)
        os.close(self._from)
