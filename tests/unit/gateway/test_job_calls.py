from __future__ import annotations

from contextlib import ExitStack

import pytest

from myctobot.gateway.errors import CallQuotaReached, JobCallsExceeded, Overloaded
from myctobot.gateway.grants import MemoryGrant
from myctobot.gateway.job_calls import MAX_JOB_BYTES, MAX_TENANT_BYTES, MAX_TOTAL_BYTES, JobCallLimits, JobCalls

ONE, OTHER = MemoryGrant(1, "job_one"), MemoryGrant(1, "job_other")


def test_open_calls_are_limited_for_each_job() -> None:
    calls = JobCalls(JobCallLimits(concurrent=2))
    with calls.enter(ONE), calls.enter(ONE):
        with pytest.raises(JobCallsExceeded, match="GATEWAY_MAX_CONCURRENT_CALLS"), calls.enter(ONE):
            pass
        with calls.enter(OTHER):
            pass
    with calls.enter(ONE):
        pass


def test_all_calls_of_an_attempt_are_limited() -> None:
    calls = JobCalls(JobCallLimits(total=2))
    for _ in range(2):
        with calls.enter(ONE):
            pass
    with pytest.raises(CallQuotaReached, match="GATEWAY_MAX_CALLS_PER_ATTEMPT"), calls.enter(ONE):
        pass
    with calls.enter(MemoryGrant(1, "job_one", attempt=2)):
        pass


def test_a_refused_call_does_not_count() -> None:
    calls = JobCalls(JobCallLimits(concurrent=1, total=2))
    with calls.enter(ONE), pytest.raises(JobCallsExceeded), calls.enter(ONE):
        pass
    with calls.enter(ONE):
        pass


def test_the_counters_of_an_ended_attempt_are_dropped() -> None:
    calls = JobCalls(JobCallLimits())
    with calls.enter(ONE):
        calls.forget([("job_one", 1)])
    assert calls.attempts() == frozenset()


def test_the_bodies_of_a_job_are_limited_together() -> None:
    calls = JobCalls(JobCallLimits())
    with calls.enter(ONE) as first, calls.enter(ONE) as second:
        first.take(MAX_JOB_BYTES - 10)
        with pytest.raises(JobCallsExceeded, match=r"^body: "):
            second.take(11)
        second.take(10)
    with calls.enter(ONE) as third:
        third.take(MAX_JOB_BYTES)


def test_the_bodies_of_a_tenant_and_of_all_are_limited() -> None:
    calls = JobCalls(JobCallLimits())
    with ExitStack() as stack:

        def fill(tenant: int) -> None:
            for index in range(MAX_TENANT_BYTES // MAX_JOB_BYTES):
                stack.enter_context(calls.enter(MemoryGrant(tenant, f"job_{tenant}_{index}"))).take(MAX_JOB_BYTES)

        fill(1)
        another = stack.enter_context(calls.enter(OTHER))
        with pytest.raises(Overloaded):
            another.take(1)
        for tenant in range(2, 1 + MAX_TOTAL_BYTES // MAX_TENANT_BYTES):
            fill(tenant)
        with pytest.raises(Overloaded):
            stack.enter_context(calls.enter(MemoryGrant(99, "job_99"))).take(1)
