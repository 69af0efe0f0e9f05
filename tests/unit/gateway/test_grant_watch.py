from __future__ import annotations

import asyncio
from contextlib import ExitStack

import pytest
from django.db import OperationalError

from myctobot.gateway import grant_watch
from myctobot.gateway.grant_watch import GrantWatch
from myctobot.gateway.grants import AttemptKey, MemoryGrant
from myctobot.gateway.job_calls import JobCallLimits, JobCalls

pytestmark = pytest.mark.anyio
KEY = ("job_one", 1)
NEVER_S = 3600


class Source:
    """Live attempts, and the questions about them."""

    def __init__(self) -> None:
        self.live = {KEY, ("job_two", 1)}
        self.asked: list[frozenset[AttemptKey]] = []
        self.error: Exception | None = None

    async def __call__(self, attempts: frozenset[AttemptKey]) -> frozenset[AttemptKey]:
        self.asked.append(attempts)
        if self.error:
            raise self.error
        return attempts & self.live


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def source() -> Source:
    return Source()


def watch_of(source: Source, interval_s: float = NEVER_S) -> tuple[GrantWatch, JobCalls]:
    calls = JobCalls(JobCallLimits())
    return GrantWatch(source, calls, interval_s), calls


async def test_only_the_calls_of_an_ended_attempt_end(source: Source) -> None:
    watch, _ = watch_of(source)
    ended: list[str] = []
    with ExitStack() as stack:
        for name, key in (("a", KEY), ("b", KEY), ("c", ("job_two", 1))):
            stack.enter_context(watch.watch(key, lambda name=name: ended.append(name)))  # type: ignore[misc]  # lambda
        await watch.check()
        assert ended == []
        source.live.remove(KEY)
        await watch.check()
    assert ended == ["a", "b"]
    assert source.asked == [frozenset({KEY, ("job_two", 1)})] * 2
    await watch.stop()


async def test_the_watch_runs_while_calls_are_open(source: Source) -> None:
    watch, _ = watch_of(source, interval_s=0.01)
    ended = asyncio.Event()
    source.live.clear()
    with watch.watch(KEY, ended.set):
        async with asyncio.timeout(20):
            await ended.wait()
    await watch.stop()


async def test_the_counters_of_ended_attempts_are_dropped(source: Source) -> None:
    watch, calls = watch_of(source)
    with calls.enter(MemoryGrant(1, "job_ended")), calls.enter(MemoryGrant(1, "job_one")):
        pass
    await watch.check()
    assert calls.attempts() == {KEY}


async def test_calls_survive_a_database_that_is_away_for_less_than_a_lease(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch, _ = watch_of(source)
    source.error = OperationalError("connection refused")
    ended: list[str] = []
    with watch.watch(KEY, lambda: ended.append("a")):
        await watch.check()
        assert ended == []
        # Without an answer for a lease, no lease that was read before can still hold.
        monkeypatch.setattr(grant_watch, "LEASE_S", -1)
        await watch.check()
    assert ended == ["a"]
    await watch.stop()


async def test_no_call_outlives_a_broken_watch(source: Source) -> None:
    watch, _ = watch_of(source, interval_s=0.01)
    source.error = ZeroDivisionError("a bug")
    ended = asyncio.Event()
    with watch.watch(KEY, ended.set):
        async with asyncio.timeout(20):
            await ended.wait()
    await watch.stop()
