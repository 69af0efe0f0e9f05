from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db.models.functions import Now

from shards.lifecycle.transitions import transition
from shards.models import Shard, ShardState, Suspension
from shards.monitoring.models import StateChange
from tests.factories.control_plane import JsonClient, error_of, make_shard
from tests.factories.samples import scrape

pytestmark = pytest.mark.django_db
REPORT: dict[str, Any] = {
    "version": "0.1.0",
    "capabilities": ["git", "filesystem"],
    "slots": 2,
    "running": ["job_x.1"],
    "cpu_percent": 12.5,
    "memory_mb": 100,
    "memory_total_mb": 1000,
    "disk_free_mb": 5000,
    "versions": {"claude": "2.1"},
}


def beat(key: str, **changes: Any) -> Any:
    return JsonClient(key).post("/shard/v1/heartbeat", {**REPORT, **changes})


def test_the_answer_names_the_shards_queues(key: str, shard: Shard) -> None:
    answer = beat(key).json()
    assert answer == {"shard": "one", "queues": ["cap.filesystem+git", "shard.one"], "orders": []}


def test_the_report_is_kept(key: str, shard: Shard) -> None:
    before = shard.last_heartbeat_at
    beat(key)
    shard.refresh_from_db()
    assert shard.report == REPORT
    assert before is not None
    assert shard.last_heartbeat_at is not None
    assert shard.last_heartbeat_at > before


@pytest.mark.parametrize("network", ["job", "shard"])
def test_the_network_of_the_agents_is_kept(key: str, shard: Shard, network: str) -> None:
    assert beat(key, network=network).status_code == 200
    shard.refresh_from_db()
    assert shard.report["network"] == network


def test_the_limits_that_a_shard_enforces_are_kept(key: str, shard: Shard) -> None:
    limits = {"memory": "watchdog", "processes": "user", "disk": "image"}
    assert beat(key, limits={**limits, "more": 1}).status_code == 200
    shard.refresh_from_db()
    assert shard.report == {**REPORT, "limits": limits}


def test_the_counts_of_dropped_messages_are_kept_and_exposed(key: str, shard: Shard) -> None:
    counts = {"not_json": 3, "too_large": 1}
    assert beat(key, dropped_messages={**counts, "made up": 5}).status_code == 200
    shard.refresh_from_db()
    assert shard.report["dropped_messages"] == counts
    exposed = scrape()["myctobot_shard_messages_dropped_total"]
    assert exposed == {(("reason", reason), ("shard", "one")): count for reason, count in counts.items()}


def test_a_worker_of_an_earlier_release_reports_no_limit_on_disk(key: str, shard: Shard) -> None:
    limits = {"memory": "watchdog", "processes": "user"}
    assert beat(key, limits=limits).status_code == 200
    shard.refresh_from_db()
    assert shard.report["limits"] == limits


@pytest.mark.parametrize(
    ("state", "is_active", "after", "orders"),
    [
        (ShardState.REQUESTED, True, ShardState.READY, []),
        (ShardState.STOPPED, True, ShardState.READY, []),
        (ShardState.READY, True, ShardState.READY, []),
        (ShardState.DRAINING, True, ShardState.DRAINING, ["drain"]),
        (ShardState.READY, False, ShardState.READY, ["drain"]),
        # It may claim jobs that were sent to it; the monitor makes it ready when it is steady.
        (ShardState.SUSPECT, True, ShardState.SUSPECT, []),
        (ShardState.LOST, True, ShardState.LOST, []),
        (ShardState.PROVISIONING, True, ShardState.PROVISIONING, ["drain"]),
        (ShardState.GONE, True, ShardState.GONE, ["drain"]),
    ],
)
def test_states_and_orders(state: ShardState, is_active: bool, after: ShardState, orders: list[str]) -> None:
    shard, key = make_shard("two", state=state, heard=False)
    Shard.objects.filter(pk=shard.pk).update(is_active=is_active)
    assert beat(key).json()["orders"] == orders
    shard.refresh_from_db()
    assert shard.state == after


