"""Alerts about shards whose workers report that the broker refuses them."""

from __future__ import annotations

from typing import cast

import pytest
from django.db import DatabaseError
from django.db.models.functions import Now

from myctobot.contract.shards import HeartbeatRequest
from myctobot.lib.crypto import digest
from shards.health import heartbeats
from shards.models import Shard, ShardState
from shards.monitoring.alert_rules import GATHER_FOR, REPEAT_AFTER
from shards.monitoring.models import Alert
from tests.factories.control_plane import make_shard
from tests.integration.shards.shard_api.test_heartbeat import REPORT, beat

pytestmark = pytest.mark.django_db
PROBLEMS = ["login_refused", "queues_refused"]


@pytest.mark.parametrize("problem", PROBLEMS)
def test_a_refused_shard_alerts_once(key: str, shard: Shard, problem: str) -> None:
    for _ in range(3):
        assert beat(key, broker_problem=problem).status_code == 200
    alert = Alert.objects.get()
    assert (alert.kind, alert.subject, alert.count) == ("shard.broker_refused", "The broker refuses shard one", 1)
    shard.refresh_from_db()
    assert shard.report == {**REPORT, "broker_problem": problem}


def test_a_report_without_the_field_is_no_problem(key: str, shard: Shard) -> None:
    beat(key)
    assert not Alert.objects.exists()


def test_each_outage_alerts_and_each_shard(key: str) -> None:
    _, other = make_shard("two")
    for problem in ("login_refused", None, "queues_refused"):
        for shard_key in (key, other):
            beat(shard_key, **({} if problem is None else {"broker_problem": problem}))
    assert [(alert.key, alert.count) for alert in Alert.objects.order_by("key")] == [
        ("shard.broker_refused one", 2),
        ("shard.broker_refused two", 2),
    ]


def test_a_shard_that_lies_causes_one_message_in_ten_minutes(key: str, shard: Shard) -> None:
    for _ in range(20):
        beat(key, broker_problem="login_refused")
        # What is due is delivered at once.
        Alert.objects.filter(ready_at__lte=Now() + GATHER_FOR).update(tries=1, ended_at=Now())
        beat(key)
    first, second = Alert.objects.order_by("pk")
    assert (first.count, second.count) == (1, 19)
    assert second.ready_at - first.ready_at == REPEAT_AFTER


@pytest.mark.parametrize(
    ("state", "is_active", "alerts"),
    [
        (ShardState.READY, True, 1),
        (ShardState.SUSPECT, True, 1),
        (ShardState.LOST, True, 1),
        (ShardState.DRAINING, True, 1),
        (ShardState.READY, False, 0),
        (ShardState.PROVISIONING, True, 0),
        (ShardState.STOPPED, True, 0),
        (ShardState.GONE, True, 0),
    ],
)
def test_only_a_shard_that_should_work_alerts(state: ShardState, is_active: bool, alerts: int) -> None:
    shard, key = make_shard("two", state=state, heard=False)
    Shard.objects.filter(pk=shard.pk).update(is_active=is_active)
    beat(key, broker_problem="login_refused")
    assert Alert.objects.filter(kind="shard.broker_refused").count() == alerts


def test_a_report_whose_alert_was_not_stored_is_not_stored(
    key: str, shard: Shard, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise DatabaseError("the server closed the connection")

    report = cast(HeartbeatRequest, {**REPORT, "broker_problem": "login_refused"})
    with monkeypatch.context() as patched:
        patched.setattr(heartbeats, "alert_refused_by_broker", fail)
        with pytest.raises(DatabaseError):
            heartbeats.heartbeat(digest(key), report)
    shard.refresh_from_db()
    assert shard.report == {}
    beat(key, broker_problem="login_refused")
    assert Alert.objects.get().kind == "shard.broker_refused"
