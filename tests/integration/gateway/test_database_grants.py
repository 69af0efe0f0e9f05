"""The gateway with the real tables behind it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta

import pytest
from asgiref.sync import sync_to_async
from django.db import connection
from django.utils import timezone

from jobs.attempts.gateway_grants import afind_grant, afind_live, find_grant, find_live
from jobs.lifecycle.secrets import JobSecrets
from jobs.models import Attempt, Job
from jobs.models.states import AttemptState
from myctobot.contract.jobs import JobStatus
from myctobot.gateway.grants import DatabaseGrants
from myctobot.gateway.upstreams.anthropic import AnthropicUpstream
from myctobot.gateway.upstreams.scripted.upstream import ScriptedUpstream
from myctobot.lib.crypto import digest
from myctobot.tenants.models import Role, Tenant
from tests.fixtures.fake_anthropic import STREAM, FakeAnthropic, streaming

from .conftest import KEY, TOKEN, ask, gateway_client, served

pytestmark = [pytest.mark.anyio, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def attempt(transactional_db: None) -> Attempt:
    tenant = Tenant.objects.create(slug="acme", name="Acme")
    job = Job(tenant=tenant, task={}, capabilities=["git"], timeout_s=60, max_turns=5, status=JobStatus.RUNNING)
    JobSecrets({"anthropic_api_key": KEY}).seal_into(job, Role.MEMBER)
    job.attempt_number = 1
    job.save()
    return Attempt.objects.create(
        job=job,
        number=1,
        state=AttemptState.RUNNING,
        queue="cap.git",
        shard_class="git",
        gateway_token_hash=digest(TOKEN),
        lease_until=timezone.now() + timedelta(minutes=1),
    )


async def test_a_running_attempts_token_brings_the_tenants_key(attempt: Attempt) -> None:
    provider = FakeAnthropic()
    async with (
        served(provider) as url,
        gateway_client(AnthropicUpstream(url), DatabaseGrants(afind_grant, afind_live)) as client,
    ):
        response = await client.post("/v1/messages", json=ask("hi"))
    assert response.status_code == 200
    assert provider.seen[0].headers["x-api-key"] == KEY


ENDS: dict[str, Callable[[Attempt], object]] = {
    "ended": lambda attempt: Attempt.objects.filter(pk=attempt.pk).update(state=AttemptState.ENDED),
    "lease expired": lambda attempt: Attempt.objects.filter(pk=attempt.pk).update(lease_until=timezone.now()),
    "cancelled": lambda attempt: Job.objects.filter(pk=attempt.job_id).update(cancel_requested_at=timezone.now()),
    "queued again": lambda attempt: Job.objects.filter(pk=attempt.job_id).update(status=JobStatus.QUEUED),
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS.keys())
def test_an_attempt_is_live_exactly_as_long_as_its_token(attempt: Attempt, end: Callable[[Attempt], object]) -> None:
    key = (attempt.job.public_id, 1)
    assert find_live([key, (key[0], 2), ("job_unknown", 1)]) == {key}
    end(attempt)
    assert find_live([key]) == frozenset()
    assert find_grant(TOKEN) is None


async def test_a_stream_ends_with_its_attempt(attempt: Attempt) -> None:
    def end() -> None:
        ENDS["cancelled"](attempt)
        # Of this thread, which outlives the test.
        connection.close()

    provider, grants = streaming(pieces=STREAM[:1], then="wait"), DatabaseGrants(afind_grant, afind_live)
    async with (
        served(provider) as url,
        gateway_client(AnthropicUpstream(url), grants, watch_interval_s=0.05) as client,
        client.stream("POST", "/v1/messages", json=ask("hi", stream=True)) as response,
        asyncio.timeout(20),
    ):
        pieces = response.aiter_bytes()
        await anext(pieces)
        await sync_to_async(end)()
        assert b"authentication_error" in b"".join([piece async for piece in pieces])


async def test_an_ended_attempts_token_is_refused(attempt: Attempt, scripted: ScriptedUpstream) -> None:
    def end() -> None:
        Attempt.objects.filter(pk=attempt.pk).update(state=AttemptState.ENDED)
        # Of this thread, which outlives the test.
        connection.close()

    async with gateway_client(scripted, DatabaseGrants(afind_grant, afind_live)) as client:
        before = await client.post("/v1/messages", json=ask("THINK AND TALK"))
        await sync_to_async(end)()
        after = await client.post("/v1/messages", json=ask("THINK AND TALK"))
    assert (before.status_code, after.status_code) == (200, 401)


async def test_a_call_that_streams_holds_no_connection_of_the_database(
    attempt: Attempt, scripted: ScriptedUpstream
) -> None:
    def in_use() -> int:
        stats: dict[str, int] = connection.pool.get_stats()  # type: ignore[attr-defined]  # of the PostgreSQL backend
        return stats["pool_size"] - stats["pool_available"]

    before = in_use()
    async with (
        gateway_client(scripted, DatabaseGrants(afind_grant, afind_live)) as client,
        client.stream("POST", "/v1/messages", json=ask("SILENT MODEL", stream=True)) as response,
    ):
        await anext(response.aiter_raw())
        assert in_use() == before
