from __future__ import annotations

import json

import pytest

from workers.git.checkout import checkout_error, find_unfinished, undo_command
from workers.sandbox.limits import ResourceLimits


@pytest.mark.parametrize(
    ("states", "unmerged", "expected"),
    [
        ([], False, None),
        ([], True, None),
        (["MERGE_HEAD"], True, ["merge", "--abort"]),
        (["MERGE_HEAD"], False, None),
        (["CHERRY_PICK_HEAD"], True, ["cherry-pick", "--abort"]),
        (["REVERT_HEAD"], True, ["revert", "--abort"]),
        (["rebase-merge"], False, ["rebase", "--abort"]),
        (["rebase-merge", "CHERRY_PICK_HEAD"], True, ["rebase", "--abort"]),
        (["rebase-apply"], False, ["rebase", "--abort"]),
        (["rebase-apply/applying", "rebase-apply"], False, ["am", "--abort"]),
        (["BISECT_LOG"], False, ["bisect", "reset"]),
        (["what else the agent prints"], False, None),
    ],
)
def test_what_is_unfinished_is_undone_or_committed(
    states: list[str], unmerged: bool, expected: list[str] | None
) -> None:
    assert undo_command(states, unmerged) == expected


@pytest.mark.parametrize(
    ("lines", "unmerged", "codes"),
    [
        ([], False, []),
        ([], True, ["git_conflicts"]),
        (["CHERRY_PICK_HEAD", "todo 2"], False, ["git_operation_unfinished"]),
        (["todo 1"], False, []),
        (["todo many"], False, []),
        (["MERGE_HEAD"], True, []),
    ],
)
def test_a_part_that_is_kept_has_a_warning(lines: list[str], unmerged: bool, codes: list[str]) -> None:
    assert [code for code, _ in find_unfinished(lines, unmerged).warnings] == codes


def event(form: str) -> str:
    return json.dumps({"event": "error", "msg": form, "fmt": form}, separators=(",", ":"))


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
    error = checkout_error(
        stderr + "fatal: remote transport reported error\n", ResourceLimits(), processes_refused=False
    )
    assert (error.code, error.retryable) == (code, retryable)
    assert words in str(error)


def test_a_thread_that_is_refused_at_the_limit_of_processes_is_no_lack_of_memory() -> None:
    codes = [
        checkout_error(event("unable to create thread: %s"), ResourceLimits(), processes_refused=refused).code
        for refused in (True, False)
    ]
    assert codes == ["git_process_limit", "git_out_of_memory"]
