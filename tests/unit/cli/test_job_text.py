from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from myctobot.cli.job_text import job_lines, list_lines
from myctobot.cli.terminal import Style
from tests.unit.cli.server import JOB_ID, job

NOW = datetime(2030, 1, 1, 12, 5, 0, tzinfo=UTC)


def facts(**more: Any) -> dict[str, str]:
    _, *lines = job_lines(job(**more), NOW)
    return {line.prefix.strip(): line.text for line in lines}


@pytest.mark.parametrize(
    ("created_at", "task", "expected"),
    [
        ("2030-01-01T12:04:30+00:00", {"prompt": "Fix it.\nPlease."}, "completed    30 s  Fix it."),
        ("2030-01-01T12:00:00+00:00", {"prompt": "\n  Fix it."}, "completed   5 min  Fix it."),
        ("2030-01-01T09:00:00+00:00", {"prompt": "Text.", "issue_key": "PROJ-1"}, "completed     3 h  PROJ-1: Text."),
        ("2029-12-25T12:00:00+00:00", {}, "completed     7 d  "),
        ("2030-01-01T12:05:01+00:00", {}, "completed     0 s  "),
    ],
)
def test_a_list_has_one_line_a_job(created_at: str, task: dict[str, str], expected: str) -> None:
    [line] = list_lines([job(created_at=created_at, task=task)], NOW)
    assert line.text == f"{JOB_ID}  {expected}"
    assert line.style == Style.GREEN


def test_a_waiting_job_says_why() -> None:
    waiting = {"code": "class_busy", "reason": "All is busy.", "estimated_wait_s": 30}
    found = facts(status="queued", waiting=waiting)
    assert (found["status"], found["waiting"]) == ("queued", "All is busy. It may start in about 30 s.")


def test_values_that_differ_from_the_default_are_shown() -> None:
    found = facts(
        status="queued",
        waiting={"code": "parked", "reason": "The job starts then at the earliest.", "estimated_wait_s": 7200},
        not_before="2030-01-01T14:05:00+00:00",
        queue_timeout_s=5400,
        no_output_timeout_s=60,
        retry={"max_attempts": 3, "on": ["agent", "timeout"]},
        concurrency={"key": "nightly", "limit": 2},
    )
    assert found["waiting"] == "The job starts then at the earliest. It may start in about 2 h."
    limits = "at most 60 s without output, at most 1.5 h in the queue, not before 2030-01-01T14:05:00+00:00"
    assert found["limits"] == limits
    assert found["retries"] == "at most 3 attempts, after failures of agent or timeout"
    assert found["key"] == "nightly, at most 2 at once"


def test_default_values_are_not_shown() -> None:
    found = facts(
        status="running",
        task={"prompt": "x", "repo_url": "https://h/r.git", "branch": "fix"},
        queue_timeout_s=None,
        no_output_timeout_s=None,
        retry={"max_attempts": 2, "on": ["infrastructure"]},
        concurrency={"key": "https://h/r.git fix", "limit": 1},
    )
    assert not {"limits", "retries", "key"} & set(found)
    assert facts(retry={"max_attempts": 1, "on": ["agent"]})["retries"] == "no automatic retry"


def test_a_running_job_says_where_it_is() -> None:
    found = facts(
        status="running",
        phase="agent",
        started_at="2030-01-01T12:04:00+00:00",
        usage={"input_tokens": 5, "output_tokens": 1},
    )
    assert found["status"] == "running, agent"
    assert found["times"] == "submitted 5 min ago, has run about 60 s"
    assert found["usage"] == "5 tokens read, 1 written"
    assert "result" not in found


def test_a_requested_cancel_is_shown() -> None:
    found = facts(status="running", cancel_requested_at="2030-01-01T12:04:00+00:00")
    assert found["status"] == "running, cancel requested"


def attempt(number: int, outcome: str, **more: str) -> dict[str, Any]:
    return {"number": number, "shard": "local", "outcome": outcome, "state": "ended", "error_message": "", **more}


def test_each_attempt_says_how_it_ended() -> None:
    full = {"error_message": "No space is left.", "error_code": "disk_full"}
    lines = job_lines(job(attempts=[attempt(1, "failed", **full), attempt(2, "completed")]), NOW)
    notifications = [line.text for line in lines if line.prefix.strip() == "attempt"]
    assert notifications == ["1 on local, failed: No space is left. (disk_full)", "2 on local, completed"]


def test_an_ended_job_has_its_result() -> None:
    found = facts(
        attempts=[attempt(1, "completed")],
        result={"branch": "fix/average", "head": "0123456789abcdef"},
        task={"prompt": "Fix it.", "repo_url": "https://h/r.git", "base_branch": "main"},
        started_at="2030-01-01T12:00:01+00:00",
        finished_at="2030-01-01T12:00:31+00:00",
    )
    assert found["result"] == "pushed fix/average at 0123456789"
    assert found["attempt"] == "1 on local, completed"
    assert found["repository"] == "https://h/r.git from main"
    assert found["times"] == "submitted 5 min ago, ran about 30 s"


def test_a_failed_job_says_why_and_whether_to_try_again() -> None:
    error = {"code": "timeout", "message": "The time is over.", "retryable": True}
    assert facts(status="failed", error=error)["error"] == "The time is over. (timeout) Another try may succeed."
