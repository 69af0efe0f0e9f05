"""What can go wrong in the client, and the exit code that says so.

CliError
├── UsageError     an option, a variable or the configuration is wrong
├── Refused        the API said no
└── Unreachable    nobody answered, or not as the API does
    └── StreamLost the stream broke and could not be taken up again
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """How the command ended; a followed job's end is among them."""

    COMPLETED = 0
    FAILED = 1
    USAGE = 2
    CANCELLED = 3
    UNREACHABLE = 4
    INTERRUPTED = 130
    # Whoever read the output left; what a shell reports of a program that SIGPIPE ended.
    OUTPUT_CLOSED = 141


class CliError(Exception):
    """The command cannot go on; the message says why and what to do, in one line or several."""

    exit_code = ExitCode.USAGE


class UsageError(CliError):
    """What the caller gave cannot be used; the message names it."""


class Refused(CliError):
    """The API refused the call.

    Args:
        message: the API's own sentence, with its fields.
        status: of HTTP.
    """

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class Unreachable(CliError):
    """The server did not answer, or what answered is not the API."""

    exit_code = ExitCode.UNREACHABLE


class StreamLost(Unreachable):
    """The stream broke, and could not be taken up again in time."""
