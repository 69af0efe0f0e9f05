"""Retry decisions."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.lifecycle.retry_policy import (
    FIRST_PAUSE_S,
    Cause,
    RetryDecision,
    classify_failure,
    decide_retry,
    first_pause_s,
)


@pytest.mark.parametrize(
    ("code", "retryable", "expected"),
    [
        ("lost", True, Cause.INFRASTRUCTURE),
        ("interrupted", True, Cause.INFRASTRUCTURE),
        ("disk_full", True, Cause.INFRASTRUCTURE),
        ("runner_error", False, Cause.INFRASTRUCTURE),
        ("repo_unreachable", True, Cause.INFRASTRUCTURE),
        ("repo_token_invalid", False, Cause.REQUEST),
        ("push_denied", False, Cause.REQUEST),
        ("agent_failed", False, Cause.AGENT),
        ("agent_cli_missing", False, Cause.INFRASTRUCTURE),
        ("agent_api_error", True, Cause.AGENT),
        ("model_unavailable", True, Cause.INFRASTRUCTURE),
        ("timeout", False, Cause.TIMEOUT),
        ("no_output", True, Cause.TIMEOUT),
    ],
)
def test_cause_of_a_failure(code: str, retryable: bool, expected: Cause) -> None:
    assert classify_failure(code, retryable=retryable) is expected


def verdict(cause: Cause = Cause.INFRASTRUCTURE, **changes: Any) -> RetryDecision:
    facts = {
        "tries": 1,
        "max_attempts": 2,
        "retry_on": ["infrastructure"],
        "capabilities": ["git"],
        "repeatable": {"git", "filesystem"},
        **changes,
    }
    return decide_retry(cause, **facts)


@pytest.mark.parametrize(
    ("cause", "changes", "again", "words"),
    [
        (Cause.INFRASTRUCTURE, {}, True, "tried again in 5 s, attempt 2 of 2"),
        (Cause.INFRASTRUCTURE, {"tries": 2}, False, "the last of 2"),
        (Cause.INFRASTRUCTURE, {"max_attempts": 1}, False, "the last of 1"),
        (Cause.INFRASTRUCTURE, {"capabilities": ["git", "jira", "mail"]}, False, "because of jira, mail"),
        (Cause.INFRASTRUCTURE, {"retry_on": []}, False, ""),
        (Cause.AGENT, {}, False, ""),
        (Cause.AGENT, {"retry_on": ["agent"]}, True, "tried again"),
        (Cause.AGENT, {"retry_on": ["agent"], "capabilities": ["mail"]}, False, "because of mail"),
        (Cause.TIMEOUT, {}, False, ""),
        (Cause.TIMEOUT, {"retry_on": ["timeout"]}, True, "tried again"),
        (Cause.REQUEST, {"retry_on": ["infrastructure", "agent", "timeout"]}, False, ""),
    ],
)
def test_retry_decision(cause: Cause, changes: dict[str, Any], again: bool, words: str) -> None:
    found = verdict(cause, **changes)
    assert found.retry is again
    assert words in found.note
    assert bool(found.note) is bool(words)


def test_a_busy_provider_gets_more_time() -> None:
    pauses = [verdict(tries=tries, first_pause_s=first_pause_s("model_unavailable")).pause_s for tries in (1, 2)]
    assert pauses == [120, 0]
    assert first_pause_s("repo_unreachable") == FIRST_PAUSE_S


def test_pauses_grow_up_to_five_minutes() -> None:
    pauses = [verdict(tries=tries, max_attempts=10).pause_s for tries in range(1, 10)]
    assert pauses == [5, 10, 20, 40, 80, 160, 300, 300, 300]
