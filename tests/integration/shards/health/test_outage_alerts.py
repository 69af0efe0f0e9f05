"""Alerts about outages that are over when the checks run again."""

from __future__ import annotations

from datetime import timedelta

import httpx
import pytest
from django.db.models import F
from django.db.models.functions import Now

from shards.health import monitor
from shards.health.monitor import check_reachability
from shards.health.reachability import Reachability
from shards.models import ReachabilityRecord, Shard
from shards.monitoring.alerts import alert_once
from shards.monitoring.models import Alert
from shards.tasks import watch_task

pytestmark = pytest.mark.django_db


def pass_time(*, seconds: float = 0, minutes: float = 0) -> None:
    """Move the memory of all checks into the past, as if none had run since."""
    ago = timedelta(seconds=seconds, minutes=minutes)
    moved = {name: F(name) - ago for name in ("since", "checked_at", "unreachable_since")}
    ReachabilityRecord.objects.update(**moved)


def heard(shard: Shard, *, steady_minutes: float) -> None:
    since = Now() - timedelta(minutes=steady_minutes)
    Shard.objects.filter(pk=shard.pk).update(last_heartbeat_at=Now(), steady_since=since)


def silent(shard: Shard) -> None:
    Shard.objects.filter(pk=shard.pk).update(last_heartbeat_at=Now() - timedelta(hours=1))


def kinds() -> list[str]:
    return list(Alert.objects.order_by("pk").values_list("kind", flat=True))


def test_no_outage_is_no_alert(shard: Shard) -> None:
    for _ in range(3):
        watch_task()
        pass_time(seconds=9)
    assert kinds() == []


@pytest.mark.parametrize(
    ("minutes", "alerts"), [(1.9, []), (2, ["beat.silent"]), (9.9, ["beat.silent"]), (10, ["control.away"])]
)
@pytest.mark.parametrize("has_shard", [True, False])
def test_checks_that_stopped_alert_once_when_they_run_again(minutes: float, alerts: list[str], has_shard: bool) -> None:
    if has_shard:
        Shard.objects.create(name="one", capabilities=["git"], is_active=True)
    watch_task()
    pass_time(minutes=minutes)
    for _ in range(3):
        watch_task()
    assert kinds() == alerts


def test_the_alert_has_start_end_and_duration(shard: Shard) -> None:
    silent_since = check_reachability().since
    pass_time(minutes=14.5)
    record = ReachabilityRecord.objects.get()
    watch_task()
    over = ReachabilityRecord.objects.get().checked_at
    alert = Alert.objects.get()
    assert alert.subject == "The control plane was away for 14 min"
    assert f"From {record.checked_at:%F %T} to {over:%F %T} UTC" in alert.text
    assert over >= silent_since


def test_shards_that_reported_all_the_time_show_that_only_the_checks_stopped(shard: Shard) -> None:
    watch_task()
    pass_time(minutes=30)
    heard(shard, steady_minutes=60)
    watch_task()
    (alert,) = Alert.objects.all()
    assert (alert.kind, alert.subject) == ("beat.silent", "Periodic tasks did not run for 30 min")


@pytest.mark.parametrize(("minutes", "alerts"), [(9.9, []), (10, ["control.away"])])
def test_a_web_process_that_answers_again_after_a_long_time_alerts_once(
    shard: Shard, monkeypatch: pytest.MonkeyPatch, minutes: float, alerts: list[str]
) -> None:
    silent(shard)
    answers = [False]

    def get(url: str, **_: object) -> httpx.Response:
        if not answers[0]:
            raise httpx.ConnectError("refused")
        return httpx.Response(200)

    monkeypatch.setattr(httpx, "get", get)
    check_reachability()
    assert check_reachability().unreachable_since is not None
    # The checks continued during the outage.
    ago = timedelta(minutes=minutes)
    ReachabilityRecord.objects.update(unreachable_since=F("unreachable_since") - ago)
    answers[0] = True
    for _ in range(3):
        check_reachability()
    assert kinds() == alerts


def test_two_outages_are_two_alerts(shard: Shard) -> None:
    # The database's clock does not move in a transaction, so only the duration tells them apart.
    for minutes in (12, 13):
        watch_task()
        pass_time(minutes=minutes)
        watch_task()
    assert kinds() == ["control.away", "control.away"]


def test_a_failure_to_store_the_alert_keeps_the_outage(shard: Shard, monkeypatch: pytest.MonkeyPatch) -> None:
    watch_task()
    pass_time(minutes=12)

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("PostgreSQL went away again")

    monkeypatch.setattr(monitor, "alert_once", fail)
    with pytest.raises(RuntimeError):
        check_reachability()
    monkeypatch.setattr(monitor, "alert_once", alert_once)
    result: Reachability = check_reachability()
    assert result.ended is not None
    assert kinds() == ["control.away"]
