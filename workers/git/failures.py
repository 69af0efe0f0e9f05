"""Cause of a failed call of a remote, and the error for the person who started the job.

The evidence is git's own report of its errors (``workers.git.trace``), with the HTTP status where a server answered,
the messages of the ssh client, and git's report about a pushed branch. No word in a text of the remote decides.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from workers.errors import JobError
from workers.git import causes
from workers.git.causes import RemoteCause
from workers.git.process import Result, last_line
from workers.git.remote_lines import quote
from workers.git.trace import GitError, GitTrace, Limit

REDACTED: Final = "[redacted]"
MAX_GIT_CHARS: Final = 500

# Formats of git's messages that have the HTTP status, as in git 2.37 to 2.51.
_ACCESS: Final = "unable to access '%s': %s"
_RPC: Final = "RPC failed; %s"
_STATUS_OF_FORMAT: Final = {
    "repository '%s' not found": 404,
    "Authentication failed for '%s'": 401,
    # git asks for a user name or a password only when a server demands it.
    "could not read %s%s": 401,
    "unable to get password from user": 401,
}
_STATUS: Final = re.compile(
    r"unable to access '[^']*': The requested URL returned error: (\d{3})|RPC failed; HTTP (\d{3})(?: .*)?", re.DOTALL
)
# Messages of curl about the shard's proxy, for old and new versions.
_PROXY: Final = re.compile(
    r"unable to access '[^']*': (?:CONNECT tunnel failed, response|Received HTTP code) (\d{3})"
    r"(?: from proxy after CONNECT)?",
)
# Messages of curl with GnuTLS and with OpenSSL about a certificate.
_CERTIFICATE: Final = re.compile(
    r"unable to access '[^']*': (?:server certificate|SSL certificate problem|SSL certificate verification|"
    r"SSL: (?:no alternative )?certificate subject name|SSL: unable to obtain common name).*",
    re.DOTALL,
)


@dataclass(frozen=True)
class RemoteCall:
    """Facts about a call that the advice depends on.

    Args:
        command: git's command, such as ``fetch``.
        encodings: of the token, the longest first.
        has_token: whether the job has a token.
        max_repo_mb: bound of a fetched file.
    """

    command: str
    encodings: Sequence[str] = ()
    has_token: bool = True
    max_repo_mb: int = 0

    @property
    def is_push(self) -> bool:
        return self.command == "push"


def redact(text: str, encodings: Iterable[str]) -> str:
    """Replace every encoding of a secret in a text; the longest must come first."""
    for encoding in encodings:
        text = text.replace(encoding, REDACTED)
    return text


def http_status(trace: GitTrace) -> int | None:
    """Return the HTTP status with which the server refused a request, or None."""
    return next(filter(None, map(_status_of, trace.errors)), None)


def _status_of(error: GitError) -> int | None:
    if error.format in _STATUS_OF_FORMAT:
        return _STATUS_OF_FORMAT[error.format]
    if error.format not in (_ACCESS, _RPC):
        return None
    match = _STATUS.fullmatch(error.text)
    status = int(match[1] or match[2]) if match else 0
    # An answer that broke off has a good status.
    return status if status >= 300 else None


def transport_error(call: RemoteCall, result: Result) -> JobError:
    """Return the error for a failed call to a remote."""
    cause = _find_cause(call, result)
    said = [redact(line, call.encodings) for line in result.remote_lines]
    git_said = redact(last_line("\n".join(result.ssh_lines) or result.stderr), call.encodings)[:MAX_GIT_CHARS]
    sentences = [cause.message, quote(said), f"git said: {git_said}"]
    return JobError(cause.code, " ".join(filter(None, sentences)), retryable=cause.retryable)


def _find_cause(call: RemoteCall, result: Result) -> RemoteCause:
    trace = result.trace
    if trace.limit is Limit.DISK:
        return causes.DISK_FULL
    if trace.limit is Limit.FILE_SIZE:
        return causes.repo_too_large(call.max_repo_mb)
    if (status := http_status(trace)) is not None:
        return causes.of_status(status, is_push=call.is_push, has_token=call.has_token)
    by_client = causes.of_ssh_client(result.ssh_lines)
    by_server = causes.of_server_lines(result.remote_lines)
    by_git = next(filter(None, (causes.of_format(error.format) for error in trace.errors)), None)
    return by_client or by_server or by_git or _of_connection(trace) or causes.not_understood(call.command)


def _of_connection(trace: GitTrace) -> RemoteCause | None:
    error = trace.first(_ACCESS)
    if error is not None:
        if proxy := _PROXY.fullmatch(error.text):
            return causes.PROXY_BROKEN if proxy[1].startswith("5") else causes.PROXY_REFUSED
        return causes.CERTIFICATE if _CERTIFICATE.fullmatch(error.text) else causes.UNREACHABLE
    return causes.CUT_OFF if trace.first(*causes.CUTS) else None


def push_error(call: RemoteCall, result: Result, branch: str) -> JobError:
    """Return the error for a failed push, from its ``--porcelain`` report where there is one."""
    report = redact(result.text, call.encodings)
    refused = [line for line in report.splitlines() if line.startswith("!\t")]
    if not refused:
        return transport_error(call, result)
    kind, reason = _split_reason(refused[0].split("\t")[-1])
    if kind == "[remote failure]":
        # The connection ended before the server's answer.
        return transport_error(call, result)
    if kind == "[rejected]":
        return JobError(
            "push_rejected",
            f"The branch '{branch}' received other commits during the job, and MyCTOBot never overwrites commits; "
            f"run the job again to continue on top of them ({reason}).",
        )
    said = quote([redact(line, call.encodings) for line in result.remote_lines])
    advice = "Check its branch rules, and what repo_token may do."
    return JobError(
        "push_denied", " ".join(filter(None, [f"The server refused the branch '{branch}': {reason}.", said, advice]))
    )


def _split_reason(text: str) -> tuple[str, str]:
    """Split ``[remote rejected] (hook declined)`` into its kind and its reason."""
    kind, _, reason = text.partition("] ")
    return f"{kind}]", reason.strip().removeprefix("(").removesuffix(")")[:MAX_GIT_CHARS]
