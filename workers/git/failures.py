"""Translation of git's messages about a remote into errors for the person who started the job."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from workers.errors import JobError
from workers.git.command import DISK_FULL, DISK_FULL_SIGNS
from workers.git.process import last_line

REDACTED: Final = "[redacted]"


@dataclass(frozen=True)
class Failure:
    """Kind of failure: the texts that identify it, and the error that is shown."""

    signs: tuple[str, ...]
    code: str
    message: str
    retryable: bool = False


# The first row with a sign in git's lower-case text applies, so special rows come before general ones.
_FAILURES: Final = (
    Failure(
        DISK_FULL_SIGNS,
        "disk_full",
        DISK_FULL,
        retryable=True,
    ),
    Failure(
        ("file size limit exceeded", "died of signal 25", "file too large"),
        "repo_too_large",
        "The repository of repo_url is larger than this shard allows; ask the operator to raise the limit.",
    ),
    Failure(
        ("no user exists for uid",),
        "ssh_user_unknown",
        "The shard's user has no entry in /etc/passwd, which ssh needs; ask the operator to run it as another user.",
    ),
    Failure(
        ("host key verification failed", "no matching host key", "remote host identification has changed"),
        "repo_host_key_unknown",
        "The ssh host key of repo_url is not known to this shard; ask the operator to add it to known_hosts.",
    ),
    Failure(
        ("connect tunnel failed, response 5", "received http code 5"),
        "repo_unreachable",
        "The shard's proxy cannot reach the host of repo_url; check its spelling, then try again.",
        retryable=True,
    ),
    Failure(
        ("connect tunnel failed", "from proxy after connect"),
        "repo_host_refused",
        "The shard's proxy does not allow the host of repo_url; ask the operator to allow it.",
    ),
    Failure(
        ("certificate verif", "server certificate", "ssl certificate", "certificate problem", "handshake"),
        "repo_certificate_invalid",
        "The certificate of repo_url's host is not trusted; ask the operator to add its certificate authority.",
    ),
    Failure(
        ("returned error: 30", "unable to update url base from redirection"),
        "repo_moved",
        "The server of repo_url redirects to another address, which is not followed; give the current address.",
    ),
    Failure(
        ("returned error: 429", "returned error: 5", "too many requests"),
        "repo_unreachable",
        "The server of repo_url cannot answer now; try again later.",
        retryable=True,
    ),
    Failure(
        (
            "authentication failed",
            "could not read username",
            "could not read password",
            "permission denied (publickey",
            "invalid username or",
            "returned error: 401",
        ),
        "repo_auth_failed",
        "The server of repo_url did not accept repo_token; give a valid one with access to the repository.",
    ),
    Failure(
        (
            "returned error: 403",
            "write access",
            "permission to",
            "not allowed to",
            "access denied",
            "read-only",
        ),
        "repo_access_denied",
        "repo_token has no permission for the repository of repo_url; give one that may read and write.",
    ),
    Failure(
        (
            "repository not found",
            "does not appear to be a git repository",
            "does not exist",
            "not found",
            "returned error: 404",
            "not valid: is this a git repository",
        ),
        "repo_not_found",
        "The repository of repo_url was not found, or repo_token gives no access to it; check both.",
    ),
    Failure(
        ("dubious ownership", "unsafe repository"),
        "repo_owner_unsafe",
        "The repository of repo_url belongs to another user of the shard's machine; change its owner.",
    ),
    Failure(
        (
            "could not resolve",
            "failed to connect",
            "couldn't connect",
            "connection refused",
            "connection reset",
            "connection timed out",
            "timed out",
            "operation too slow",
            "network is unreachable",
            "no route to host",
            "connection closed",
            "early eof",
            "hung up",
            "rpc failed",
        ),
        "repo_unreachable",
        "The server of repo_url does not answer; check the address, then try again.",
        retryable=True,
    ),
    Failure(
        ("fsck error", "error in object", "unpack-objects abnormal", "index-pack failed", "invalid index-pack"),
        "repo_corrupt",
        "The repository of repo_url has invalid objects; repair it, git fsck names them.",
    ),
)


def redact(text: str, encodings: Iterable[str]) -> str:
    """Replace every encoding of a secret in a text; the longest must come first."""
    for encoding in encodings:
        text = text.replace(encoding, REDACTED)
    return text


def transport_error(action: str, stderr: str, encodings: Iterable[str]) -> JobError:
    """Return the error for a failed call to a remote; ``action`` is git's command, such as ``fetch``."""
    clean = redact(stderr, encodings)
    # Ignore quoted text, because URLs and names may contain any word.
    lowered = re.sub(r"'[^'\n]*'", "", clean.lower())
    for failure in _FAILURES:
        if any(sign in lowered for sign in failure.signs):
            return JobError(failure.code, f"{failure.message} {_git_message(clean)}", retryable=failure.retryable)
    return JobError("git_failed", f"git {action} failed. {_git_message(clean)}", retryable=True)


def push_error(report: str, stderr: str, encodings: Iterable[str], branch: str) -> JobError:
    """Return the error for a failed push, from its ``--porcelain`` report where there is one."""
    clean = redact(report, encodings)
    refused = [line for line in clean.splitlines() if line.startswith("!")]
    if not refused:
        return transport_error("push", stderr, encodings)
    reason = refused[0].split("\t")[-1]
    if reason.startswith("[rejected]"):
        return JobError(
            "push_rejected",
            f"The branch '{branch}' received other commits during the job, and MyCTOBot never overwrites commits; "
            f"run the job again to continue on top of them ({reason}).",
        )
    return JobError(
        "push_denied",
        f"The server refused the branch '{branch}': {reason}. Check its branch rules and what repo_token may do. "
        f"{_git_message(redact(stderr, encodings))}",
    )


def _git_message(stderr: str) -> str:
    return f"git said: {last_line(stderr)}"
