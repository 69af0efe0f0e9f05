"""Drains and pauses from the admin."""

from __future__ import annotations

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.http import HttpResponse
from django.test import Client

from shards.models import Pool, Shard, Suspension
from tests.factories.control_plane import make_shard

pytestmark = pytest.mark.django_db


@pytest.fixture
def admin() -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("anna"))
    return client


def act(admin: Client, model: str, action: str, *rows: Shard | Pool, reason: str = "") -> str:
    """Run a bulk action on rows, and return the text of the next page."""
    data = {"action": action, "_selected_action": [row.pk for row in rows], "reason": reason}
    answer = admin.post(f"/admin/shards/{model}/", data, follow=True)
    assert isinstance(answer, HttpResponse)
    return answer.content.decode()


def test_a_shard_is_drained_with_who_and_why_and_resumed(admin: Client) -> None:
    shard, _ = make_shard("one")
    assert "Shard one is drained." in act(admin, "shard", "drain", shard, reason="new kernel")
    shard.refresh_from_db()
    suspension = Suspension.objects.get()
    assert (shard.state, suspension.suspended_by, suspension.reason) == ("draining", "anna", "new kernel")
    assert "drained: new kernel" in LogEntry.objects.get().change_message
    assert "Shard one is resumed." in act(admin, "shard", "resume", shard)
    shard.refresh_from_db()
    suspension.refresh_from_db()
    assert (shard.state, suspension.resumed_by) == ("ready", "anna")


def test_without_a_reason_nothing_is_done(admin: Client) -> None:
    shard, _ = make_shard("one")
    assert "Shard one: Give a reason" in act(admin, "shard", "drain", shard)
    assert not Suspension.objects.exists()
    assert not LogEntry.objects.exists()


def test_a_refused_row_does_not_stop_the_others(admin: Client) -> None:
    one, _ = make_shard("one")
    two, _ = make_shard("two")
    act(admin, "shard", "drain", one, reason="first")
    page = act(admin, "shard", "drain", one, two, reason="second")
    assert "Shard one is already suspended by anna: first" in page
    assert "Shard two is drained." in page


def test_a_class_is_paused_once_for_all_its_shards(admin: Client) -> None:
    one, _ = make_shard("one")
    two, _ = make_shard("two")
    assert "with its whole class." in act(admin, "shard", "pause_classes", one, two, reason="bad image")
    assert Suspension.objects.get().shard_class == one.shard_class
    act(admin, "shard", "resume_classes", two)
    assert Suspension.objects.get().resumed_by == "anna"


def test_a_pool_is_paused_and_resumed(admin: Client) -> None:
    make_shard("one", pool="premium")
    pool = Pool.objects.get()
    assert "is paused." in act(admin, "pool", "pause_pools", pool, reason="audit")
    assert "is already suspended by anna: audit" in act(admin, "pool", "pause_pools", pool, reason="again")
    assert "is resumed." in act(admin, "pool", "resume_pools", pool)
    assert "is not paused." in act(admin, "pool", "resume_pools", pool)


def test_staff_with_view_permission_cannot_drain() -> None:
    shard, _ = make_shard("one")
    user = User.objects.create_user("viewer", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_shard"))
    client = Client()
    client.force_login(user)
    assert "Drain: finish jobs, take no new ones" not in client.get("/admin/shards/shard/").content.decode()
    act(client, "shard", "drain", shard, reason="mischief")
    assert not Suspension.objects.exists()
