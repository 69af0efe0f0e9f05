"""Where the client and the demo print: coloured on a terminal, plain everywhere else."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TextIO

MAX_WIDTH = 100
_TAB = 4


class Style(StrEnum):
    """How a piece of text looks; the values are ECMA-48 SGR parameters."""

    PLAIN = ""
    BOLD = "1"
    DIM = "2"
    RED = "31"
    GREEN = "32"
    YELLOW = "33"
    CYAN = "36"


@dataclass(frozen=True)
class Line:
    """One line of output, before it is wrapped.

    Args:
        text: may come from an agent or a repository, so whatever would steer the terminal is taken out of it.
        indent: columns to its left.
        mark: stands before the first row of a wrapped text; later rows are indented as far.
        wrap: False for code and output, which are cut at the terminal's edge instead.
    """

    text: str
    style: Style = Style.PLAIN
    indent: int = 0
    mark: str = ""
    wrap: bool = True


def harmless(text: str) -> str:
    """Drop every control and formatting character: an escape sequence could rewrite what stands on the screen."""
    return "".join(char for char in text.expandtabs(_TAB) if char.isprintable())


def rows(line: Line, width: int | None) -> list[str]:
    """Fit a line into ``width`` columns; None leaves it as long as it is."""
    text = harmless(line.text)
    room = max(20, width - line.indent - len(line.mark)) if width else max(1, len(text))
    if line.wrap and width:
        parts = textwrap.wrap(text, room, break_on_hyphens=False) or [""]
    else:
        parts = [text if len(text) <= room else text[: room - 1] + "…"]
    left, below = " " * line.indent + line.mark, " " * (line.indent + len(line.mark))
    return [f"{left if number == 0 else below}{part}".rstrip() for number, part in enumerate(parts)]


class Terminal:
    """Prints lines.

    Args:
        output: a stream of text.
        environ: NO_COLOR and TERM are looked at (https://no-color.org).
        plain_width: columns of what is no terminal; None leaves lines as long as they are.
    """

    def __init__(self, output: TextIO, environ: Mapping[str, str], plain_width: int | None = MAX_WIDTH) -> None:
        self._output = output
        is_tty = output.isatty()
        self._colour = is_tty and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"
        self._width = min(MAX_WIDTH, shutil.get_terminal_size().columns) if is_tty else plain_width

    def show(self, line: Line) -> None:
        # In one piece, so that another thread's lines do not come between.
        self._output.write("".join(f"{self._painted(row, line.style)}\n" for row in rows(line, self._width)))
        self._output.flush()

    def show_all(self, lines: Iterable[Line]) -> None:
        for line in lines:
            self.show(line)

    def say(self, text: str, style: Style = Style.PLAIN) -> None:
        self.show(Line(text, style, indent=2))

    def heading(self, text: str) -> None:
        self._output.write(
            "\n" + self._painted(f"── {text} ".ljust((self._width or MAX_WIDTH) - 10, "─"), Style.BOLD) + "\n"
        )
        self._output.flush()

    def _painted(self, text: str, style: Style) -> str:
        return f"\x1b[{style}m{text}\x1b[0m" if self._colour and style and text else text