def test_a_spare_takes_no_jobs_until_it_is_activated(key: str, shard: Shard) -> None:
    Shard.objects.update(is_spare=True)
    assert beat(key).json()["orders"] == ["drain"]
    Shard.objects.update(is_spare=False)
    assert beat(key).json()["orders"] == []


def test_an_unexpected_heartbeat_is_in_the_history() -> None:
    shard, key = make_shard("two", state=ShardState.REQUESTED, heard=False)
    for _ in range(3):
        beat(key)
    (change,) = StateChange.objects.filter(shard=shard)
    assert (change.was, change.state, change.reason) == ("requested", "ready", "first heartbeat")


def test_the_last_words_of_a_worker_that_is_stopped_do_not_wake_it(key: str, shard: Shard) -> None:
    transition(shard, ShardState.STOPPED, by="anna")
    assert beat(key).json()["orders"] == ["drain"]
    shard.refresh_from_db()
    assert shard.state == "stopped"
    Shard.objects.update(state_since=Now() - timedelta(seconds=16))
    assert beat(key).json()["orders"] == []
    shard.refresh_from_db()
    assert shard.state == "ready"


def test_a_drained_shard_that_is_started_continues_its_drain() -> None:
    shard, key = make_shard("two", state=ShardState.STOPPED, heard=False)
    Suspension.objects.create(shard=shard, suspended_by="anna", reason="kernel")
    assert beat(key).json()["orders"] == ["drain"]
    shard.refresh_from_db()
    assert shard.state == "draining"


@pytest.mark.parametrize("field", REPORT)
def test_every_field_is_required(key: str, shard: Shard, field: str) -> None:
    report = {name: value for name, value in REPORT.items() if name != field}
    response = JsonClient(key).post("/shard/v1/heartbeat", report)
    assert response.status_code == 400
    assert list(error_of(response)["fields"]) == [field]


@pytest.mark.parametrize(
    "change",
    [
        {"version": "x" * 41},
        {"version": "\ud800"},
        {"slots": 0},
        {"running": ["x" * 61]},
        {"running": ["x"] * 65},
        {"capabilities": "git"},
        {"cpu_percent": -1},
        {"memory_mb": "much"},
        {"versions": []},
        {"versions": {"a": "x" * 101}},
        {"versions": {"x" * 61: "a"}},
        {"versions": {str(number): "a" for number in range(21)}},
        {"cpu_percent": 100_001},
        {"cpu_percent": "nan"},
        {"cpu_percent": "inf"},
        {"memory_mb": 2**40 + 1},
        {"memory_total_mb": 2**40 + 1},
        {"disk_free_mb": 10**400},
        {"network": "host"},
        {"limits": "all"},
        {"limits": {"memory": "none"}},
        {"limits": {"memory": "none", "processes": "many"}},
        {"limits": {"memory": "none", "processes": "none", "disk": "some"}},
        {"ended": "job_x.1"},
        {"ended": ["x"] * 65},
        {"broker_problem": ""},
        {"broker_problem": "WRONGPASS invalid username-password pair"},
        {"broker_problem": ["login_refused"]},
        {"dropped_messages": [1]},
        {"dropped_messages": {"not_json": -1}},
        {"dropped_messages": {"not_json": "many"}},
    ],
    ids=lambda change: repr(change)[:24],
)
def test_a_malformed_report(key: str, shard: Shard, change: dict[str, Any]) -> None:
    assert beat(key, **change).status_code == 400
    shard.refresh_from_db()
    assert shard.report == {}


def test_a_report_with_hostile_names_is_cleaned(key: str, shard: Shard) -> None:
    assert beat(key, versions={"a\x00\ud800": "b"}).status_code == 200
    shard.refresh_from_db()
    assert shard.report["versions"] == {"a?": "b"}
