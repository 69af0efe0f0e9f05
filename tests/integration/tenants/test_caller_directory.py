"""Accounts of keys and sessions for the limits on calls."""

from __future__ import annotations

from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client

from myctobot.tenants.caller_directory import CallerCredentials, CallerDirectory
from myctobot.tenants.models import ApiKey, Member, Tenant
from tests.factories.control_plane import make_operator, make_tenant
from tests.factories.personas import Persona
from tests.factories.viewers import in_thread

pytestmark = [pytest.mark.anyio, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def directory() -> CallerDirectory:
    return CallerDirectory(settings.CALL_LIMITS)


def scope_of(*headers: tuple[bytes, bytes]) -> dict[str, Any]:
    return {"headers": list(headers)}


def log_in(user: User) -> str:
    browser = Client()
    browser.force_login(user)
    return str(browser.cookies[settings.SESSION_COOKIE_NAME].value)


async def accounts(directory: CallerDirectory, *headers: tuple[bytes, bytes]) -> tuple[str, str] | None:
    credentials = directory.credentials_of(scope_of(*headers))
    assert credentials is not None
    assert directory.known(credentials) is None
    found = await directory.find(credentials)
    assert directory.known(credentials) == found
    return (found.member.id, found.group.id) if found else None


async def test_a_key_counts_for_its_tenant(directory: CallerDirectory, tenant: Tenant) -> None:
    key, text = await in_thread(ApiKey.create, tenant, "k")
    header = (b"authorization", f"Bearer {text}".encode())
    assert await accounts(directory, header) == (f"key:{key.pk}", f"tenant:{tenant.pk}")


async def test_a_key_that_is_not_live_belongs_to_a_stranger(directory: CallerDirectory, tenant: Tenant) -> None:
    assert await accounts(directory, (b"authorization", b"Bearer mctb_wrong")) is None


def cookie(session: str) -> tuple[bytes, bytes]:
    return (b"cookie", f"a=b; {settings.SESSION_COOKIE_NAME}={session}".encode())


async def test_a_session_counts_for_the_chosen_tenant(directory: CallerDirectory, owner: Persona) -> None:
    other = await in_thread(make_tenant, "other")
    await in_thread(Member.objects.create, user=owner.user, tenant=other)
    session = await in_thread(log_in, owner.user)
    user = f"user:{owner.user.pk}"
    assert await accounts(directory, cookie(session)) == (user, f"tenant:{owner.tenant.pk}")
    assert await accounts(directory, cookie(session), (b"myctobot-tenant", b"other")) == (user, f"tenant:{other.pk}")


async def test_an_operator_without_a_tenant_counts_alone(directory: CallerDirectory) -> None:
    operator = await in_thread(make_operator)
    user = f"user:{operator.pk}"
    assert await accounts(directory, cookie(await in_thread(log_in, operator))) == (user, f"alone:{user}")


async def test_an_unknown_session_belongs_to_a_stranger(directory: CallerDirectory) -> None:
    assert await accounts(directory, cookie("nonsense")) is None


@pytest.mark.parametrize("headers", [[], [(b"cookie", b"a=b")], [(b"authorization", b"Basic x")]])
def test_a_call_without_credentials(directory: CallerDirectory, headers: list[tuple[bytes, bytes]]) -> None:
    assert directory.credentials_of(scope_of(*headers)) is None


def test_secrets_are_not_kept(directory: CallerDirectory) -> None:
    assert directory.known(CallerCredentials(True, "mctb_secret")) is None
    assert "mctb_secret" not in repr(vars(directory))
