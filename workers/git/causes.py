"""Causes of failed calls of a remote: the code, the sentence with the advice, and whether to try again."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from workers.git.command import DISK_FULL as DISK_FULL_SENTENCE
from workers.git.command import repo_too_large as too_large_sentence


@dataclass(frozen=True)
class RemoteCause:
    """Cause of a failure; docs/jobs.md lists every code."""

    code: str
    message: str
    retryable: bool = False


DISK_FULL: Final = RemoteCause("disk_full", DISK_FULL_SENTENCE, retryable=True)
UNREACHABLE: Final = RemoteCause(
    "repo_unreachable",
    "The server of repo_url does not answer; check the address, then try again.",
    retryable=True,
)
CUT_OFF: Final = RemoteCause(
    "repo_unreachable",
    "The connection to the server of repo_url broke off; try again.",
    retryable=True,
)
PROXY_BROKEN: Final = RemoteCause(
    "repo_unreachable",
    "The shard's proxy cannot reach the host of repo_url; check its spelling, then try again.",
    retryable=True,
)
PROXY_REFUSED: Final = RemoteCause(
    "repo_host_refused",
    "The shard's proxy does not allow the host of repo_url; ask the operator to allow it.",
)
CERTIFICATE: Final = RemoteCause(
    "repo_certificate_invalid",
    "The shard does not trust the certificate of repo_url's host; ask the operator of the shard to add the certificate "
    "authority.",
)
CERTIFICATE_EXPIRED: Final = RemoteCause(
    "repo_certificate_expired",
    "The certificate of repo_url's host has expired; let the administrator of that server renew it.",
)
CERTIFICATE_NOT_YET_VALID: Final = RemoteCause(
    "repo_certificate_expired",
    "The certificate of repo_url's host is not valid yet; let the administrator of that server check it, or the "
    "operator of the shard its clock.",
)
CERTIFICATE_OF_ANOTHER_HOST: Final = RemoteCause(
    "repo_certificate_invalid",
    "The certificate of repo_url's host is for another host; give the name that is in the certificate, or let the "
    "administrator of that server change it.",
)
NOT_GIT: Final = RemoteCause(
    "repo_not_git",
    "The server of repo_url answers, but not as a git server; give the address that 'git clone' takes.",
)
FORMAT: Final = RemoteCause(
    "repo_format_unsupported",
    "The server of repo_url and MyCTOBot use other formats for the repository's objects (SHA-1 or SHA-256); push a "
    "commit to an empty repository, and check the server's version of git.",
)
SHALLOW: Final = RemoteCause(
    "repo_shallow",
    "The server's copy of the repository is shallow, so it lacks a part of the history that MyCTOBot needs; complete "
    "it there with 'git fetch --unshallow'.",
)
CORRUPT: Final = RemoteCause(
    "repo_corrupt",
    "The repository of repo_url has invalid objects; repair it, git fsck names them.",
)
CORRUPT_ON_SERVER: Final = RemoteCause(
    "repo_corrupt",
    "The server says that its copy of the repository is corrupt; let the server's administrator run git fsck there.",
)
DAMAGED_ANSWER: Final = RemoteCause(
    "repo_answer_damaged",
    "The commits that the server of repo_url sent are damaged; try again, and if that does not help, run git fsck on "
    "the server.",
    retryable=True,
)
NOT_FOUND: Final = RemoteCause(
    "repo_not_found",
    "The repository of repo_url was not found, or repo_token gives no access to it; check both.",
)
NOT_FOUND_WITHOUT_TOKEN: Final = RemoteCause(
    "repo_not_found",
    "The repository of repo_url was not found; check the address, and give repo_token if the repository is private.",
)
TOKEN_REFUSED: Final = RemoteCause(
    "repo_auth_failed",
    "The server of repo_url did not accept repo_token; give a valid one with access to the repository.",
)
TOKEN_MISSING: Final = RemoteCause(
    "repo_token_missing",
    "The server of repo_url asks for a token, and the job has none; give repo_token, or check the address.",
)
NO_READING: Final = RemoteCause(
    "repo_access_denied",
    "The server of repo_url does not allow reading the repository; give a repo_token that may read and write.",
)
NO_WRITING: Final = RemoteCause(
    "repo_access_denied",
    "repo_token has no permission to write to the repository of repo_url; give one that may read and write.",
)
MOVED: Final = RemoteCause(
    "repo_moved",
    "The server of repo_url redirects to another address, which is not followed; give the current address.",
)
PUSH_TOO_LARGE: Final = RemoteCause(
    "push_too_large",
    "The commits are too large for the server of repo_url (HTTP status 413); ask for smaller files, or ask the "
    "server's administrator to raise its limit on a push.",
)
HOST_KEY: Final = RemoteCause(
    "repo_host_key_unknown",
    "The ssh host key of repo_url is not known to this shard; ask the operator to add it to known_hosts.",
)
SSH_USER: Final = RemoteCause(
    "ssh_user_unknown",
    "The shard's user has no entry in /etc/passwd, which ssh needs; ask the operator to run it as another user.",
)
OWNER: Final = RemoteCause(
    "repo_owner_unsafe",
    "The repository of repo_url belongs to another user of the shard's machine; ask the operator to change its owner.",
)

_FORMATS: Final = (
    (("%sinfo/refs not valid", "invalid server response; got '%s'", "git-http-push failed"), NOT_GIT),
    (("rejected %s because shallow roots are not allowed", "source repository is shallow, reject to clone."), SHALLOW),
    (
        (
            "mismatched algorithms",
            "Server does not support this repository's object format",
            "the receiving end does not support this repository's hash algorithm",
        ),
        FORMAT,
    ),
    (("'%s' does not appear to be a git repository",), NOT_FOUND),
    (("detected dubious ownership in repository at '%s'",), OWNER),
    (("git upload-pack: aborting due to possible repository corruption",), CORRUPT_ON_SERVER),
    (("object %s: %s", "fsck error in pack", "remote did not send all necessary objects"), CORRUPT),
    (
        (
            "pack is corrupted",
            "pack has ",
            "pack signature mismatch",
            "inflate returned",
            "serious inflate",
            "bad pack",
            "invalid ls-refs response: ",
            "expected '%s', received '%s'",
        ),
        DAMAGED_ANSWER,
    ),
)
# Formats of git's messages when a connection ends too early.
CUTS: Final = (
    "RPC failed; %s",
    "the remote end hung up",
    "early EOF",
    "%s%s: unexpected disconnect",
    "protocol error: bad pack header",
    "expected flush after",
    "expected response end packet",
    "remote did not send",
    "unexpected disconnect",
)

# Messages of OpenSSH's client, which has no translations.
_SSH_CLIENT: Final = (
    (r"No user exists for uid \d+", SSH_USER),
    (
        r"Host key verification failed\.|Unable to negotiate with .*: no matching host key type found\..*"
        r"|No \S+ host key is known for .*",
        HOST_KEY,
    ),
    (
        r"(?:\S+: )?Permission denied \([a-z,-]*\)\.|Received disconnect from .*: Too many authentication failures",
        TOKEN_REFUSED,
    ),
    (
        r"ssh: connect to host .*|ssh: Could not resolve hostname .*|Connection (?:closed|reset|timed out|to) .*"
        r"|kex_exchange_identification: .*|Timeout, server .* not responding\.|client_loop: .*",
        UNREACHABLE,
    ),
)
# Whole lines of servers that give no other evidence: git itself, GitHub and GitLab.
_SERVERS: Final = (
    (r"(?:git upload-pack: )?aborting due to possible repository corruption on the remote side\.", CORRUPT_ON_SERVER),
    (
        r"fatal: '.*' does not appear to be a git repository|ERROR: Repository not found\."
        r"|ERROR: The project you were looking for could not be found or you don't have permission to view it\.",
        NOT_FOUND,
    ),
    (r"ERROR: Permission to \S+ denied to .*\.|ERROR: You are not allowed to push code to this project\.", NO_WRITING),
)


def of_format(text: str) -> RemoteCause | None:
    """Return the cause of an error of git with this format, or None."""
    return next((cause for formats, cause in _FORMATS if text.startswith(formats)), None)


def of_ssh_client(lines: Iterable[str]) -> RemoteCause | None:
    """Return the cause that the ssh client's own messages give, or None."""
    return _by_lines(_SSH_CLIENT, lines)


