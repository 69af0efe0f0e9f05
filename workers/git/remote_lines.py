"""Lines of a remote's own in the output of git: what a hook, a server or a proxy says about a refusal."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from workers.git.process import OnLine, printable_line
from workers.git.trace import GitTrace

PREFIX: Final = "remote:"
MAX_LINES: Final = 50
MAX_SHOWN: Final = 5
MAX_SHOWN_CHARS: Final = 300
# Progress of git on a server.
_PROGRESS: Final = re.compile(
    r"(?:Enumerating|Counting|Compressing) objects: .*|Total \d+ \(delta .*|Resolving deltas: .*"
    r"|.*: +\d+% \(\d+/\d+\).*"
)
# Lines of git and of its progress, among which a server that is reached over ssh writes its own.
_LOCAL: Final = re.compile(
    r"(?:Receiving objects|Resolving deltas|Unpacking objects|Updating references): .*|(?:To|From) .*|[ *!=+-]{2,3}\[.*"
    r"|Cloning into bare repository .*|Please make sure you have the correct access rights|and the repository exists\."
    r"|hint: .*|warning: .*"
)


class RemoteLines:
    """Collector of the first lines of a remote during a call.

    Args:
        is_ssh: the remote's lines have no prefix, apart from those that git's protocol carries.
    """

    def __init__(self, *, is_ssh: bool) -> None:
        self._is_ssh = is_ssh
        self._lines: list[str] = []

    def add(self, line: str) -> None:
        """Take a line of git's standard error."""
        has_prefix = line.startswith(PREFIX)
        if len(self._lines) >= MAX_LINES or not (has_prefix or self._is_ssh):
            return
        text = line.removeprefix(PREFIX).strip()
        if text and not _PROGRESS.fullmatch(text) and (has_prefix or not _LOCAL.fullmatch(text)):
            self._lines.append(text)

    def collect_before(self, on_line: OnLine | None) -> OnLine:
        """Return a receiver of lines that collects each and passes it on."""

        async def receive(line: str) -> None:
            self.add(line)
            if on_line is not None:
                await on_line(line)

        return receive

    def result(self, trace: GitTrace) -> tuple[str, ...]:
        """Return the remote's lines.

        Args:
            trace: git's own errors, which are none of the remote's.
        """
        own = {printable_line(f"{kind}: {line}") for kind in ("fatal", "error") for line in _lines(trace)}
        return tuple(line for line in self._lines if line not in own)


def _lines(trace: GitTrace) -> Iterable[str]:
    return (line for error in trace.errors for line in error.text.splitlines())


def quote(lines: Iterable[str]) -> str:
    """Return the first lines as a sentence, or an empty text; secrets must be gone already."""
    every = [line[:MAX_SHOWN_CHARS] for line in lines]
    shown = every[:MAX_SHOWN] + (["…"] if len(every) > MAX_SHOWN else [])
    return f"The server said: {' / '.join(shown)}" if shown else ""
