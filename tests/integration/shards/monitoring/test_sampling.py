"""Samples of shards: storage, series and retention."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db.models.functions import Now

from myctobot.lib.clock import database_now
from shards.models import Shard
from shards.monitoring import retention
from shards.monitoring.alerts import alert
from shards.monitoring.models import Alert, ShardSample, StateChange
from shards.monitoring.retention import clean_up
from shards.monitoring.sampling import sample, series
from tests.factories.control_plane import JsonClient, make_shard
from tests.integration.shards.shard_api.test_heartbeat import REPORT

pytestmark = pytest.mark.django_db


def beat(key: str, **changes: Any) -> None:
    assert JsonClient(key).post("/shard/v1/heartbeat", {**REPORT, **changes}).status_code == 200


def add(shard: Shard, at: datetime, **values: Any) -> ShardSample:
    usual = {"cpu_percent": 10, "memory_mb": 100, "memory_total_mb": 1000, "disk_free_mb": 50, "running": 1, "slots": 2}
    return ShardSample.objects.create(shard=shard, at=at, state="ready", **{**usual, **values})


def test_a_sample_has_the_reported_values(shard: Shard, key: str) -> None:
    beat(key, slots=1, running=["job_a.1", "job_b.2"])
    assert sample() == 1
    row = ShardSample.objects.get()
    assert (row.state, row.cpu_percent, row.memory_mb, row.memory_total_mb) == ("ready", 12.5, 100, 1000)
    assert (row.disk_free_mb, row.running, row.slots) == (5000, 2, 1)
    assert row.at.second % 30 == row.at.microsecond == 0


def test_two_samples_of_one_moment_are_one(shard: Shard, key: str) -> None:
    beat(key)
    sample()
    ShardSample.objects.update(at=database_now())
    first = ShardSample.objects.get()
    sample()
    sample()
    assert ShardSample.objects.exclude(pk=first.pk).count() == 1


def test_a_silent_or_inactive_shard_has_no_sample(shard: Shard, key: str) -> None:
    beat(key)
    Shard.objects.update(last_heartbeat_at=Now() - timedelta(seconds=16))
    assert sample() == 0
    Shard.objects.update(last_heartbeat_at=Now(), is_active=False)
    assert sample() == 0


def test_a_shard_without_a_report_is_skipped(shard: Shard, key: str) -> None:
    beat(key)
    make_shard("new")
    assert sample() == 1


def test_false_values_of_one_shard_do_not_affect_others(shard: Shard, key: str) -> None:
    _, liar = make_shard("liar")
    most = 2**40
    beat(liar, memory_mb=most, memory_total_mb=most, disk_free_mb=most, cpu_percent=100_000, slots=64)
    beat(key)
    assert sample() == 2
    row = ShardSample.objects.get(shard__name="liar")
    assert (row.memory_mb, row.disk_free_mb, row.slots) == (2**31 - 1, 2**31 - 1, 2)


def test_a_series_is_averaged_in_the_database(shard: Shard) -> None:
    since = database_now() - timedelta(minutes=10)
    add(shard, since + timedelta(seconds=30), cpu_percent=10, running=0, disk_free_mb=90)
    add(shard, since + timedelta(seconds=90), cpu_percent=30, running=2, disk_free_mb=40)
    add(shard, since + timedelta(minutes=7), memory_mb=700, slots=4)
    other, _ = make_shard("other")
    add(other, since + timedelta(minutes=1), cpu_percent=99)
    add(shard, since - timedelta(minutes=1), cpu_percent=99)
    first, last = series(shard, since, 5)
    assert (first.at, first.cpu_percent, first.running, first.disk_free_mb) == (since, 20, 1, 40)
    assert (last.at - since, last.memory_mb, last.slots) == (timedelta(minutes=6), 700, 4)


@pytest.mark.parametrize(("points", "most"), [(-1, 1), (0, 1), (7, 7), (10**9, 120)])
def test_a_series_has_at_most_the_requested_and_sampled_points(shard: Shard, points: int, most: int) -> None:
    since = database_now() - timedelta(hours=1)
    for number in range(120):
        add(shard, since + timedelta(seconds=30 * number))
    assert len(series(shard, since, points)) == most


def test_a_series_that_begins_tomorrow_is_empty(shard: Shard) -> None:
    assert series(shard, database_now() + timedelta(days=1), 100) == []


def test_old_samples_go_batch_by_batch(shard: Shard, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "BATCH_SIZE", 3)
    settings.SHARD_SAMPLE_RETENTION_DAYS = 7
    now = database_now()
    for number in range(10):
        add(shard, now - timedelta(days=7, minutes=1 + number))
    kept = add(shard, now - timedelta(days=6, hours=23))
    assert clean_up() == 10
    assert list(ShardSample.objects.all()) == [kept]


def test_a_run_has_an_end(shard: Shard) -> None:
    add(shard, database_now() - timedelta(days=100))
    assert clean_up(run_for_s=0) == 0


def test_without_a_bound_samples_stay(shard: Shard, settings: Any) -> None:
    settings.SHARD_SAMPLE_RETENTION_DAYS = 0
    add(shard, datetime(2001, 1, 1, tzinfo=UTC))
    assert clean_up() == 0


def test_old_history_is_removed_but_undelivered_alerts_stay(shard: Shard) -> None:
    StateChange.objects.create(shard=shard, was="ready", state="suspect")
    StateChange.objects.update(at=Now() - timedelta(days=91))
    StateChange.objects.create(shard=shard, was="suspect", state="ready")
    for subject in ("delivered", "part", "undelivered"):
        alert("operation.failed", subject, "text")
    delivered = Alert.objects.get(subject="delivered")
    Alert.objects.exclude(subject="undelivered").update(ended_at=Now() - timedelta(days=91))
    Alert.objects.filter(subject="part").update(part_of=delivered)
    clean_up()
    assert StateChange.objects.get().state == "ready"
    assert Alert.objects.get().subject == "undelivered"