def of_server_lines(lines: Iterable[str]) -> RemoteCause | None:
    """Return the cause that a known whole line of a server gives, or None."""
    return _by_lines(_SERVERS, lines)


def _by_lines(table: tuple[tuple[str, RemoteCause], ...], lines: Iterable[str]) -> RemoteCause | None:
    kept = [line.strip() for line in lines]
    return next((cause for pattern, cause in table if any(re.fullmatch(pattern, line) for line in kept)), None)


def of_status(status: int, *, is_push: bool, has_token: bool) -> RemoteCause:
    """Return the cause of a server's refusal with an HTTP status.

    Args:
        is_push: whether git pushed; otherwise it read.
        has_token: whether the job has a token.
    """
    if 300 <= status < 400:
        return MOVED
    if status == 401:
        return TOKEN_REFUSED if has_token else TOKEN_MISSING
    if status == 403:
        return NO_WRITING if is_push else NO_READING
    if status in (404, 410):
        return NOT_FOUND if has_token else NOT_FOUND_WITHOUT_TOKEN
    if status == 413 and is_push:
        return PUSH_TOO_LARGE
    if status in (408, 425, 429) or status >= 500:
        message = f"The server of repo_url cannot answer now (HTTP status {status}); try again later."
        return RemoteCause("repo_unreachable", message, retryable=True)
    message = f"The server of repo_url refused git's request (HTTP status {status}); check the address."
    return RemoteCause("repo_refused", message)


def repo_too_large(max_repo_mb: int) -> RemoteCause:
    """Return the cause of a fetch that reached the bound of its largest file."""
    return RemoteCause("repo_too_large", too_large_sentence(max_repo_mb))


def not_understood(command: str) -> RemoteCause:
    """Return the cause of a failure for which there is no evidence; it may pass."""
    return RemoteCause(
        "git_failed", f"git {command} failed, and its messages give no known cause; try again.", retryable=True
    )
