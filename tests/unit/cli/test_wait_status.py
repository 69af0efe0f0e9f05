from __future__ import annotations

import threading
from typing import Any

import httpx
import pytest

from myctobot.cli.wait_status import WaitingWatch, waiting_sentence
from tests.unit.cli.server import Told, api_of, job


def queued(code: str, reason: str = "All is busy.", estimated_wait_s: int | None = None) -> dict[str, Any]:
    return job(status="queued", waiting={"code": code, "reason": reason, "estimated_wait_s": estimated_wait_s})


@pytest.mark.parametrize(
    ("found", "said"),
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
def test_why_a_job_waits_and_how_long(found: dict[str, Any], said: str | None) -> None:
    assert waiting_sentence(found) == said


def watch(answers: list[dict[str, Any] | int]) -> tuple[Told, int]:
    """Watch a job that is as given at each look; a number is a status that refuses the look."""
    told, looks, all_seen = Told(), 0, threading.Event()

    def answer(request: httpx.Request) -> httpx.Response:
        nonlocal looks
        looks += 1
        found = answers[min(looks, len(answers)) - 1]
        if looks > len(answers):
            all_seen.set()
        return httpx.Response(found) if isinstance(found, int) else httpx.Response(200, json=found)

    with api_of(answer) as api, WaitingWatch(api, queued("next"), told, every_s=0.01):
        assert all_seen.wait(10)
    return told, looks


def test_each_reason_is_told_once() -> None:
    told, _ = watch(
        [queued("next"), queued("class_busy"), queued("class_busy", estimated_wait_s=5), queued("lost", "Lost.")]
    )
    assert told == ["All is busy.", "Lost."]


def test_a_look_that_fails_is_nobodys_trouble() -> None:
    told, _ = watch([503, 404, queued("class_busy")])
    assert told == ["All is busy."]


def test_a_job_that_runs_is_left_alone() -> None:
    asked = threading.Event()

    def answer(request: httpx.Request) -> httpx.Response:
        asked.set()
        return httpx.Response(200, json=queued("class_busy"))

    told = Told()
    with api_of(answer) as api, WaitingWatch(api, job(status="running"), told, every_s=0.01):
        assert not asked.wait(0.2)
    assert told == []


def test_while_events_come_nobody_asks() -> None:
    asked = threading.Event()

    def answer(request: httpx.Request) -> httpx.Response:
        asked.set()
        return httpx.Response(200, json=queued("class_busy"))

    with api_of(answer) as api, WaitingWatch(api, queued("next"), Told(), every_s=0.3) as waiting:
        for _ in range(20):
            waiting.heard()
            assert not asked.wait(0.05)
