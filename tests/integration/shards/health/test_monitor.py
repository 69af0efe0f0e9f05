"""Health monitor: shards that fall silent and return."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest
from django.db import close_old_connections, connection
from django.db.models import F, Q
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext

from myctobot.contract.limits import HEARTBEAT_EVERY_S
from myctobot.lib.clock import database_now
from shards.errors import WrongState
from shards.health import monitor as watching
from shards.health.monitor import check_reachability, watch
from shards.health.outage import MAX_GAP
from shards.health.reachability import Reachability, ReachabilityMonitor
from shards.health.rules import next_state
from shards.lifecycle.suspensions import drain, resume
from shards.lifecycle.transitions import transition
from shards.models import Pool, PoolMode, ReachabilityRecord, Shard, ShardState
from shards.monitoring.models import Alert, StateChange
from shards.operations.models import Operation, OperationKind
from tests.factories.control_plane import JsonClient, make_shard
from tests.integration.shards.shard_api.test_heartbeat import REPORT

pytestmark = pytest.mark.django_db
EVER = Reachability(datetime.fromisoformat("2020-01-01T00:00:00Z"))


def silent(shard: Shard, seconds: float) -> None:
    Shard.objects.filter(pk=shard.pk).update(last_heartbeat_at=Now() - timedelta(seconds=seconds))


def steady(shard: Shard, seconds: float) -> None:
    since = Now() - timedelta(seconds=seconds)
    Shard.objects.filter(pk=shard.pk).update(last_heartbeat_at=Now(), steady_since=since)


def state(shard: Shard) -> str:
    shard.refresh_from_db()
    return shard.state


def story(shard: Shard) -> list[tuple[str, str]]:
    return list(StateChange.objects.filter(shard=shard).order_by("pk").values_list("was", "state"))


def beat(key: str) -> dict[str, Any]:
    answer: dict[str, Any] = JsonClient(key).post("/shard/v1/heartbeat", REPORT).json()
    return answer


def test_a_silent_shard_is_suspect_and_then_lost(shard: Shard) -> None:
    silent(shard, 16)
    assert watch(EVER) == 1
    assert state(shard) == "suspect"
    assert shard.state_reason.startswith("Silent since ")
    silent(shard, 91)
    watch(EVER)
    assert state(shard) == "lost"
    assert watch(EVER) == 0
    assert story(shard) == [("ready", "suspect"), ("suspect", "lost")]


def test_a_returning_shard_has_to_be_steady_first(shard: Shard, key: str) -> None:
    silent(shard, 100)
    watch(EVER)
    watch(EVER)
    beat(key)
    watch(EVER)
    assert state(shard) == "suspect"
    watch(EVER)
    assert state(shard) == "suspect"
    steady(shard, 11)
    watch(EVER)
    assert state(shard) == "ready"


def test_a_flapping_shard_has_to_be_steady_for_longer(shard: Shard) -> None:
    for _ in range(2):
        silent(shard, 16)
        watch(EVER)
        steady(shard, 11)
        watch(EVER)
        assert state(shard) == "ready"
    silent(shard, 16)
    watch(EVER)
    steady(shard, 11)
    assert watch(EVER) == 0
    steady(shard, 61)
    watch(EVER)
    assert state(shard) == "ready"


def test_old_silences_do_not_count_as_flapping(shard: Shard) -> None:
    for _ in range(5):
        StateChange.objects.create(shard=shard, was="ready", state="suspect")
    StateChange.objects.update(at=Now() - timedelta(minutes=11))
    silent(shard, 16)
    watch(EVER)
    steady(shard, 11)
    watch(EVER)
    assert state(shard) == "ready"


def test_a_drain_continues_after_a_silence(shard: Shard, key: str) -> None:
    drain(shard.name, by="anna", reason="kernel")
    silent(shard, 91)
    watch(EVER)
    assert state(shard) == "lost"
    assert beat(key)["orders"] == []
    watch(EVER)
    assert state(shard) == "draining"
    assert beat(key)["orders"] == ["drain"]


def test_a_drain_that_ended_during_a_silence_does_not_continue(shard: Shard, key: str) -> None:
    drain(shard.name, by="anna", reason="kernel")
    silent(shard, 91)
    watch(EVER)
    resume(shard.name, by="anna")
    beat(key)
    watch(EVER)
    assert state(shard) == "suspect"


def test_a_used_ephemeral_shard_takes_no_other_job_after_a_silence() -> None:
    shard, key = make_shard("once", pool="fresh")
    Pool.objects.update(mode=PoolMode.EPHEMERAL)
    Shard.objects.filter(pk=shard.pk).update(state=ShardState.LOST, is_used=True)
    beat(key)
    watch(EVER)
    assert state(shard) == "draining"


def test_a_shard_being_restarted_may_be_silent(shard: Shard) -> None:
    Operation.objects.create(shard=shard, kind=OperationKind.RESTART, state="running", requested_by="anna")
    silent(shard, 200)
    assert watch(EVER) == 0
    Operation.objects.update(state="failed")
    assert watch(EVER) == 1


@pytest.mark.parametrize("seconds", [10, 14])
def test_an_outage_does_not_count_as_silence(shard: Shard, seconds: float) -> None:
    silent(shard, 300)
    assert watch(Reachability(database_now() - timedelta(seconds=seconds))) == 0
    assert watch(Reachability(database_now() - timedelta(seconds=16))) == 1


def test_a_heartbeat_of_this_very_moment_wins(shard: Shard) -> None:
    silent(shard, 16)
    (row,) = watching._candidates()
    change = next_state(row.inputs(), reachable_since=EVER.since, now=database_now())
    assert change is not None
    Shard.objects.update(last_heartbeat_at=Now())
    assert not watching._move(row, change)
    assert state(shard) == "ready"


def test_an_operator_of_this_very_moment_wins(shard: Shard) -> None:
    silent(shard, 16)
    (row,) = watching._candidates()
    change = next_state(row.inputs(), reachable_since=EVER.since, now=database_now())
    assert change is not None
    drain(shard.name, by="anna", reason="kernel")
    assert not watching._move(row, change)
    assert state(shard) == "draining"


def test_a_move_that_is_not_in_the_table_is_refused(shard: Shard) -> None:
    with pytest.raises(WrongState, match="is ready and cannot become lost"):
        transition(shard, "lost")
    assert not transition(shard, "suspect", expected=Q(state="draining"))
    assert transition(shard, "suspect", expected=Q(state="ready"))
    assert not transition(shard, "suspect")
    assert story(shard) == [("ready", "suspect")]


def test_healthy_shards_cost_one_query(django_assert_num_queries: Any) -> None:
    for number in range(5):
        make_shard(f"well-{number}")
    with django_assert_num_queries(2):
        assert watch(EVER) == 0


@pytest.mark.django_db(transaction=True)
def test_concurrent_monitors_store_a_change_once() -> None:
    shards = [make_shard(f"s-{number}")[0] for number in range(8)]
    Shard.objects.update(last_heartbeat_at=Now() - timedelta(seconds=20))
    moved: list[int] = []
    start = threading.Barrier(4)

    def run() -> None:
        start.wait(10)
        moved.append(watch(EVER))
        close_old_connections()

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sum(moved) == len(shards)
    assert StateChange.objects.count() == Alert.objects.count() == len(shards)


@contextmanager
def web(answers: bool, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Simulate the web process for the control worker, and yield the list of its requests."""
    asked: list[str] = []

    def get(url: str, **_: Any) -> httpx.Response:
        asked.append(url)
        if not answers:
            raise httpx.ConnectError("refused")
        return httpx.Response(200)

    with monkeypatch.context() as patched:
        patched.setattr(httpx, "get", get)
        yield asked


