"""Warm spares: concurrent callers never get the same one."""

from __future__ import annotations

from threading import Barrier, Thread
from typing import Any

import pytest
from django.db import connection
from django.db.models.functions import Now

from shards.autoscaling import warm_spares
from shards.autoscaling.warm_spares import activate
from shards.lifecycle.suspensions import drain
from shards.models import Pool, PoolMode, Shard
from shards.monitoring.models import StateChange
from tests.factories.control_plane import make_shard

pytestmark = pytest.mark.django_db


def make_spare(name: str) -> Shard:
    shard = make_shard(name, pool="blue")[0]
    Shard.objects.filter(pk=shard.pk).update(is_spare=True)
    return shard


def blue() -> Pool:
    return Pool.objects.get_or_create(name="blue")[0]


def test_the_oldest_is_taken_and_it_is_none_any_more() -> None:
    first, second = make_spare("one"), make_spare("two")
    Shard.objects.filter(pk=second.pk).update(state_since=Now())
    assert activate(blue(), reason="two jobs wait") == first
    first.refresh_from_db()
    assert not first.is_spare
    assert StateChange.objects.get().reason == "Warm spare activated: two jobs wait"
    assert activate(blue(), reason="r") == second
    assert activate(blue(), reason="r") is None


UNFIT: dict[str, dict[str, Any]] = {
    "of another pool": {"pool": None},
    "that is switched off": {"is_active": False},
    "that is silent": {"last_heartbeat_at": None},
    "that is not ready": {"state": "provisioning"},
    "that is none": {"is_spare": False},
}


@pytest.mark.parametrize("why", UNFIT)
def test_nothing_is_activated(why: str) -> None:
    shard = make_spare("one")
    Shard.objects.filter(pk=shard.pk).update(**UNFIT[why])
    assert activate(blue(), reason="r") is None


def test_a_drained_spare_is_not_activated() -> None:
    make_spare("one")
    drain("one", by="ada", reason="disk")
    assert activate(blue(), reason="r") is None


def test_a_used_spare_of_an_ephemeral_pool_is_not_activated() -> None:
    make_spare("one")
    Shard.objects.update(is_used=True)
    Pool.objects.update(mode=PoolMode.EPHEMERAL)
    assert activate(blue(), reason="r") is None
    Pool.objects.update(mode=PoolMode.PERSISTENT)
    assert activate(blue(), reason="r") is not None


@pytest.mark.django_db(transaction=True)
def test_its_worker_is_notified_after_the_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    notified: list[str] = []
    monkeypatch.setattr(warm_spares, "notify_activation", notified.append)
    make_spare("one")
    activate(blue(), reason="r")
    assert notified == ["one"]


@pytest.mark.django_db(transaction=True)
def test_concurrent_callers_get_different_spares() -> None:
    for number in range(4):
        make_spare(f"s{number}")
    start, got = Barrier(8), []

    def take() -> None:
        start.wait(10)
        # A caller that finds all rows locked tries again, like the next scaling pass.
        found = next((spare for _ in range(20) if (spare := activate(blue(), reason="r"))), None)
        got.append(found.name if found else None)
        connection.close()

    threads = [Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    names = [name for name in got if name is not None]
    assert sorted(names) == ["s0", "s1", "s2", "s3"]
