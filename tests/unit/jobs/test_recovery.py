from __future__ import annotations

from typing import Any

import pytest

from jobs.recovery import after_loss

REPEATABLE = frozenset({"git", "filesystem"})


def decide(**changes: Any) -> tuple[bool, str]:
    facts = {
        "capabilities": ["git"],
        "repeatable": REPEATABLE,
        "attempt": 1,
        "max_attempts": 2,
        "shard": "a",
        **changes,
    }
    verdict = after_loss(**facts)
    return verdict.again, verdict.message


@pytest.mark.parametrize(
    ("changes", "again", "words"),
    [
        ({}, True, "tried again"),
        ({"capabilities": ["filesystem", "git"]}, True, "tried again"),
        ({"attempt": 2}, False, "the last of 2"),
        ({"attempt": 3}, False, "the last of 2"),
        ({"max_attempts": 1}, False, "the last of 1"),
        ({"max_attempts": 5, "attempt": 4}, True, "tried again"),
        ({"capabilities": ["git", "jira"]}, False, "because of jira"),
        ({"capabilities": ["mail", "git", "jira"]}, False, "because of jira, mail"),
        ({"repeatable": frozenset()}, False, "because of git"),
    ],
)
def test_a_lost_job(changes: dict[str, Any], again: bool, words: str) -> None:
    verdict, message = decide(**changes)
    assert verdict is again
    assert words in message


def test_the_sentence_names_attempt_and_shard() -> None:
    assert decide(shard="shard-7", attempt=1)[1].startswith("Attempt 1 on shard-7 was lost")
