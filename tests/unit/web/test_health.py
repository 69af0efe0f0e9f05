"""Health checks: what many requests share, and what a check that hangs does to them."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any

import pytest

from myctobot.web import health
from myctobot.web.health import HealthReport, LatestHealth, health_response, with_health_check

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Database:
    """Database that counts its questions and answers when it may."""

    def __init__(self, problem: str | None = None) -> None:
        self.problem, self.asked, self.answers = problem, 0, threading.Event()
        self.answers.set()

    def __call__(self) -> HealthReport:
        self.asked += 1
        self.answers.wait(20)
        return HealthReport(self.problem)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


async def test_requests_share_a_check_for_a_second() -> None:
    database, clock = Database(), Clock()
    checked = LatestHealth(database, clock)
    assert await asyncio.gather(*(checked.report() for _ in range(500))) == [HealthReport()] * 500
    clock.now = 0.9
    assert (await checked.report()).problem is None
    assert database.asked == 1
    clock.now = 1.1
    database.problem = "It is away."
    assert (await checked.report()).problem == "It is away."
    assert database.asked == 2


async def test_a_check_that_hangs_answers_in_time_and_no_other_one_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "ANSWER_S", 0.05)
    database, clock = Database(), Clock()
    database.answers.clear()
    checked = LatestHealth(database, clock)
    for second in range(3):
        clock.now = 2.0 * second
        assert (await checked.report()).problem == "PostgreSQL does not answer."
    assert database.asked == 1
    database.answers.set()
    monkeypatch.setattr(health, "ANSWER_S", 20)
    clock.now = 10
    assert (await checked.report()).problem is None


async def test_a_mistake_of_the_check_is_a_failure() -> None:
    def broken() -> HealthReport:
        raise RuntimeError("a mistake")

    assert (await LatestHealth(broken).report()).problem == "PostgreSQL does not answer."


@pytest.mark.parametrize(
    ("problem", "status", "body", "retry"),
    [
        (None, 200, {"status": "ok"}, None),
        ("It is away.", 503, {"status": "failed", "problem": "It is away."}, b"5"),
    ],
)
async def test_the_response(problem: str | None, status: int, body: dict[str, str], retry: bytes | None) -> None:
    found = await health_response(LatestHealth(Database(problem)))
    assert (found.status, json.loads(found.body)) == (status, body)
    assert dict(found.headers).get(b"retry-after") == retry


async def test_parts_that_do_not_start_are_named_and_the_process_is_well() -> None:
    found = await health_response(LatestHealth(lambda: HealthReport(None, ("beat", "gateway"))))
    assert found.status == 200
    assert json.loads(found.body) == {"status": "ok", "failing_parts": ["beat", "gateway"]}


async def test_only_health_checks_are_answered_before_the_application() -> None:
    reached: list[str] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        reached.append(scope["path"])

    async def receive() -> Any:
        return {"type": "http.request"}

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    app = with_health_check(application, LatestHealth(Database()))
    for kind, path in (("http", "/healthz"), ("http", "/healthz/x"), ("websocket", "/healthz"), ("http", "/")):
        await app({"type": kind, "path": path}, receive, send)
    assert reached == ["/healthz/x", "/healthz", "/"]
    assert sent[0]["status"] == 200
