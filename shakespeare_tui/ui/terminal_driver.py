"""Reads the keys of a terminal, as Textual does, and knows an escape when it is one."""

import os
import selectors
from codecs import getincrementaldecoder

from textual import constants
from textual._xterm_parser import XTermParser
from textual.drivers.linux_driver import LinuxDriver

_ESCAPE = "\x1b"
_SECONDS_BETWEEN_LOOKS = 0.1
_MOST_BYTES = 4096


class PromptDriver(LinuxDriver):
    """Textual's driver, which looks for the end of a sequence only every 100 ms.

    An escape is a key of its own when nothing follows it for ``ESCDELAY`` milliseconds. This one
    looks again just then.
    """

    def run_input_thread(self) -> None:
        """Read until the app leaves or the terminal is gone."""
        parser = XTermParser(self._debug)
        decode = getincrementaldecoder("utf-8")("replace").decode
        patience = _SECONDS_BETWEEN_LOOKS
        # Of all selectors, only this one knows terminals on macOS.
        with selectors.SelectSelector() as selector:
            selector.register(self.fileno, selectors.EVENT_READ)
            while not self.exit_event.is_set():
                text = ""
                if selector.select(patience):
                    data = os.read(self.fileno, _MOST_BYTES)
                    if not data:
                        return
                    text = decode(data)
                    for message in parser.feed(text):
                        self.process_message(message)
                for message in parser.tick():
                    self.process_message(message)
                is_escape = text.endswith(_ESCAPE)
                patience = constants.ESCAPE_DELAY if is_escape else _SECONDS_BETWEEN_LOOKS
