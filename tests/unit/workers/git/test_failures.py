from __future__ import annotations

import pytest

from workers.git.credentials import encodings
from workers.git.failures import push_error, redact, transport_error


@pytest.mark.parametrize(
    ("stderr", "code", "retryable"),
    [
        ("fatal: write error: No space left on device", "disk_full", True),
        ("error: index-pack died of signal 25", "repo_too_large", False),
        ("No user exists for uid 4711\nfatal: Could not read from remote repository.", "ssh_user_unknown", False),
        ("fatal: unable to access 'x': server certificate verification failed.", "repo_certificate_invalid", False),
        ("fatal: unable to access 'https://h/r/': The requested URL returned error: 301", "repo_moved", False),
        ("fatal: unable to access 'https://h/r/': The requested URL returned error: 503", "repo_unreachable", True),
        ("fatal: unable to access 'x': CONNECT tunnel failed, response 403", "repo_host_refused", False),
        ("fatal: unable to access 'x': Received HTTP code 403 from proxy after CONNECT", "repo_host_refused", False),
        ("fatal: unable to access 'x': CONNECT tunnel failed, response 502", "repo_unreachable", True),
        ("fatal: Authentication failed for 'https://h/not found/'", "repo_auth_failed", False),
        ("git@h: Permission denied (publickey).\nfatal: Could not read from remote", "repo_auth_failed", False),
        ("remote: Write access to repository not granted.\nfatal: returned error: 403", "repo_access_denied", False),
        ("remote: Repository not found.\nfatal: repository 'https://h/r/' not found", "repo_not_found", False),
        ("fatal: '/r.git' does not appear to be a git repository", "repo_not_found", False),
        ("fatal: detected dubious ownership in repository at '/r'", "repo_owner_unsafe", False),
        ("fatal: unable to access 'x': Failed to connect to h port 1: Connection refused", "repo_unreachable", True),
        ("error: RPC failed; curl 28 Operation too slow.", "repo_unreachable", True),
        ("error: object 12: hasDotgit: contains '.git'\nfatal: fsck error in packed object", "repo_corrupt", False),
        ("fatal: the moon is full", "git_failed", True),
        ("", "git_failed", True),
    ],
)  # fmt: skip
def test_gits_message_becomes_a_code(stderr: str, code: str, retryable: bool) -> None:
    error = transport_error("fetch", stderr, [])
    assert (error.code, error.retryable) == (code, retryable)


def test_quoted_names_are_ignored() -> None:
    error = transport_error("fetch", "fatal: repository 'https://h/certificate-problem-403/' not found", [])
    assert error.code == "repo_not_found"


@pytest.mark.parametrize(
    ("report", "code", "retryable"),
    [
        ("To x\n!\tabc:refs/heads/b\t[rejected] (fetch first)\nDone", "push_rejected", False),
        ("!\tabc:refs/heads/b\t[remote rejected] (protected branch hook declined)", "push_denied", False),
        ("", "repo_auth_failed", False),
    ],
)
def test_a_refused_push_says_why(report: str, code: str, retryable: bool) -> None:
    error = push_error(report, "fatal: Authentication failed for 'https://h/'", [], "b")
    assert (error.code, error.retryable) == (code, retryable)


@pytest.mark.parametrize("said", ["user:s3cret-token", "s3cret-token", "dXNlcjpzM2NyZXQtdG9rZW4=", "s3cret%2Dtoken"])
def test_every_encoding_of_the_token_is_redacted(said: str) -> None:
    token = "user:s3cret-token"
    error = transport_error("fetch", f"fatal: {said} is wrong", encodings(token))
    assert "s3cret" not in str(error).replace("s3cret%2Dtoken", "")
    assert "dXNlcjpzM2NyZXQtdG9rZW4" not in str(error)


def test_a_private_key_is_redacted_line_by_line() -> None:
    key = "-----BEGIN OPENSSH PRIVATE KEY-----\nabcdefghijklmnopqrstuvwxyz\n-----END OPENSSH PRIVATE KEY-----\n"
    assert redact("x abcdefghijklmnopqrstuvwxyz y", encodings(key)) == "x [redacted] y"
