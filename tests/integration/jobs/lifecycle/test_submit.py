"""Submit refuses with a reason, and each change that happens between its statements counts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from jobs.errors import NoEligibleShard, QueueLimitReached, StaleCaller
from jobs.lifecycle import submit as module
from jobs.lifecycle.admission import WaitingLimit, insert_within_limit
from jobs.lifecycle.job_request import JobRequest
from jobs.lifecycle.submit import submit
from jobs.models import Job
from myctobot.lib.sql import SqlFragment
from myctobot.tenants.authentication import Caller, KnownCaller, RecentKeys
from myctobot.tenants.models import ApiKey, Role, Tenant
from shards.models import Shard
from tests.factories.control_plane import make_job, make_shard, make_tenant

pytestmark = pytest.mark.django_db


def request(*capabilities: str) -> JobRequest:
    return JobRequest({"type": "prompt", "prompt": "x"}, sorted(capabilities or ("git",)), 20, 600, 5)


@pytest.fixture
def tenant() -> Tenant:
    return make_tenant()


@pytest.fixture
def known(tenant: Tenant) -> KnownCaller:
    found = RecentKeys().find(ApiKey.create(tenant, "k")[1])
    assert found is not None
    return found


def between(monkeypatch: pytest.MonkeyPatch, change: Callable[[], object]) -> None:
    """Make a change after the first statement of a submit, once."""
    changes = [change]

    def changing(*values: Any) -> bool:
        stored = insert_within_limit(*values)
        if changes:
            changes.pop()()
        return stored

    monkeypatch.setattr(module, "insert_within_limit", changing)


def test_a_shard_that_is_added_during_the_submit_gets_the_job(tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    between(monkeypatch, make_shard)
    job, created = submit(Caller(tenant, Role.MEMBER), request())
    assert created
    assert Job.objects.get() == job


def test_a_guarded_caller_gets_a_shard_that_is_added_during_the_submit(
    known: KnownCaller, monkeypatch: pytest.MonkeyPatch
) -> None:
    between(monkeypatch, make_shard)
    assert submit(known.caller, request(), guard=known.guard)[1]


def test_a_key_that_ends_while_a_shard_is_added_stores_nothing(
    known: KnownCaller, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = module._refuse_ineligible

    def ending(job: Job) -> None:
        usual(job)
        ApiKey.objects.update(revoked_at=timezone.now())

    between(monkeypatch, make_shard)
    monkeypatch.setattr(module, "_refuse_ineligible", ending)
    with pytest.raises(StaleCaller):
        submit(known.caller, request(), guard=known.guard)
    assert not Job.objects.exists()


def test_a_failed_guard_and_a_job_that_no_shard_can_run_are_different_errors(known: KnownCaller) -> None:
    with pytest.raises(NoEligibleShard):
        submit(known.caller, request(), guard=known.guard)
    with pytest.raises(StaleCaller):
        submit(known.caller, request(), guard=SqlFragment("%s", [False]))
    make_shard()
    with pytest.raises(StaleCaller):
        submit(known.caller, request(), guard=SqlFragment("%s", [False]))
    assert not Job.objects.exists()


def test_a_shard_that_is_destroyed_counts_for_nothing(tenant: Tenant) -> None:
    make_shard()
    Shard.objects.update(state="gone")
    with pytest.raises(NoEligibleShard) as refused:
        submit(Caller(tenant, Role.MEMBER), request())
    assert list(refused.value.fields) == ["capabilities"]


def test_a_full_queue_is_no_reason_if_no_shard_can_run_the_job(tenant: Tenant) -> None:
    make_shard()
    tenant.max_waiting_jobs = 1
    make_job(tenant)
    with pytest.raises(QueueLimitReached):
        submit(Caller(tenant, Role.MEMBER), request())
    with pytest.raises(NoEligibleShard):
        submit(Caller(tenant, Role.MEMBER), request("quantum"))


def test_with_and_without_a_cached_count_the_limit_is_the_same(tenant: Tenant) -> None:
    make_shard()
    tenant.max_waiting_jobs = 3
    limit = WaitingLimit()
    for _ in range(3):
        assert submit(Caller(tenant, Role.MEMBER), request(), waiting_limit=limit)[1]
    for waiting_limit in (None, limit):
        with pytest.raises(QueueLimitReached):
            submit(Caller(tenant, Role.MEMBER), request(), waiting_limit=waiting_limit)


def test_an_accepted_submit_with_a_guard_is_one_statement(known: KnownCaller) -> None:
    make_shard()
    limit = WaitingLimit()
    submit(known.caller, request(), guard=known.guard, waiting_limit=limit)
    with connection.execute_wrapper(lambda *_: pytest.fail("Django's own cursor was used")):
        submit(known.caller, request(), guard=known.guard, waiting_limit=limit)
