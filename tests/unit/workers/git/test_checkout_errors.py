from __future__ import annotations

import json
import signal

import pytest

from workers.errors import JobError
from workers.git.checkout_errors import checkout_error, is_full
from workers.sandbox.limits import ResourceLimits
from workers.sandbox.sandbox import Completed


def event(form: str) -> str:
    return json.dumps({"event": "error", "msg": form, "fmt": form}, separators=(",", ":"))


def explain(stderr: str, returncode: int = 1, *, processes_refused: bool = False, disk_full: bool = False) -> JobError:
    done = Completed(returncode, b"", stderr.encode(), False)
    return checkout_error(done, ResourceLimits(), processes_refused=processes_refused, disk_full=disk_full)


@pytest.mark.parametrize(
    ("form", "code", "retryable", "words"),
    [
        ("write error: No space left on device", "disk_full", True, "disk is full"),
        ("cannot fork() for index-pack: Resource temporarily unavailable", "git_process_limit", True, "256 processes"),
        ("write error: File too large", "repo_too_large", False, "2,048 MB that this shard allows (sandbox"),
        ("Out of memory, malloc failed (tried to allocate %lu bytes)", "git_out_of_memory", False, "2048 MB of memory"),
        ("invalid path '%s'", "checkout_failed", True, "git said: fatal: remote transport reported error"),
    ],
)  # fmt: skip
def test_a_failed_checkout_names_the_limit(form: str, code: str, retryable: bool, words: str) -> None:
    stderr = f"{event(form)}\nerror: index-pack died\n{event('remote transport reported error')}\n"
    error = explain(stderr + "fatal: remote transport reported error\n")
    assert (error.code, error.retryable) == (code, retryable)
    assert words in str(error)


def test_a_thread_that_is_refused_at_the_limit_of_processes_is_no_lack_of_memory() -> None:
    codes = [explain(event("unable to create thread: %s"), processes_refused=refused).code for refused in (True, False)]
    assert codes == ["git_process_limit", "git_out_of_memory"]


@pytest.mark.parametrize(
    ("form", "disk_full", "code"),
    [
        ("unable to write file %s", True, "disk_full"),
        ("cannot create directory at '%s'", True, "disk_full"),
        ("unable to write file %s", False, "checkout_failed"),
        ("invalid path '%s'", True, "checkout_failed"),
    ],
)
def test_a_file_that_cannot_be_written_is_blamed_on_a_full_disk(form: str, disk_full: bool, code: str) -> None:
    assert explain(event(form), disk_full=disk_full).code == code


def test_a_checkout_that_the_limit_of_a_file_ended_names_it() -> None:
    assert explain("", 128 + signal.SIGXFSZ).code == "repo_too_large"


@pytest.mark.parametrize(
    ("free", "full"),
    [
        (b"0 4096 900\n", True),
        (b"255 4096 900\n", True),
        (b"256 4096 900\n", False),
        (b"900000 4096 0\n", True),
        (b"", False),
        (b"a 4096 1", False),
    ],
)
def test_a_disk_without_blocks_or_inodes_is_full(free: bytes, full: bool) -> None:
    assert is_full(free) is full
