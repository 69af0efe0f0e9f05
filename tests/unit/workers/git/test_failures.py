from __future__ import annotations

import pytest

from workers.git.credentials import encodings
from workers.git.failures import RemoteCall, http_status, push_error, redact, transport_error
from workers.git.process import Result
from workers.git.trace import GitError, GitTrace

ACCESS = "unable to access '%s': %s"
RPC = "RPC failed; %s"
URL = "https://h/r.git/"
HUNG_UP = GitError("the remote end hung up unexpectedly", "the remote end hung up unexpectedly")


def access(reason: str) -> GitError:
    return GitError(ACCESS, f"unable to access '{URL}': {reason}")


def status(number: int) -> GitError:
    return access(f"The requested URL returned error: {number}")


def rpc(reason: str) -> GitError:
    return GitError(RPC, f"RPC failed; {reason}")


def plain(text: str, form: str | None = None) -> GitError:
    return GitError(form or text, text)


def of(form: str) -> GitError:
    return GitError(form, form.replace("%s", "something"))


def failed(*errors: GitError, stdout: str = "", remote: tuple[str, ...] = (), ssh: tuple[str, ...] = ()) -> Result:
    stderr = "\n".join(f"fatal: {error.text}" for error in errors)
    return Result(128, stdout.encode(), stderr, False, GitTrace(errors), remote, ssh)


@pytest.mark.parametrize(
    ("errors", "code", "retryable"),
    [
        ([plain("write error: No space left on device")], "disk_full", True),
        ([plain("unable to write file x: Disk quota exceeded")], "disk_full", True),
        ([plain("write error: File too large")], "repo_too_large", False),
        ([plain("index-pack died of signal 25", "%s died of signal %d")], "repo_too_large", False),
        ([access("server certificate verification failed. CAfile: x")], "repo_certificate_invalid", False),
        ([access("SSL certificate problem: certificate has expired")], "repo_certificate_invalid", False),
        ([access("gnutls_handshake() failed: Error in the pull function.")], "repo_unreachable", True),
        ([status(301)], "repo_moved", False),
        ([status(400)], "repo_refused", False),
        ([status(403)], "repo_access_denied", False),
        ([status(410)], "repo_not_found", False),
        ([status(429)], "repo_unreachable", True),
        ([status(503)], "repo_unreachable", True),
        ([rpc("HTTP 503 curl 22 The requested URL returned error: 503"), HUNG_UP], "repo_unreachable", True),
        ([rpc("HTTP 413 curl 22 The requested URL returned error: 413"), HUNG_UP], "repo_refused", False),
        ([rpc("curl 28 Operation too slow. Less than 1 bytes/sec")], "repo_unreachable", True),
        ([rpc("HTTP 200 curl 18 transfer closed with outstanding read data remaining")], "repo_unreachable", True),
        ([access("CONNECT tunnel failed, response 403")], "repo_host_refused", False),
        ([access("Received HTTP code 403 from proxy after CONNECT")], "repo_host_refused", False),
        ([access("CONNECT tunnel failed, response 502")], "repo_unreachable", True),
        ([of("Authentication failed for '%s'")], "repo_auth_failed", False),
        ([of("repository '%s' not found")], "repo_not_found", False),
        ([of("'%s' does not appear to be a git repository")], "repo_not_found", False),
        ([of("detected dubious ownership in repository at '%s'\n%s")], "repo_owner_unsafe", False),
        ([access("Failed to connect to h port 1: Connection refused")], "repo_unreachable", True),
        ([plain("x: hasDotgit: y", "object %s: %s"), plain("fsck error in packed object")], "repo_corrupt", False),
        ([of("%sinfo/refs not valid: is this a git repository?")], "repo_not_git", False),
        ([of("mismatched algorithms: client %s; server %s")], "repo_format_unsupported", False),
        ([plain("pack is corrupted (SHA1 mismatch)")], "repo_answer_damaged", True),
        ([HUNG_UP], "repo_unreachable", True),
        ([plain("remote transport reported error")], "git_failed", True),
        ([plain("the moon is full")], "git_failed", True),
        ([], "git_failed", True),
    ],
)  # fmt: skip
def test_gits_errors_become_a_code(errors: list[GitError], code: str, retryable: bool) -> None:
    error = transport_error(RemoteCall("fetch"), failed(*errors))
    assert (error.code, error.retryable) == (code, retryable)


@pytest.mark.parametrize(
    "words",
    [
        "No space left on device",
        "remote: Permission to a/b.git denied",
        "The requested URL returned error: 404",
        "fatal: Authentication failed for 'x'",
        "certificate has expired",
    ],
)
def test_the_words_of_a_remote_do_not_decide(words: str) -> None:
    result = failed(plain(f"remote error: {words}", "remote error: %s"), remote=(words,))
    assert transport_error(RemoteCall("fetch"), result).code == "git_failed"


