"""Shard API in the ASGI application of the web process, without Django middleware."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from django.db import connection, transaction

from jobs.lifecycle import admission
from jobs.models import Job
from myctobot.asgi import application
from myctobot.contract.runner import CLAIM_HEADER
from myctobot.tenants.models import ApiKey, Tenant
from tests.factories.control_plane import Runner, event, running_job
from tests.factories.viewers import in_thread
from tests.integration.gateway.conftest import served

pytestmark = [pytest.mark.anyio, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def running(tenant: Any, key: str) -> tuple[Job, Runner]:
    return running_job(tenant, key)


@pytest.fixture
async def client(key: str) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"Authorization": f"Bearer {key}"}
    async with (
        served(application) as url,
        httpx.AsyncClient(base_url=url, headers=headers, trust_env=False, timeout=20) as client,
    ):
        yield client


async def post(client: httpx.AsyncClient, running: tuple[Job, Runner], **headers: str) -> httpx.Response:
    job, runner = running
    body = {"attempt": 1, "first_seq": 1, "events": [event(1)]}
    sent = {CLAIM_HEADER: runner.token, **headers}
    return await client.post(f"/shard/v1/jobs/{job.public_id}/events", json=body, headers=sent)


async def test_a_batch_is_stored_without_a_cookie(client: httpx.AsyncClient, running: tuple[Job, Runner]) -> None:
    answer = await post(client, running)
    assert answer.json() == {"next_seq": 2, "lease_s": 60, "cancel": False}
    assert "set-cookie" not in answer.headers


async def test_a_session_gives_no_access(client: httpx.AsyncClient, running: tuple[Job, Runner]) -> None:
    answer = await post(client, running, Authorization="", Cookie="sessionid=x")
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "unknown_shard_key"


@pytest.mark.parametrize("path", ["/shard/v1/nonsense", "/shard/", "/shard/v1/jobs/x/events/more"])
async def test_an_unknown_address_is_answered_in_json(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.post(path, json={})
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "no_such_address"


async def test_an_internal_error_is_answered_in_json_and_the_next_call_works(
    client: httpx.AsyncClient, running: tuple[Job, Runner], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("a mistake")

    with monkeypatch.context() as patched:
        patched.setattr("jobs.shard_api.runner_calls.append_events", broken)
        answer = await post(client, running)
        assert answer.status_code == 500
        assert answer.json()["error"] == {
            "code": "internal_error",
            "message": answer.json()["error"]["message"],
            "retryable": True,
        }
        assert "a mistake" not in answer.text
    assert (await post(client, running)).status_code == 200


async def test_pages_keep_their_middleware(client: httpx.AsyncClient) -> None:
    assert (await client.get("/login/")).headers["X-Frame-Options"] == "DENY"


async def test_connections_return_to_the_pool(
    client: httpx.AsyncClient, running: tuple[Job, Runner], settings: Any
) -> None:
    for _ in range(settings.DATABASE_POOL_SIZE + 8):
        assert (await post(client, running)).status_code == 200
    assert await in_thread(Job.objects.count) == 1


async def test_submits_that_wait_for_each_other_do_not_delay_a_runner(
    client: httpx.AsyncClient, running: tuple[Job, Runner], tenant: Tenant
) -> None:
    _, member = await in_thread(lambda: ApiKey.create(tenant, "k"))
    # With this low limit, each submit counts the waiting jobs under a lock.
    await in_thread(lambda: Tenant.objects.filter(pk=tenant.pk).update(max_waiting_jobs=100))
    body = {"task": {"type": "prompt", "prompt": "Say it."}, "capabilities": ["git"]}
    headers = {"Authorization": f"Bearer {member}"}
    held, over = threading.Event(), threading.Event()

    def hold() -> None:
        # Submits of one tenant run one after the other, and this one takes long.
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s, %s)", [admission._SUBMIT_LOCK, tenant.pk])
            held.set()
            over.wait(30)
        connection.close()

    holder = threading.Thread(target=hold)
    holder.start()
    try:
        held.wait(10)
        submits = [asyncio.create_task(client.post("/api/v1/jobs", json=body, headers=headers)) for _ in range(12)]
        await asyncio.sleep(0.5)
        assert (await post(client, running)).status_code == 200
        assert not any(submit.done() for submit in submits)
    finally:
        over.set()
        holder.join(10)
    assert [answer.status_code for answer in await asyncio.gather(*submits)] == [201] * 12
