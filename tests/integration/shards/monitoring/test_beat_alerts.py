"""Alerts of a web process about periodic tasks that do not run."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import DatabaseError
from django.db.models import F
from django.db.models.functions import Now

from shards.models import ReachabilityRecord
from shards.models.reachability import SHARDS_MONITOR
from shards.monitoring import beat_alerts
from shards.monitoring.beat_alerts import BEAT_SILENT_AFTER, BeatWatch
from shards.monitoring.models import Alert
from shards.tasks import watch_task

pytestmark = pytest.mark.django_db
SILENT_S = BEAT_SILENT_AFTER.total_seconds()
STEP_S = 10.0


class Web:
    """Web process whose clock a test moves; the checks of shards are ``silent_s`` old at each step."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.watch = BeatWatch(lambda: self.now_s)
        self.watch.check()

    def run(self, seconds: float) -> None:
        end_s = self.now_s + seconds
        while self.now_s < end_s:
            self.now_s += STEP_S
            self.watch.check()


def last_check(seconds_ago: float) -> None:
    at = Now() - timedelta(seconds=seconds_ago)
    ReachabilityRecord.objects.update_or_create(monitor=SHARDS_MONITOR, defaults={"since": at, "checked_at": at})


def pass_time(seconds: float) -> None:
    ago = timedelta(seconds=seconds)
    moved = {name: F(name) - ago for name in ("created_at", "ready_at", "due_at")}
    Alert.objects.update(**moved)


@pytest.mark.parametrize(("seconds_ago", "alerts"), [(0, 0), (SILENT_S - 10, 0), (SILENT_S + 1, 1), (90_000, 1)])
def test_a_silence_of_two_minutes_alerts_once(seconds_ago: float, alerts: int) -> None:
    last_check(seconds_ago)
    Web().run(3 * SILENT_S)
    assert [alert.count for alert in Alert.objects.filter(kind="beat.silent")] == [1] * alerts


def test_a_web_process_that_starts_sees_two_minutes_itself_before_it_alerts() -> None:
    last_check(90_000)
    web = Web()
    web.run(SILENT_S - STEP_S)
    assert not Alert.objects.exists()
    web.run(STEP_S)
    assert Alert.objects.get().subject == "Periodic tasks do not run"


def test_an_installation_without_any_check_has_no_silence() -> None:
    ReachabilityRecord.objects.create(monitor="runners", since=Now(), checked_at=Now() - timedelta(days=1))
    Web().run(3 * SILENT_S)
    assert not Alert.objects.exists()


def test_it_delivers_while_no_task_does() -> None:
    last_check(SILENT_S + 1)
    web = Web()
    web.run(SILENT_S)
    pass_time(60)
    assert Alert.objects.get().ended_at is None
    web.run(STEP_S)
    assert Alert.objects.get().ended_at is not None


def test_it_leaves_the_delivery_to_the_tasks_that_run() -> None:
    Alert.objects.create(key="other", kind="shard.lost", subject="lost", text="", ready_at=Now(), due_at=Now())
    last_check(0)
    pass_time(60)
    Web().run(2 * SILENT_S)
    assert Alert.objects.get().ended_at is None


def test_several_web_processes_and_the_next_check_alert_once() -> None:
    last_check(SILENT_S + 1)
    for web in (Web(), Web()):
        web.run(2 * SILENT_S)
    watch_task()
    assert Alert.objects.get().kind == "beat.silent"


def test_each_silence_alerts() -> None:
    web = Web()
    for seconds_ago in (SILENT_S + 1, SILENT_S + 2):
        last_check(seconds_ago)
        web.run(2 * SILENT_S)
    assert Alert.objects.count() == 2


def test_a_suspended_machine_is_no_silence_at_once() -> None:
    web = Web()
    web.run(2 * SILENT_S)
    last_check(90_000)
    web.now_s += 90_000
    web.run(SILENT_S - STEP_S)
    assert not Alert.objects.exists()


def test_an_outage_of_the_database_is_no_silence_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    web = Web()
    web.run(SILENT_S)
    last_check(90_000)

    def refuse() -> None:
        raise DatabaseError("the server closed the connection")

    with monkeypatch.context() as patched:
        patched.setattr(beat_alerts, "_silent_since", refuse)
        with pytest.raises(DatabaseError):
            web.run(STEP_S)
    web.run(SILENT_S)
    assert not Alert.objects.exists()
    web.run(STEP_S)
    assert Alert.objects.get().kind == "beat.silent"
