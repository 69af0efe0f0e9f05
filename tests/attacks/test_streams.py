"""Streams and tickets that outlive the session of their user, or the second factor that it has proved."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest
from django.contrib.auth.models import User
from django.core import signing

from jobs.models import Job
from jobs.streaming import access
from jobs.streaming.access import WatchAccess, by_session, by_ticket, still_allowed
from myctobot.accounts import second_factor
from myctobot.asgi import application
from myctobot.stack.serve import WEBSOCKETS
from myctobot.tenants.models import Tenant
from tests.factories.control_plane import Api, Runner, make_member, make_shard, make_tenant, running_job
from tests.factories.logins import add_app, prove
from tests.factories.viewers import in_thread, read, socket, until, watch
from tests.integration.gateway.conftest import served

pytestmark = [pytest.mark.anyio, pytest.mark.django_db(transaction=True)]


def log_out(api: Api) -> None:
    assert api.http.post("/logout/").status_code == 302


def change_password(api: Api) -> None:
    user = User.objects.get(username="ann")
    user.set_password("another-Pass-93")
    user.save()


def reset_second_factor(api: Api) -> None:
    assert second_factor.reset(User.objects.get(username="ann"), "root")


def replace_second_factor(api: Api) -> None:
    reset_second_factor(api)
    add_app(User.objects.get(username="ann"))


ENDS = [log_out, change_password, reset_second_factor, replace_second_factor]
End = Callable[[Api], None]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def tenant() -> Tenant:
    return make_tenant()


@pytest.fixture
def running(tenant: Tenant) -> tuple[Job, Runner]:
    return running_job(tenant, make_shard()[1])


@pytest.fixture
def ann(tenant: Tenant) -> Api:
    """Return a user whose session has proved a second factor."""
    user = make_member(tenant, "ann")
    api = Api.session(user)
    add_app(user)
    prove(api.http, user)
    return api


@pytest.fixture
async def url(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    monkeypatch.setattr(access, "CHECK_EVERY_S", 0.05)
    async with served(application, ws="auto", **WEBSOCKETS) as address:
        yield address


def make_ticket(api: Api, job: Job) -> str:
    return str(api.post(f"/jobs/{job.public_id}/ticket").json()["ticket"])


@pytest.mark.parametrize("end", ENDS)
async def test_a_stream_that_a_ticket_opened_ends(url: str, ann: Api, running: tuple[Job, Runner], end: End) -> None:
    job, runner = running
    ticket = await in_thread(make_ticket, ann, job)
    async with socket(url, job, f"?ticket={ticket}") as connection:
        await in_thread(runner.events, "seen")
        assert "seen" in str(await connection.recv())
        await in_thread(end, ann)
        # Another stream of the same access would be refused as soon as this one has been checked.
        await until(lambda: in_thread(lambda: by_ticket(ticket, job.public_id) is None))
        monitor = access.access_monitor()
        await until(lambda: bool(monitor._ended))
        await in_thread(runner.events, "not for you")
        events, code, _ = await read(connection)
    assert (events, code) == ([], 4403)


@pytest.mark.parametrize("end", ENDS)
async def test_a_ticket_opens_no_stream_afterwards(url: str, ann: Api, running: tuple[Job, Runner], end: End) -> None:
    ticket = await in_thread(make_ticket, ann, running[0])
    await in_thread(end, ann)
    assert (await watch(url, running[0], f"?ticket={ticket}"))[:2] == ([], 4401)


@pytest.mark.parametrize("end", ENDS)
def test_nor_does_a_session_stay_valid(ann: Api, running: tuple[Job, Runner], end: End) -> None:
    session = ann.http.cookies["sessionid"].value
    found = by_session(session, running[0].public_id)
    assert found is not None
    assert still_allowed([found]) == {found}
    end(ann)
    assert still_allowed([found]) == set()


def test_a_session_of_staff_ends_when_its_user_sets_up_a_second_factor(
    tenant: Tenant, running: tuple[Job, Runner]
) -> None:
    user = make_member(tenant, "bob")
    User.objects.filter(pk=user.pk).update(is_staff=True)
    api = Api.session(user)
    found = by_session(api.http.cookies["sessionid"].value, running[0].public_id)
    assert found is not None
    assert still_allowed([found]) == {found}
    add_app(user)
    assert still_allowed([found]) == set()


def test_a_user_without_a_session_has_no_access(ann: Api, tenant: Tenant, running: tuple[Job, Runner]) -> None:
    user = User.objects.get(username="ann")
    assert still_allowed([WatchAccess(tenant.pk, user_id=user.pk)]) == set()
    old = {"job": running[0].public_id, "tenant_id": tenant.pk, "api_key_id": None, "user_id": user.pk, "session": None}
    assert by_ticket(signing.dumps(old, salt="jobs.stream-ticket"), running[0].public_id) is None


def test_the_session_of_another_user_does_not_help(ann: Api, tenant: Tenant, running: tuple[Job, Runner]) -> None:
    eve = make_member(tenant, "eve")
    session = ann.http.cookies["sessionid"].value
    assert still_allowed([WatchAccess(tenant.pk, user_id=eve.pk, session=session)]) == set()


def test_a_ticket_shows_no_session_and_is_bound_to_its_job(ann: Api, running: tuple[Job, Runner]) -> None:
    ticket = make_ticket(ann, running[0])
    content = signing.loads(ticket, salt="jobs.stream-ticket")
    assert ann.http.cookies["sessionid"].value not in str(content)
    moved = signing.dumps({**content, "job": "job_other"}, salt="jobs.stream-ticket")
    assert by_ticket(moved, "job_other") is None