def test_no_request_is_sent_while_all_shards_report(shard: Shard, monkeypatch: pytest.MonkeyPatch) -> None:
    with web(False, monkeypatch) as asked:
        check_reachability()
        make_shard("silent")
        Shard.objects.filter(name="silent").update(last_heartbeat_at=Now() - timedelta(hours=1))
        first = check_reachability()
        assert (check_reachability().since, first.unreachable_since, asked) == (first.since, None, [])


def test_an_outage_of_the_web_process_alerts_once_and_moves_no_shard(
    shard: Shard, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent(shard, 300)
    with web(False, monkeypatch):
        heard = check_reachability()
        assert heard.unreachable_since is not None
        for _ in range(3):
            assert watch(check_reachability()) == 0
        assert not Alert.objects.exists()
        later = Reachability(heard.since, heard.unreachable_since - timedelta(seconds=31))
        for _ in range(3):
            watch(later)
    (stored,) = Alert.objects.all()
    assert (stored.kind, stored.count) == ("control.deaf", 1)
    assert state(shard) == "ready"


def test_when_the_web_process_answers_silence_counts(shard: Shard, monkeypatch: pytest.MonkeyPatch) -> None:
    silent(shard, 300)
    with web(True, monkeypatch) as asked:
        heard = check_reachability()
        assert heard.unreachable_since is None
        assert watch(heard) == 0, "this installation has just started its checks"
        assert asked
    assert watch(Reachability(heard.since - timedelta(seconds=16))) == 1


def pass_time(seconds: float) -> None:
    """Move the memory of all checks into the past."""
    ago = timedelta(seconds=seconds)
    ReachabilityRecord.objects.update(since=F("since") - ago, checked_at=F("checked_at") - ago)


def test_a_restart_of_the_control_worker_forgets_no_time(shard: Shard) -> None:
    first = ReachabilityMonitor("shards").check(has_silent_shards=False).since
    for _ in range(10):
        pass_time(8)
        since = ReachabilityMonitor("shards").check(has_silent_shards=False).since
    assert since == first - timedelta(seconds=80)


def test_monitors_do_not_share_their_memory(shard: Shard) -> None:
    ReachabilityMonitor("shards").check(has_silent_shards=False)
    pass_time(100)
    fresh = ReachabilityMonitor("runners").check(has_silent_shards=False)
    assert database_now() - fresh.since < timedelta(seconds=50)


@pytest.mark.parametrize(
    ("steady_s", "silent_s", "is_outage"),
    [(60, 1, False), (20, 1, True), (60, 16, True)],
    ids=["reported all the time", "reports only since", "is silent now"],
)
def test_a_gap_in_the_checks_is_an_outage_only_if_no_shard_was_heard(
    shard: Shard, steady_s: float, silent_s: float, is_outage: bool
) -> None:
    first = check_reachability().since
    pass_time(30)
    times = {
        "steady_since": Now() - timedelta(seconds=steady_s),
        "last_heartbeat_at": Now() - timedelta(seconds=silent_s),
    }
    Shard.objects.filter(pk=shard.pk).update(**times)
    since = ReachabilityMonitor("shards").check(has_silent_shards=False).since
    assert since == (database_now() if is_outage else first - timedelta(seconds=30))
    assert timedelta(seconds=30) > MAX_GAP


def test_the_start_of_an_outage_is_remembered(shard: Shard, monkeypatch: pytest.MonkeyPatch) -> None:
    silent(shard, 300)
    with web(False, monkeypatch):
        first = ReachabilityMonitor("shards").check(has_silent_shards=True)
        assert ReachabilityMonitor("shards").check(has_silent_shards=True).unreachable_since == first.unreachable_since
    with web(True, monkeypatch):
        assert ReachabilityMonitor("shards").check(has_silent_shards=True).unreachable_since is None


def test_heartbeats_keep_a_shard_steady(shard: Shard, key: str) -> None:
    beat(key)
    shard.refresh_from_db()
    first = shard.steady_since
    silent(shard, HEARTBEAT_EVERY_S)
    beat(key)
    shard.refresh_from_db()
    assert shard.steady_since == first is not None
    silent(shard, 16)
    beat(key)
    shard.refresh_from_db()
    assert shard.steady_since == shard.last_heartbeat_at


def test_a_heartbeat_is_one_statement(key: str, shard: Shard) -> None:
    with CaptureQueriesContext(connection) as queries:
        beat(key)
    # Django does not log prepared statements, so the log must be empty.
    assert [query["sql"][:60] for query in queries] == []
