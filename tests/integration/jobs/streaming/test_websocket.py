"""WebSocket streams through the real ASGI application and server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from django.contrib.auth.models import User
from django.core import signing
from django.db import OperationalError
from django.db.models.functions import Now
from django.test import Client
from websockets.exceptions import InvalidStatus

from jobs.lifecycle.cancel import cancel
from jobs.models import Job
from jobs.streaming import access
from myctobot.asgi import application
from myctobot.stack.serve import WEBSOCKETS
from myctobot.tenants.models import ApiKey, Member, Role, Tenant
from tests.factories.control_plane import Api, Runner, make_job, make_member, make_tenant, running_job
from tests.factories.viewers import in_thread, numbers, read, socket, until, watch
from tests.integration.gateway.conftest import served

pytestmark = [pytest.mark.anyio, pytest.mark.django_db(transaction=True)]
# Longer than the interval of access checks; see _check_often.
ASKED_S = 0.7


@pytest.fixture
async def url() -> AsyncIterator[str]:
    async with served(application, ws="auto", **WEBSOCKETS) as address:
        yield address


@pytest.fixture
def bearer(tenant: Tenant) -> dict[str, str]:
    return {"Authorization": f"Bearer {ApiKey.create(tenant, 'viewer', role=Role.VIEWER)[1]}"}


@pytest.fixture
def running(tenant: Tenant, key: str) -> tuple[Job, Runner]:
    return running_job(tenant, key)


def session_cookie(user: User) -> str:
    browser = Client()
    browser.force_login(user)
    return f"sessionid={browser.cookies['sessionid'].value}"


async def ended(running: tuple[Job, Runner], count: int = 3) -> Job:
    job, runner = running
    await in_thread(runner.events, *map(str, range(count)))
    await in_thread(runner.finish)
    return job


class TestEvents:
    async def test_an_ended_job_is_replayed_and_closed(
        self, url: str, running: tuple[Job, Runner], bearer: dict[str, str]
    ) -> None:
        job = await ended(running, 450)
        events, code, _ = await watch(url, job, **bearer)
        assert numbers(events) == list(range(1, 451))
        assert events[-1] == {"kind": "end", "data": {"count": 450, "status": "completed"}}
        assert code == 1000

    async def test_a_job_that_ended_before_it_started(
        self, url: str, tenant: Tenant, bearer: dict[str, str], key: str
    ) -> None:
        job = await in_thread(make_job, tenant)
        await in_thread(cancel, tenant, job.public_id)
        events, code, _ = await watch(url, job, **bearer)
        assert events == [{"kind": "end", "data": {"count": 0, "status": "cancelled"}}]
        assert code == 1000

    @pytest.mark.parametrize(
        ("query", "expected"), [("", [1, 2, 3]), ("?after=2", [3]), ("?after=3", []), ("?after=99", [])]
    )
    async def test_a_viewer_resumes_at_its_position(
        self, url: str, running: tuple[Job, Runner], bearer: dict[str, str], query: str, expected: list[int]
    ) -> None:
        job = await ended(running)
        events, code, _ = await watch(url, job, query, **bearer)
        assert numbers(events) == expected
        assert code == 1000

    async def test_early_and_late_viewers_get_live_events_exactly_once(
        self, url: str, running: tuple[Job, Runner], bearer: dict[str, str]
    ) -> None:
        job, runner = running
        viewers = [asyncio.create_task(watch(url, job, **bearer)) for _ in range(3)]
        for start in range(0, 60, 2):
            await in_thread(runner.events, str(start), str(start + 1))
            if start == 30:
                viewers.append(asyncio.create_task(watch(url, job, "?after=10", **bearer)))
        await in_thread(runner.finish)
        *early, late = await asyncio.gather(*viewers)
        assert [numbers(events) for events, _, _ in early] == [list(range(1, 61))] * 3
        assert numbers(late[0]) == list(range(11, 61))

    async def test_messages_of_a_viewer_are_ignored(
        self, url: str, running: tuple[Job, Runner], bearer: dict[str, str]
    ) -> None:
        job, runner = running
        async with socket(url, job, **bearer) as connection:
            await connection.send('{"after": 7}')
            await connection.send(b"\xff\x00")
            await in_thread(runner.events, "a")
            await in_thread(runner.finish)
            events, code, _ = await read(connection)
        assert numbers(events) == [1]
        assert code == 1000

    @pytest.mark.long
    async def test_an_idle_connection_stays_open_for_30_s(
        self, url: str, running: tuple[Job, Runner], bearer: dict[str, str]
    ) -> None:
        job, runner = running
        async with socket(url, job, **bearer) as connection:
            await in_thread(runner.events, "before")
            await asyncio.sleep(31)
            await in_thread(runner.events, "after")
            await in_thread(runner.finish)
            events, code, _ = await read(connection)
        assert numbers(events) == [1, 2]
        assert code == 1000


class TestAccess:
    @pytest.mark.parametrize("after", ["-1", "x", "1e3", "9" * 30, "\u0663"])
    async def test_an_invalid_event_number(
        self, url: str, running: tuple[Job, Runner], bearer: dict[str, str], after: str
    ) -> None:
        events, code, reason = await watch(url, running[0], f"?after={after}", **bearer)
        assert (events, code) == ([], 4400)
        assert reason.startswith("after: ")

    async def test_without_a_credential(self, url: str, running: tuple[Job, Runner]) -> None:
        assert (await watch(url, running[0]))[:2] == ([], 4401)

    @pytest.mark.parametrize("header", ["Bearer mctb_wrong", "Bearer ", "Basic abc"])
    async def test_with_a_wrong_key(self, url: str, running: tuple[Job, Runner], header: str) -> None:
        assert (await watch(url, running[0], Authorization=header))[1] == 4401

    @pytest.mark.parametrize("field", ["expires_at", "revoked_at"])
    async def test_with_a_revoked_or_expired_key(
        self, url: str, running: tuple[Job, Runner], tenant: Tenant, field: str
    ) -> None:
        row, key = await in_thread(ApiKey.create, tenant, "old")
        await in_thread(ApiKey.objects.filter(pk=row.pk).update, **{field: Now()})
        assert (await watch(url, running[0], Authorization=f"Bearer {key}"))[1] == 4401

    @pytest.mark.parametrize("over", [False, True])
    async def test_a_job_of_another_tenant_is_unknown_before_and_after_its_end(
        self, url: str, running: tuple[Job, Runner], over: bool
    ) -> None:
        if over:
            await ended(running)
        stranger = (await in_thread(ApiKey.create, await in_thread(make_tenant, "other"), "x"))[1]
        events, code, reason = await watch(url, running[0], Authorization=f"Bearer {stranger}")
        assert (events, code) == ([], 4404)
        async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=20) as client:
            path = f"/api/v1/jobs/{running[0].public_id}/stream"
            assert (await client.get(path, headers={"Authorization": f"Bearer {stranger}"})).status_code == 404
        assert (await watch(url, "job_no_such", Authorization=f"Bearer {stranger}"))[2] == reason

    async def test_an_unknown_path(self, url: str) -> None:
        with pytest.raises(InvalidStatus) as refused:
            async with socket(url, "x/y"):
                pass
        assert refused.value.response.status_code == 403


class TestSession:
    async def test_the_page_of_a_member(self, url: str, running: tuple[Job, Runner], tenant: Tenant) -> None:
        job = await ended(running)
        user = await in_thread(make_member, tenant, "ann", Role.VIEWER)
        cookie = await in_thread(session_cookie, user)
        events, code, _ = await watch(url, job, Cookie=cookie, Origin=url)
        assert (numbers(events), code) == ([1, 2, 3], 1000)

    @pytest.mark.parametrize(
        "origin",
        ["http://evil.example", "null", "", "http://127.0.0.1:1", "https://127.0.0.1", "http://127.0.0.1.evil.example"],
    )
    async def test_a_page_of_another_origin(
        self, url: str, running: tuple[Job, Runner], tenant: Tenant, origin: str
    ) -> None:
        user = await in_thread(make_member, tenant, "ann")
        cookie = await in_thread(session_cookie, user)
        assert (await watch(url, running[0], Cookie=cookie, Origin=origin))[:2] == ([], 4403)

    async def test_a_foreign_name_that_resolves_here_is_refused(
        self, url: str, running: tuple[Job, Runner], tenant: Tenant, bearer: dict[str, str]
    ) -> None:
        # DNS rebinding: the attacker's own name, for both the page and the connection.
        host = f"evil.example:{url.rpartition(':')[2]}"
        assert (await watch(url, running[0], Host=host, Origin=f"http://{host}", **bearer))[1] == 4403

    async def test_a_cookie_without_an_origin_is_refused(
        self, url: str, running: tuple[Job, Runner], tenant: Tenant
    ) -> None:
        cookie = await in_thread(session_cookie, await in_thread(make_member, tenant, "ann"))
        assert (await watch(url, running[0], Cookie=cookie))[1] == 4403

    async def test_a_member_of_another_tenant(self, url: str, running: tuple[Job, Runner]) -> None:
        user = await in_thread(make_member, await in_thread(make_tenant, "other"), "eve")
        cookie = await in_thread(session_cookie, user)
        assert (await watch(url, running[0], Cookie=cookie, Origin=url))[1] == 4404

    async def test_a_user_without_a_tenant(self, url: str, running: tuple[Job, Runner]) -> None:
        user = await in_thread(User.objects.create_user, "nobody")
        cookie = await in_thread(session_cookie, user)
        assert (await watch(url, running[0], Cookie=cookie, Origin=url))[1] == 4401

    @pytest.mark.parametrize("cookie", ["sessionid=forged", "sessionid=", "=;;", "other=1"])
    async def test_an_invalid_cookie(self, url: str, running: tuple[Job, Runner], cookie: str) -> None:
        assert (await watch(url, running[0], Cookie=cookie, Origin=url))[1] == 4401

    async def test_a_user_of_several_tenants(self, url: str, running: tuple[Job, Runner], tenant: Tenant) -> None:
        job = await ended(running)
        user = await in_thread(make_member, await in_thread(make_tenant, "other"), "ann")
        await in_thread(Member.objects.create, tenant=tenant, user=user, role=Role.VIEWER)
        cookie = await in_thread(session_cookie, user)
        assert (await watch(url, job, Cookie=cookie, Origin=url))[1] == 1000


class TestTicket:
    async def ticket(self, api: Api, job: Job) -> str:
        answer = await in_thread(api.post, f"/jobs/{job.public_id}/ticket")
        assert answer.status_code == 200
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.json()["expires_in_s"] == access.TICKET_LIFE_S
        return str(answer.json()["ticket"])

    async def test_it_opens_the_job_for_a_viewer(self, url: str, running: tuple[Job, Runner], tenant: Tenant) -> None:
        job = await ended(running)
        ticket = await self.ticket(await in_thread(Api.of, tenant, Role.VIEWER), job)
        assert numbers((await watch(url, job, f"?ticket={ticket}"))[0]) == [1, 2, 3]

    async def test_it_does_not_contain_the_session(self, url: str, running: tuple[Job, Runner], tenant: Tenant) -> None:
        job = await ended(running)
        api = await in_thread(Api.session, await in_thread(make_member, tenant, "ann"))
        ticket = await self.ticket(api, job)
        session = api.http.cookies["sessionid"].value
        assert session not in str(signing.loads(ticket, salt="jobs.stream-ticket"))
        assert numbers((await watch(url, job, f"?ticket={ticket}"))[0]) == [1, 2, 3]

    async def test_it_ends_with_its_key(self, url: str, running: tuple[Job, Runner], tenant: Tenant) -> None:
        ticket = await self.ticket(await in_thread(Api.of, tenant), running[0])
        await in_thread(ApiKey.objects.update, revoked_at=Now())
        assert (await watch(url, running[0], f"?ticket={ticket}"))[:2] == ([], 4401)

    async def test_it_is_refused_for_another_job(self, url: str, running: tuple[Job, Runner], tenant: Tenant) -> None:
        ticket = await self.ticket(await in_thread(Api.of, tenant), running[0])
        other = await in_thread(make_job, tenant)
        assert (await watch(url, other, f"?ticket={ticket}"))[1] == 4401

    async def test_it_expires(
        self, url: str, running: tuple[Job, Runner], tenant: Tenant, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ticket = await self.ticket(await in_thread(Api.of, tenant), running[0])
        monkeypatch.setattr(access, "TICKET_LIFE_S", 0)
        events, code, reason = await watch(url, running[0], f"?ticket={ticket}")
        assert (events, code) == ([], 4401)
        assert "expired" in reason

    @pytest.mark.parametrize("ticket", ["", "x", "a:b:c"])
    async def test_a_forged_ticket(self, url: str, running: tuple[Job, Runner], ticket: str) -> None:
        assert (await watch(url, running[0], f"?ticket={ticket}"))[1] == 4401

    async def test_a_ticket_signed_with_another_key(
        self, url: str, running: tuple[Job, Runner], tenant: Tenant
    ) -> None:
        content = {"job": running[0].public_id, "tenant_id": tenant.pk, "api_key_id": 1}
        forged = signing.dumps(content, key="another", salt="jobs.stream-ticket")
        assert (await watch(url, running[0], f"?ticket={forged}"))[1] == 4401

    async def test_no_ticket_for_a_job_of_another_tenant(self, running: tuple[Job, Runner]) -> None:
        api = await in_thread(Api.of, await in_thread(make_tenant, "other"))
        answer = await in_thread(api.post, f"/jobs/{running[0].public_id}/ticket")
        assert answer.status_code == 404


async def test_accesses_are_checked_together_and_stay_valid_without_the_database(
    url: str, running: tuple[Job, Runner], bearer: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access, "CHECK_EVERY_S", 0.1)
    asked: list[int] = []

    def away(accesses: set[access.WatchAccess]) -> set[access.WatchAccess]:
        asked.append(len(accesses))
        raise OperationalError("the server closed the connection unexpectedly")

    monkeypatch.setattr(access, "still_allowed", away)
    job, runner = running
    viewers = [asyncio.create_task(watch(url, job, **bearer)) for _ in range(10)]
    await until(lambda: len(asked) > 3)
    await in_thread(runner.events, "a")
    await in_thread(runner.finish)
    assert [(numbers(events), code) for events, code, _ in await asyncio.gather(*viewers)] == [([1], 1000)] * 10
    assert set(asked) == {1}


class TestOpenStreams:
    @pytest.fixture(autouse=True)
    def _check_often(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(access, "CHECK_EVERY_S", 0.1)

    async def test_a_revoked_key_ends_the_stream(self, url: str, running: tuple[Job, Runner], tenant: Tenant) -> None:
        job, runner = running
        row, key = await in_thread(ApiKey.create, tenant, "soon gone")
        async with socket(url, job, Authorization=f"Bearer {key}") as connection:
            await in_thread(runner.events, "seen")
            assert "seen" in str(await connection.recv())
            await in_thread(ApiKey.objects.filter(pk=row.pk).update, revoked_at=Now())
            await asyncio.sleep(ASKED_S)
            await in_thread(runner.events, "not for you")
            events, code, _ = await read(connection)
        assert (events, code) == ([], 4403)

    @pytest.mark.parametrize("change", ["leaves", "logs out", "is switched off", "tenant"])
    async def test_a_member_without_access_ends_the_stream(
        self, url: str, running: tuple[Job, Runner], tenant: Tenant, change: str
    ) -> None:
        job, runner = running
        user = await in_thread(make_member, tenant, "ann")
        cookie = await in_thread(session_cookie, user)
        changes: dict[str, Any] = {
            "leaves": Member.objects.filter(user=user).delete,
            "logs out": lambda: access._sessions(cookie.partition("=")[2]).delete(),
            "is switched off": lambda: User.objects.filter(pk=user.pk).update(is_active=False),
            "tenant": lambda: Tenant.objects.filter(pk=tenant.pk).update(is_active=False),
        }
        async with socket(url, job, Cookie=cookie, Origin=url) as connection:
            await in_thread(runner.events, "seen")
            assert "seen" in str(await connection.recv())
            await in_thread(changes[change])
            await asyncio.sleep(ASKED_S)
            await in_thread(runner.events, "not for you")
            assert (await read(connection))[:2] == ([], 4403)

    async def test_sse_ends_too_and_a_reconnect_is_refused(
        self, url: str, running: tuple[Job, Runner], tenant: Tenant
    ) -> None:
        job, runner = running
        row, key = await in_thread(ApiKey.create, tenant, "soon gone")
        headers = {"Authorization": f"Bearer {key}"}
        async with httpx.AsyncClient(base_url=f"{url}/api/v1", headers=headers, trust_env=False, timeout=20) as client:
            async with client.stream("GET", f"/jobs/{job.public_id}/stream") as stream:
                lines = stream.aiter_lines()
                await in_thread(runner.events, "seen")
                while "seen" not in await anext(lines):
                    pass
                await in_thread(ApiKey.objects.filter(pk=row.pk).update, revoked_at=Now())
                await asyncio.sleep(ASKED_S)
                await in_thread(runner.events, "not for you")
                assert not [line async for line in lines if "not for you" in line or "event: end" in line]
            assert (await client.get(f"/jobs/{job.public_id}/stream")).status_code == 401

    async def test_a_job_that_is_deleted_is_unknown(
        self, url: str, running: tuple[Job, Runner], bearer: dict[str, str]
    ) -> None:
        job, runner = running
        async with socket(url, job, **bearer) as connection:
            await in_thread(runner.events, "seen")
            await connection.recv()
            await in_thread(job.delete)
            assert (await read(connection))[:2] == ([], 4404)


async def test_a_leaving_viewer_leaves_no_resources(
    url: str, running: tuple[Job, Runner], bearer: dict[str, str]
) -> None:
    from jobs.streaming.hub import hub
    from jobs.streaming.publisher import channel_layer

    job, runner = running
    async with socket(url, job, **bearer) as connection, socket(url, job, **bearer):
        await in_thread(runner.events, "first")
        await connection.recv()
        layer = channel_layer()._get_layer()  # type: ignore[attr-defined]  # the layer of this event loop
        assert (len(layer.channels), len(layer.groups), hub().watched) == (1, 1, 1)
    await until(lambda: not layer.channels and not layer.groups and not hub().watched)
