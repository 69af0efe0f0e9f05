"""Access to each operators' page for every kind of user."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest
from django.contrib.auth.models import User
from django.test import Client

from myctobot.tenants.models import ApiKey, Role, Tenant
from shards.models import Shard
from tests.factories.control_plane import make_member, make_operator, make_staff

pytestmark = pytest.mark.django_db
PAGES = ["/ops/", "/ops/queues/", "/ops/operations/", "/ops/decisions/", "/ops/shards/one/"]


def operator() -> Client:
    browser = Client()
    browser.force_login(make_operator())
    return browser


@pytest.mark.parametrize("page", PAGES)
def test_operators_need_no_membership(shard: Shard, page: str) -> None:
    answer = operator().get(page)
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "private, no-store"
    assert "default-src 'self'" in answer.headers["Content-Security-Policy"]


@pytest.mark.parametrize("page", PAGES)
def test_a_tenants_admin_is_refused_and_sees_no_shard(tenant: Tenant, shard: Shard, page: str) -> None:
    browser = Client()
    browser.force_login(make_member(tenant, "ann", Role.ADMIN))
    answer = browser.get(page)
    assert answer.status_code == 403
    assert b"filesystem+git" not in answer.content


@pytest.mark.parametrize("page", PAGES)
def test_who_is_not_logged_in_is_sent_there_and_back(shard: Shard, page: str) -> None:
    answer = Client().get(page)
    assert answer.status_code == 302
    assert parse_qs(urlsplit(answer.headers["Location"]).query) == {"next": [page]}


@pytest.mark.parametrize("page", PAGES)
def test_a_part_that_is_asked_for_after_the_logout_sends_the_window_to_the_login(shard: Shard, page: str) -> None:
    answer = Client().get(page, headers={"HX-Request": "true", "HX-Current-URL": f"https://evil.test{page}?state=lost"})
    assert answer.status_code == 401
    assert answer.headers["HX-Redirect"].startswith("/login/?next=%2Fops%2F")
    assert "evil" not in answer.headers["HX-Redirect"]


def test_a_key_of_a_tenant_opens_none_of_it(tenant: Tenant, shard: Shard) -> None:
    _, key = ApiKey.create(tenant, "ci", role=Role.ADMIN)
    for page in [*PAGES, "/ops/flower-auth"]:
        assert Client().get(page, headers={"Authorization": f"Bearer {key}"}).status_code in (302, 401)


@pytest.mark.parametrize("page", PAGES)
def test_pages_change_nothing(shard: Shard, page: str) -> None:
    assert operator().post(page).status_code == 405


def test_a_proxy_can_check_access_to_flower(tenant: Tenant) -> None:
    member = Client()
    member.force_login(make_member(tenant, "ann", Role.ADMIN))
    gone = make_operator("gone")
    left = Client()
    left.force_login(gone)
    User.objects.filter(pk=gone.pk).update(is_active=False)
    answers = [browser.get("/ops/flower-auth") for browser in (operator(), member, left, Client())]
    assert [answer.status_code for answer in answers] == [204, 401, 401, 401]
    assert all(answer.content == b"" and "no-store" in answer.headers["Cache-Control"] for answer in answers)


def test_only_operators_have_it_in_their_menu(tenant: Tenant) -> None:
    member = make_member(tenant, "ann")
    browser = Client()
    browser.force_login(member)
    assert b'href="/ops/"' not in browser.get("/jobs/").content
    User.objects.filter(pk=member.pk).update(is_staff=True)
    assert b'href="/ops/"' not in browser.get("/jobs/").content
    User.objects.filter(pk=member.pk).update(is_superuser=True)
    assert b'href="/ops/"' in browser.get("/jobs/").content


@pytest.mark.parametrize(
    ("permission", "title"),
    [("shards.view_operation", "Running operations"), ("shards.view_scalingdecision", "Scaling decisions")],
)
def test_the_overview_shows_the_sections_that_its_user_may_view(shard: Shard, permission: str, title: str) -> None:
    few, more = Client(), Client()
    few.force_login(make_staff("few", "shards.view_shard"))
    more.force_login(make_staff("more", "shards.view_shard", permission))
    for headers in ({}, {"HX-Request": "true"}):
        assert title not in few.get("/ops/", headers=headers).content.decode()
        assert title in more.get("/ops/", headers=headers).content.decode()
