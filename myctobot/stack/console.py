"""Output of the stack's processes on the terminal, in colour only there."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import TextIO

from honcho.colour import get_colours
from honcho.printer import Message, Printer

STACK = "stack"
NAME_WIDTH = 12


class StackConsole:
    """Prefixed lines of many processes on one output."""

    def __init__(self, output: TextIO) -> None:
        self._output = output
        self._printer = Printer(output, width=NAME_WIDTH, colour="NO_COLOR" not in os.environ)
        self._colours: dict[str, str] = {}
        self._palette = get_colours()
        self._closed = False
        self._last_s = time.monotonic()

    @property
    def idle_s(self) -> float:
        """Seconds since the last line."""
        return time.monotonic() - self._last_s

    def say(self, text: str) -> None:
        """Print a line of the stack itself; it is lost if the output is a file on a full disk."""
        with suppress(OSError):
            self.line(STACK, text)

    def line(self, name: str, text: str) -> None:
        """Print a line of a process.

        Raises:
            OSError: the output takes no more, such as a file on a full disk.
        """
        self._last_s = time.monotonic()
        colour = self._colour(name) if name != STACK else None
        self._write(Message("line", text, datetime.now().astimezone(), name, colour))

    def banner(self, title: str, rows: Mapping[str, str]) -> None:
        """Print a box that is easy to find among the log lines."""
        width = max(map(len, rows), default=0)
        lines = [title, "", *(f"{name.ljust(width)}  {value}" for name, value in rows.items())]
        inner = max(map(len, lines))
        edge = "─" * (inner + 2)
        body = "".join(f"│ {line.ljust(inner)} │\n" for line in lines)
        with suppress(OSError):
            self._write_text(f"\n┌{edge}┐\n{body}└{edge}┘\n\n")

    def _colour(self, name: str) -> str:
        if name not in self._colours:
            self._colours[name] = next(self._palette)
        return self._colours[name]

    def _write(self, message: Message) -> None:
        if self._closed:
            return
        try:
            self._printer.write(message)
        except BrokenPipeError:
            # The reader closed the pipe (`make up | head`). The stack does not depend on its output.
            self._closed = True

    def _write_text(self, text: str) -> None:
        if self._closed:
            return
        try:
            self._output.write(text)
            self._output.flush()
        except BrokenPipeError:
            self._closed = True
