"""Queries that find due callbacks tenant by tenant and host by host."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from django.db import connection

from jobs.callbacks.due import MAX_HOSTS_IN_PASS, DueReader, adopt, lease
from jobs.callbacks.models import Callback
from jobs.callbacks.outbox import host_of
from jobs.callbacks.slots import MAX_OF_HOST
from myctobot.tenants.models import Tenant
from tests.factories.callbacks import make_callbacks
from tests.factories.control_plane import make_tenant

pytestmark = pytest.mark.django_db


def read(reader: DueReader) -> Counter[tuple[int, str]]:
    return Counter(callback.lane for callback in reader.read(lambda _: True))


def test_each_host_of_each_tenant_gives_a_few(tenant: Tenant) -> None:
    other = make_tenant("other")
    make_callbacks(tenant, ["https://a.example/"] * 50 + ["https://b.example/"] * 2)
    make_callbacks(other, ["https://a.example/"])
    a, b = "a.example:443", "b.example:443"
    assert read(DueReader()) == {(tenant.pk, a): MAX_OF_HOST, (tenant.pk, b): 2, (other.pk, a): 1}
    assert {callback.tenant_id for callback in DueReader().read(lambda pk: pk != tenant.pk)} == {other.pk}


def test_the_hosts_of_a_tenant_are_read_in_turns(tenant: Tenant) -> None:
    hosts = 2 * MAX_HOSTS_IN_PASS + 1
    make_callbacks(tenant, [f"https://h{number}.example/" for number in range(hosts)])
    reader, found = DueReader(), Counter[tuple[int, str]]()
    for _ in range(3):
        assert reader.is_complete is (not found)
        found += read(reader)
    assert reader.is_complete
    assert (len(found), set(found.values())) == (hosts, {1})


def test_callbacks_that_are_not_due_are_not_read(tenant: Tenant) -> None:
    make_callbacks(tenant, ["https://a.example/"], overdue_s=-60)
    make_callbacks(tenant, ["https://b.example/"])
    Callback.objects.filter(host="b.example:443").update(state="delivered")
    reader = DueReader()
    assert (read(reader), reader.is_complete) == ({}, True)


def test_a_callback_is_leased_once(tenant: Tenant) -> None:
    make_callbacks(tenant, ["https://a.example/"])
    due = DueReader().read(lambda _: True)
    (leased,) = lease(due)
    assert leased.tries == Callback.objects.get().tries == 1
    assert lease(due) == []
    assert DueReader().read(lambda _: True) == []


def test_rows_of_the_previous_release_get_their_tenant_and_host(tenant: Tenant) -> None:
    make_callbacks(tenant, ["https://a.example:8443/"])
    Callback.objects.update(tenant=None, host="")
    assert read(DueReader()) == {}
    adopt()
    assert read(DueReader()) == {(tenant.pk, "a.example:8443"): 1}


def test_the_cost_depends_on_hosts_and_not_on_callbacks(tenant: Tenant, django_assert_num_queries: Any) -> None:
    make_callbacks(tenant, ["https://a.example/"] * 300)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE jobs_callback")
    with django_assert_num_queries(2):
        assert read(DueReader()).total() == MAX_OF_HOST


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://Hooks.Example.com./x?y", "hooks.example.com:443"),
        ("https://hooks.example.com:443", "hooks.example.com:443"),
        ("https://hooks.example.com:8443/", "hooks.example.com:8443"),
        ("https://[2001:db8::1]/", "2001:db8::1:443"),
        ("https://example.com:x/", "-:443"),
        (f"https://{'x' * 400}.example/", "x" * 300),
    ],
)
def test_a_host_has_one_spelling(url: str, host: str) -> None:
    assert host_of(url) == host