def test_a_status_in_the_name_of_a_repository_is_none() -> None:
    name = "https://h/': The requested URL returned error: 404 /r"
    error = GitError(ACCESS, f"unable to access '{name}': Failed to connect to h port 443")
    assert http_status(GitTrace((error,))) is None


def test_a_push_that_is_too_large_is_final() -> None:
    error = transport_error(RemoteCall("push"), failed(rpc("HTTP 413 curl 22 The requested URL returned error: 413")))
    assert (error.code, error.retryable) == ("push_too_large", False)


def test_a_missing_token_is_not_called_a_wrong_one() -> None:
    asked = plain("could not read Username for 'https://h': terminal prompts disabled", "could not read %s%s")
    error = transport_error(RemoteCall("ls-remote", has_token=False), failed(asked))
    assert error.code == "repo_token_missing"
    assert "the job has none; give repo_token" in str(error)


def test_the_reached_limit_is_named() -> None:
    error = transport_error(RemoteCall("fetch", max_repo_mb=2048), failed(plain("write error: File too large")))
    assert "2,048 MB that this shard allows (git.max_repo_mb)" in str(error)


@pytest.mark.parametrize(
    ("line", "code", "retryable"),
    [
        ("No user exists for uid 4711", "ssh_user_unknown", False),
        ("Host key verification failed.", "repo_host_key_unknown", False),
        ("git@h: Permission denied (publickey).", "repo_auth_failed", False),
        ("ssh: connect to host h port 22: Connection refused", "repo_unreachable", True),
        ("kex_exchange_identification: Connection closed by remote host", "repo_unreachable", True),
    ],
)
def test_the_ssh_clients_messages_become_a_code(line: str, code: str, retryable: bool) -> None:
    error = transport_error(RemoteCall("fetch"), failed(plain("Could not read from remote repository."), ssh=(line,)))
    assert (error.code, error.retryable) == (code, retryable)
    assert line in str(error)


def test_a_known_line_of_a_server_counts_only_as_a_whole() -> None:
    nothing = plain("Could not read from remote repository.")
    whole = failed(nothing, remote=("ERROR: Repository not found.",))
    part = failed(nothing, remote=("Maintenance: ERROR: Repository not found. Try later.",))
    assert transport_error(RemoteCall("fetch"), whole).code == "repo_not_found"
    assert transport_error(RemoteCall("fetch"), part).code == "git_failed"


@pytest.mark.parametrize(
    ("report", "code", "retryable"),
    [
        ("To x\n!\tabc:refs/heads/b\t[rejected] (fetch first)\nDone", "push_rejected", False),
        ("!\tabc:refs/heads/b\t[remote rejected] (pre-receive hook declined)", "push_denied", False),
        ("!\tabc:refs/heads/b\t[remote failure] (remote failed to report status)", "repo_unreachable", True),
        ("", "repo_unreachable", True),
    ],
)
def test_a_refused_push_says_why(report: str, code: str, retryable: bool) -> None:
    error = push_error(RemoteCall("push"), failed(HUNG_UP, stdout=report), "b")
    assert (error.code, error.retryable) == (code, retryable)


def test_a_refused_push_has_the_first_lines_of_the_server() -> None:
    report = "!\tabc:refs/heads/b\t[remote rejected] (pre-receive hook declined)"
    lines = (
        "GL-HOOK-ERR: branch is protected by s3cret-token",
        *(f"line {number} {'x' * 900}" for number in range(40)),
    )
    error = push_error(RemoteCall("push", encodings("s3cret-token")), failed(stdout=report, remote=lines), "b")
    assert "The server said: GL-HOOK-ERR: branch is protected by [redacted] / line 0 xxx" in str(error)
    assert "line 4" not in str(error)
    assert len(str(error)) < 2000


@pytest.mark.parametrize("said", ["user:s3cret-token", "s3cret-token", "dXNlcjpzM2NyZXQtdG9rZW4=", "s3cret%2Dtoken"])
def test_every_encoding_of_the_token_is_redacted(said: str) -> None:
    call = RemoteCall("fetch", encodings("user:s3cret-token"))
    error = transport_error(call, failed(plain(f"{said} is wrong"), remote=(said,)))
    assert "s3cret" not in str(error).replace("s3cret%2Dtoken", "")
    assert "dXNlcjpzM2NyZXQtdG9rZW4" not in str(error)


def test_a_private_key_is_redacted_line_by_line() -> None:
    key = "-----BEGIN OPENSSH PRIVATE KEY-----\nabcdefghijklmnopqrstuvwxyz\n-----END OPENSSH PRIVATE KEY-----\n"
    assert redact("x abcdefghijklmnopqrstuvwxyz y", encodings(key)) == "x [redacted] y"
