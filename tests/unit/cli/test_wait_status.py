from __future__ import annotations

import threading
from typing import Any

import httpx
import pytest

from myctobot.cli.wait_status import WaitMonitor, waiting_sentence
from tests.unit.cli.server import Notifications, api_of, job


def queued(code: str, reason: str = "All is busy.", estimated_wait_s: int | None = None) -> dict[str, Any]:
    return job(status="queued", waiting={"code": code, "reason": reason, "estimated_wait_s": estimated_wait_s})


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (queued("class_busy"), "All is busy."),
        (queued("class_busy", estimated_wait_s=0), "All is busy. It may start in a moment."),
        (queued("class_busy", estimated_wait_s=75), "All is busy. It may start in about 75 s."),
        (queued("class_busy", estimated_wait_s=600), "All is busy. It may start in about 10 min."),
        (queued("class_busy", estimated_wait_s=9000), "All is busy. It may start in about 2.5 h."),
        (queued("parked", "Not before then.", 7200), "Not before then. It may start in about 2 h."),
        (
            queued("retry", "The disk is full. Again in 5 s.", 5),
            "The disk is full. Again in 5 s. It may start in about 5 s.",
        ),
        (
            queued("key_busy", "At most one job with 'x' at once: job_1 now."),
            "At most one job with 'x' at once: job_1 now.",
        ),
        (queued("tenant_limit", "At its limit of 5 running jobs."), "At its limit of 5 running jobs."),
        (queued("closed", "No shard takes jobs now."), "No shard takes jobs now."),
        (queued("next"), None),
        (queued("dispatched"), None),
        (job(status="running"), None),
        (job(status="completed"), None),
    ],
)
def test_why_a_job_waits_and_how_long(found: dict[str, Any], expected: str | None) -> None:
    assert waiting_sentence(found) == expected


def watch(answers: list[dict[str, Any] | int]) -> tuple[Notifications, int]:
    """Monitor a job with these answers, where a number is the status of a refused read."""
    notifications, reads, all_read = Notifications(), 0, threading.Event()

    def answer(request: httpx.Request) -> httpx.Response:
        nonlocal reads
        reads += 1
        found = answers[min(reads, len(answers)) - 1]
        if reads > len(answers):
            all_read.set()
        return httpx.Response(found) if isinstance(found, int) else httpx.Response(200, json=found)

    with api_of(answer) as api, WaitMonitor(api, queued("next"), notifications, interval_s=0.01):
        assert all_read.wait(10)
    return notifications, reads


def test_each_reason_is_reported_once() -> None:
    notifications, _ = watch(
        [queued("next"), queued("class_busy"), queued("class_busy", estimated_wait_s=5), queued("lost", "Lost.")]
    )
    assert notifications == ["All is busy.", "Lost."]


def test_a_failed_read_is_ignored() -> None:
    notifications, _ = watch([503, 404, queued("class_busy")])
    assert notifications == ["All is busy."]


def test_a_running_job_is_not_read_often() -> None:
    requested = threading.Event()

    def answer(request: httpx.Request) -> httpx.Response:
        requested.set()
        return httpx.Response(200, json=queued("class_busy"))

    notifications = Notifications()
    with api_of(answer) as api, WaitMonitor(api, job(status="running"), notifications, interval_s=0.01):
        assert not requested.wait(0.2)
    assert notifications == []


def test_the_job_is_not_read_while_events_arrive() -> None:
    requested = threading.Event()

    def answer(request: httpx.Request) -> httpx.Response:
        requested.set()
        return httpx.Response(200, json=queued("class_busy"))

    with api_of(answer) as api, WaitMonitor(api, queued("next"), Notifications(), interval_s=0.3) as waiting:
        for _ in range(20):
            waiting.event_received()
            assert not requested.wait(0.05)
