from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.health.rules import Change, HealthInputs, may_take_jobs, next_state, unhealthy_reason
from shards.lifecycle.states import MOVES
from shards.models.timeouts import LOST_AFTER, SILENT_AFTER

NOW = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
JUST_NOW = NOW - timedelta(seconds=1)
LONG_AGO = NOW - timedelta(days=1)
MOMENT = timedelta(milliseconds=1)


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def judged(state: str, silent_s: float | None = 1, *, reachable_since: datetime = LONG_AGO, **facts: Any) -> str | None:
    """Return the state of a shard that has been silent for so long; None: never reported."""
    heard = None if silent_s is None else ago(silent_s)
    shard = HealthInputs(state, facts.pop("state_since", LONG_AGO), last_heartbeat_at=heard, **facts)
    change = next_state(shard, reachable_since=reachable_since, now=NOW)
    return change.to if change else None


@pytest.mark.parametrize(
    ("is_active", "state", "heard", "expected"),
    [
        (True, "ready", JUST_NOW, None),
        (True, "ready", NOW - SILENT_AFTER, None),
        (True, "ready", NOW + timedelta(seconds=5), None),
        (True, "ready", NOW - SILENT_AFTER - timedelta(seconds=1), "silent since 03:03:49 UTC"),
        (True, "ready", None, "never reported"),
        (True, "requested", None, "never reported"),
        (True, "draining", JUST_NOW, "draining"),
        (True, "suspect", JUST_NOW, "suspect: reports again, but not yet for long enough"),
        (True, "lost", JUST_NOW, "lost"),
        (True, "provisioning", JUST_NOW, "provisioning"),
        (True, "stopped", JUST_NOW, "stopped"),
        (True, "a state that is new", JUST_NOW, "a state that is new"),
        (False, "ready", JUST_NOW, "switched off"),
        (False, "draining", None, "switched off"),
    ],
)
def test_why_a_shard_takes_no_job(is_active: bool, state: str, heard: datetime | None, expected: str | None) -> None:
    assert unhealthy_reason(is_active=is_active, state=state, last_heartbeat_at=heard, now=NOW) == expected


@pytest.mark.parametrize(("state", "after"), [("suspect", None), ("lost", "suspect"), ("ready", None)])
def test_a_shard_whose_sandbox_fails_does_not_return(state: str, after: str | None) -> None:
    assert judged(state, steady_since=LONG_AGO, sandbox_problem="bwrap: fork") == after
    assert judged("suspect", steady_since=LONG_AGO) == "ready"


def test_the_reason_names_a_failing_sandbox() -> None:
    facts: dict[str, Any] = {"is_active": True, "last_heartbeat_at": JUST_NOW, "now": NOW, "sandbox_fails": True}
    assert unhealthy_reason(state="suspect", **facts) == "suspect: its sandbox fails"
    assert unhealthy_reason(state="ready", **facts) is None


@pytest.mark.parametrize(
    ("state", "silent_s", "becomes"),
    [
        ("ready", 1, None),
        ("ready", 15, None),
        ("ready", 15.001, "suspect"),
        # It becomes suspect first, even after a long silence.
        ("ready", 1000, "suspect"),
        ("ready", -5, None),
        ("suspect", 16, None),
        ("suspect", 90, None),
        ("suspect", 90.001, "lost"),
        ("draining", 16, None),
        ("draining", 90, None),
        ("draining", 90.001, "lost"),
        ("lost", 1000, None),
        ("requested", None, None),
        ("provisioning", 1000, None),
        ("stopped", 1000, None),
        ("gone", 1000, None),
    ],
)
def test_silence(state: str, silent_s: float | None, becomes: str | None) -> None:
    assert judged(state, silent_s) == becomes


@pytest.mark.parametrize(
    ("state", "steady_s", "suspect_count", "becomes"),
    [
        ("lost", 0, 0, "suspect"),
        ("suspect", None, 0, None),
        ("suspect", 9, 1, None),
        ("suspect", 10, 1, "ready"),
        ("suspect", 10, 2, "ready"),
        ("suspect", 59, 3, None),
        ("suspect", 60, 3, "ready"),
        ("suspect", 60, 30, "ready"),
        ("ready", 0, 0, None),
        ("draining", 100, 0, None),
        ("requested", 100, 0, None),
        ("provisioning", 100, 0, None),
        ("stopped", 100, 0, None),
        ("gone", 100, 0, None),
    ],
)
def test_a_reporting_shard(state: str, steady_s: float | None, suspect_count: int, becomes: str | None) -> None:
    steady = None if steady_s is None else ago(steady_s)
    assert judged(state, steady_since=steady, suspect_count=suspect_count) == becomes


