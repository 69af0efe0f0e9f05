"""Errors as git's own programs report them: with the format of the message and the text that it became.

The events of api-trace2(7) reach the runner through a pipe of its own. So no text of a remote or a repository, which
git repeats among its own messages, can look like an error of git.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import signal
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from workers.git.line_pipe import inherited_pipe

EVENT: Final = '{"event":"'
MAX_ERRORS: Final = 100
MAX_TEXT: Final = 2000
_PREFIX: Final = re.compile(r"(?:fatal|error): ")
_SIGNALLED: Final = "%s died of signal %d"


class Limit(StrEnum):
    """Limit of this shard at which git ended."""

    DISK = "disk"
    FILE_SIZE = "file_size"
    PROCESSES = "processes"
    MEMORY = "memory"


# git and the C library end a message with the text of the system's error.
_SYSTEM_ERRORS: Final = {
    os.strerror(errno.ENOSPC): Limit.DISK,
    os.strerror(errno.EDQUOT): Limit.DISK,
    "Out of diskspace": Limit.DISK,
    os.strerror(errno.EFBIG): Limit.FILE_SIZE,
    os.strerror(errno.ENOMEM): Limit.MEMORY,
}
_MEMORY: Final = ("Out of memory", "attempting to allocate ", "deflate: out of memory", "inflate: out of memory")
# With limits of the address space, a thread fails for lack of memory, and the system's error is the same.
_PROCESSES: Final = ("cannot fork", "cannot create async process")
_THREADS: Final = ("unable to create thread", "cannot create async thread")


@dataclass(frozen=True)
class GitError:
    """Error of one program of git; ``format`` is that of the message in git's source."""

    format: str
    text: str


@dataclass(frozen=True)
class GitTrace:
    """Report of git's programs about one call.

    Args:
        errors: errors in their order.
        spoke_git: whether a server answered in git's protocol.
    """

    errors: tuple[GitError, ...] = ()
    spoke_git: bool = False

    @property
    def limit(self) -> Limit | None:
        """Limit that git met, or None."""
        return next(filter(None, map(_limit_of, self.errors)), None)

    def first(self, *formats: str) -> GitError | None:
        """Return the first error whose format begins with one of these texts, or None."""
        return next((error for error in self.errors if error.format.startswith(formats)), None)


NOTHING: Final = GitTrace()


def _limit_of(error: GitError) -> Limit | None:
    if error.format == _SIGNALLED and error.text.endswith(f" {int(signal.SIGXFSZ)}"):
        return Limit.FILE_SIZE
    # The system's error is in the format itself. What replaces a part of it may be a text of the remote.
    own = error.format or error.text
    if own.startswith((*_MEMORY, *_THREADS)):
        return Limit.MEMORY
    if own.startswith(_PROCESSES) and own.endswith(os.strerror(errno.EAGAIN)):
        return Limit.PROCESSES
    return next((limit for text, limit in _SYSTEM_ERRORS.items() if own.endswith(text)), None)


@dataclass
class TraceReader:
    """Reader of the events of one call; bounded, because a remote's texts are part of some messages."""

    errors: list[GitError] = field(default_factory=list)
    spoke_git: bool = False

    def read(self, line: str) -> None:
        """Take one line; a line that is no event of interest is ignored."""
        if not line.startswith(EVENT):
            return
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            return
        if event["event"] == "error" and len(self.errors) < MAX_ERRORS:
            self.errors.append(GitError(_text(event, "fmt"), _text(event, "msg")))
        elif event["event"] == "data" and event.get("key") == "negotiated-version":
            self.spoke_git = True

    def result(self) -> GitTrace:
        return GitTrace(tuple(self.errors), self.spoke_git)


def _text(event: Mapping[str, Any], name: str) -> str:
    return str(event.get(name, ""))[:MAX_TEXT]


@dataclass(frozen=True)
class OpenTrace:
    """Trace of a call that runs: environment and descriptor for git."""

    descriptor: int
    reader: TraceReader

    @property
    def env(self) -> dict[str, str]:
        return {"GIT_TRACE2_EVENT": f"/proc/self/fd/{self.descriptor}"}


@contextlib.contextmanager
def open_trace() -> Iterator[OpenTrace]:
    """Provide a trace for one call; ``reader`` has all events when the block has ended."""
    reader = TraceReader()
    with inherited_pipe(reader.read) as descriptor:
        yield OpenTrace(descriptor, reader)


def trace_of_lines(lines: Iterable[str]) -> GitTrace:
    """Return the events among the lines that git wrote with ``GIT_TRACE2_EVENT=1``."""
    reader = TraceReader()
    for line in lines:
        reader.read(line)
    return reader.result()


def trace_of_messages(stderr: str) -> GitTrace:
    """Return the lines of standard error as errors without a format, for a call to which no remote writes."""
    lines = [_PREFIX.sub("", line.strip(), count=1)[:MAX_TEXT] for line in stderr.splitlines()]
    return GitTrace(tuple(GitError("", line) for line in lines[-MAX_ERRORS:] if line))
