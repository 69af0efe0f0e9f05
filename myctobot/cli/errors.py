"""Errors of the client, and their exit codes.

CliError
├── UsageError           an option, a variable or the configuration is invalid
├── RequestRefused       the API refused the request
└── ServerUnreachable    there was no answer, or not one of the API
    └── StreamLost       the stream broke and could not be resumed
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """End of a command, or of the job that it followed."""

    COMPLETED = 0
    FAILED = 1
    USAGE = 2
    CANCELLED = 3
    UNREACHABLE = 4
    INTERRUPTED = 130
    # The reader closed the output; a shell reports this code for a program that SIGPIPE ended.
    OUTPUT_CLOSED = 141


class CliError(Exception):
    """Command cannot continue; the message says why, and what to do, in one or several lines."""

    exit_code = ExitCode.USAGE


class UsageError(CliError):
    """Input is invalid; the message names it."""


class RequestRefused(CliError):
    """API refused the request.

    Args:
        message: sentence of the API, with its fields.
        status: HTTP status.
    """

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class ServerUnreachable(CliError):
    """Server did not answer, or its answer was not one of the API."""

    exit_code = ExitCode.UNREACHABLE


class StreamLost(ServerUnreachable):
    """Stream broke and could not be resumed in time."""
