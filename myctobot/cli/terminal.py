"""Output of the client and the demo: coloured on a terminal, plain elsewhere."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TextIO

from myctobot.contract.terminal_text import remove_sequences

MAX_WIDTH = 100
_TAB = 4


class Style(StrEnum):
    """Style of a text; the values are ECMA-48 SGR parameters."""

    PLAIN = ""
    BOLD = "1"
    DIM = "2"
    RED = "31"
    GREEN = "32"
    YELLOW = "33"
    CYAN = "36"


@dataclass(frozen=True)
class OutputLine:
    """One line of output, before it is wrapped.

    Args:
        text: text, which may come from an agent or a repository, so its control characters are removed.
        indent: empty columns to its left.
        prefix: text before the first row; later rows are indented by its length.
        wrap: False for code and output, which are cut at the terminal's edge instead.
    """

    text: str
    style: Style = Style.PLAIN
    indent: int = 0
    prefix: str = ""
    wrap: bool = True


def printable(text: str) -> str:
    """Remove control sequences and characters, because an escape sequence could change the rest of the screen."""
    return "".join(char for char in remove_sequences(text).expandtabs(_TAB) if char.isprintable())


def rows(line: OutputLine, width: int | None) -> list[str]:
    """Return the rows of a line in ``width`` columns; None means no limit."""
    text = printable(line.text)
    room = max(20, width - line.indent - len(line.prefix)) if width else max(1, len(text))
    if line.wrap and width:
        parts = textwrap.wrap(text, room, break_on_hyphens=False) or [""]
    else:
        parts = [text if len(text) <= room else text[: room - 1] + "…"]
    left, below = " " * line.indent + line.prefix, " " * (line.indent + len(line.prefix))
    return [f"{left if number == 0 else below}{part}".rstrip() for number, part in enumerate(parts)]


class Terminal:
    """Printer of lines.

    Args:
        output: text stream.
        environ: environment, of which NO_COLOR and TERM are used (https://no-color.org).
        plain_width: columns of an output that is not a terminal; None means no limit.
    """

    def __init__(self, output: TextIO, environ: Mapping[str, str], plain_width: int | None = MAX_WIDTH) -> None:
        self._output = output
        is_tty = output.isatty()
        self._colour = is_tty and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"
        self._width = min(MAX_WIDTH, shutil.get_terminal_size().columns) if is_tty else plain_width

    def show(self, line: OutputLine) -> None:
        # Write all rows at once, so that they are not mixed with another thread's lines.
        self._output.write("".join(f"{self._coloured(row, line.style)}\n" for row in rows(line, self._width)))
        self._output.flush()

    def show_all(self, lines: Iterable[OutputLine]) -> None:
        for line in lines:
            self.show(line)

    def say(self, text: str, style: Style = Style.PLAIN) -> None:
        self.show(OutputLine(text, style, indent=2))

    def heading(self, text: str) -> None:
        self._output.write(
            "\n" + self._coloured(f"── {text} ".ljust((self._width or MAX_WIDTH) - 10, "─"), Style.BOLD) + "\n"
        )
        self._output.flush()

    def _coloured(self, text: str, style: Style) -> str:
        return f"\x1b[{style}m{text}\x1b[0m" if self._colour and style and text else text