@pytest.mark.parametrize("state", ["suspect", "lost"])
def test_a_returning_shard_continues_its_drain_at_once(state: str) -> None:
    assert judged(state, steady_since=NOW, suspect_count=9, must_drain=True) == "draining"


@pytest.mark.parametrize("state", ["ready", "suspect", "draining"])
@pytest.mark.parametrize("facts", [{"is_active": False}, {"has_operation": True}], ids=str)
def test_an_inactive_shard_or_one_with_an_operation_may_be_silent(state: str, facts: dict[str, Any]) -> None:
    assert judged(state, 1000, **facts) is None


def test_reports_of_an_inactive_shard_count() -> None:
    assert judged("suspect", steady_since=ago(10), is_active=False) == "ready"


@pytest.mark.parametrize(("state", "after_s"), [("ready", 15), ("suspect", 90), ("draining", 90)])
def test_silence_before_anybody_could_hear_does_not_count(state: str, after_s: float) -> None:
    assert judged(state, 1000, reachable_since=ago(after_s)) is None
    assert judged(state, 1000, reachable_since=ago(after_s) - MOMENT) is not None


def test_a_shard_that_never_reported_is_silent_since_its_state() -> None:
    assert judged("ready", None, state_since=ago(15)) is None
    assert judged("ready", None, state_since=ago(16)) == "suspect"


def test_the_reason_says_since_when() -> None:
    shard = HealthInputs("ready", LONG_AGO, last_heartbeat_at=ago(20))
    expected = Change("suspect", "Silent since 03:03:45 UTC.")
    assert next_state(shard, reachable_since=LONG_AGO, now=NOW) == expected


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("ready", True), ("suspect", True), ("lost", True), ("draining", False), ("provisioning", False),
        ("requested", False), ("stopped", False), ("gone", False),
    ],
)  # fmt: skip
def test_states_in_which_a_worker_takes_jobs(state: str, expected: bool) -> None:
    assert may_take_jobs(is_active=True, is_spare=False, state=state) is expected
    assert not may_take_jobs(is_active=False, is_spare=False, state=state)
    assert not may_take_jobs(is_active=True, is_spare=True, state=state)


moments = st.none() | st.floats(-10, 10_000).map(ago)
conditions = st.builds(
    HealthInputs,
    state=st.sampled_from(sorted(MOVES)),
    state_since=st.floats(0, 10_000).map(ago),
    is_active=st.booleans(),
    has_operation=st.booleans(),
    must_drain=st.booleans(),
    last_heartbeat_at=moments,
    steady_since=moments,
    suspect_count=st.integers(0, 10),
)


@given(conditions, st.floats(0, 10_000).map(ago))
def test_it_asks_for_no_move_that_there_is_not(shard: HealthInputs, reachable_since: datetime) -> None:
    change = next_state(shard, reachable_since=reachable_since, now=NOW)
    assert change is None or change.to in MOVES[shard.state]


@given(conditions, st.lists(st.floats(0.1, 60), min_size=1, max_size=40))
def test_it_never_jumps_however_heartbeats_come(shard: HealthInputs, pauses_s: list[float]) -> None:
    """Check that a flapping shard is ready only after it was steady, and that silence ends in lost."""
    now = NOW
    for pause_s in pauses_s:
        for _ in range(int(pause_s) + 1):
            now += timedelta(seconds=min(1.0, pause_s))
            if change := next_state(shard, reachable_since=LONG_AGO, now=now):
                if change.to == "ready":
                    assert shard.steady_since is not None
                    assert now - shard.steady_since >= timedelta(seconds=10)
                    assert shard.last_heartbeat_at is not None
                    assert now - shard.last_heartbeat_at <= SILENT_AFTER
                shard = replace(shard, state=change.to, state_since=now)
        silent = shard.last_heartbeat_at is None or now - shard.last_heartbeat_at > SILENT_AFTER
        shard = replace(shard, last_heartbeat_at=now, steady_since=now if silent else shard.steady_since or now)


@given(conditions)
def test_a_minute_of_reports_is_healthy_and_silence_is_lost(shard: HealthInputs) -> None:
    if shard.state not in ("ready", "suspect", "lost", "draining") or shard.must_drain:
        return
    heard = replace(shard, last_heartbeat_at=NOW, steady_since=ago(60))
    silent = replace(shard, last_heartbeat_at=NOW - LOST_AFTER - MOMENT, is_active=True, has_operation=False)
    assert settled(heard) == ("draining" if shard.state == "draining" else "ready")
    assert settled(silent) == "lost"


def settled(shard: HealthInputs) -> str:
    for _ in range(4):
        if change := next_state(shard, reachable_since=LONG_AGO, now=NOW):
            shard = replace(shard, state=change.to)
    return shard.state
