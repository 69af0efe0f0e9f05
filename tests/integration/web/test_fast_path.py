"""Calls that answer at once take a shorter way through the web process; nothing else about them differs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from django.contrib.auth.models import User
from django.test import Client

from jobs.models import Job
from myctobot.asgi import application
from myctobot.contract.limits import MAX_REQUEST_BYTES
from myctobot.tenants.models import ApiKey, Tenant
from shards.models import Shard
from tests.factories.control_plane import make_member, make_shard, make_tenant
from tests.factories.viewers import in_thread
from tests.integration.gateway.conftest import served

pytestmark = [pytest.mark.anyio, pytest.mark.django_db(transaction=True)]
BODY: dict[str, Any] = {"task": {"type": "prompt", "prompt": "Say it."}, "capabilities": ["git"]}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def tenant() -> Tenant:
    return make_tenant()


@pytest.fixture
def shard() -> Shard:
    return make_shard()[0]


@pytest.fixture
def member(tenant: Tenant) -> User:
    return make_member(tenant, "ada")


@pytest.fixture
async def client(shard: Shard) -> AsyncIterator[httpx.AsyncClient]:
    async with served(application) as url, httpx.AsyncClient(base_url=url, trust_env=False, timeout=20) as client:
        yield client


async def test_a_job_is_made_with_a_key(client: httpx.AsyncClient, tenant: Tenant) -> None:
    _, key = await in_thread(lambda: ApiKey.create(tenant, "k"))
    answer = await client.post("/api/v1/jobs", json=BODY, headers={"Authorization": f"Bearer {key}"})
    assert answer.status_code == 201
    assert answer.headers["Location"] == f"/api/v1/jobs/{answer.json()['id']}"
    assert answer.headers["X-Frame-Options"] == "DENY"
    assert int(answer.headers["Content-Length"]) == len(answer.content)
    assert answer.headers.get_list("Content-Length") == [str(len(answer.content))]
    assert "set-cookie" not in answer.headers


async def test_a_session_needs_its_token_against_forgery(client: httpx.AsyncClient, member: User) -> None:
    django = Client()
    await in_thread(lambda: django.force_login(member))
    client.cookies.set("sessionid", django.cookies["sessionid"].value)
    refused = await client.post("/api/v1/jobs", json=BODY)
    assert refused.status_code == 403
    assert "CSRF" in refused.json()["error"]["message"]
    client.cookies.set("csrftoken", "a" * 32)
    assert (await client.post("/api/v1/jobs", json=BODY, headers={"X-CSRFToken": "a" * 32})).status_code == 201


async def test_without_either(client: httpx.AsyncClient) -> None:
    assert (await client.post("/api/v1/jobs", json=BODY)).status_code == 401


async def test_a_body_that_names_no_length(client: httpx.AsyncClient, tenant: Tenant) -> None:
    _, key = await in_thread(lambda: ApiKey.create(tenant, "k"))

    async def pieces() -> AsyncIterator[bytes]:
        yield b'{"task": {"type": "prompt", "prompt": "'
        yield b'Say it."}, "capabilities": ["git"]}'

    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    assert (await client.post("/api/v1/jobs", content=pieces(), headers=headers)).status_code == 201


async def test_a_body_that_is_too_large(client: httpx.AsyncClient, tenant: Tenant) -> None:
    _, key = await in_thread(lambda: ApiKey.create(tenant, "k"))

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(5 * MAX_REQUEST_BYTES // 65536):
            yield b" " * 65536

    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    answer = await client.post("/api/v1/jobs", content=endless(), headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "request_too_large")
    assert not await in_thread(Job.objects.exists)


async def test_an_address_that_is_none(client: httpx.AsyncClient) -> None:
    answer = await client.post("/api/v1/nothing", json={})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "no_such_address")
