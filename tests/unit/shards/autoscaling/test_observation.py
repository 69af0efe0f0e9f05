"""View of a shard for scaling decisions, from its state and load."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shards.autoscaling.observation import PoolLoad, PoolMember, observe_pool

NOW = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)
MEMBER = PoolMember(
    pk=1, name="a", shard_type="general", state="ready", state_since=NOW - timedelta(hours=1), is_active=True,
    is_used=True, slots=2, last_heartbeat_at=NOW, has_container=True,
)  # fmt: skip
AT_WORK = {"is_ephemeral": True, "state": "draining"}

# Facts, running jobs, and the expected values of ready and leaving.
CASES: dict[str, tuple[dict[str, Any], int, tuple[bool, bool]]] = {
    "ready": ({}, 0, (True, False)),
    "ready and busy": ({}, 2, (True, False)),
    "silent": ({"last_heartbeat_at": NOW - timedelta(minutes=1)}, 0, (False, False)),
    "suspect": ({"state": "suspect"}, 0, (False, False)),
    "lost": ({"state": "lost"}, 0, (False, True)),
    "stopped": ({"state": "stopped"}, 0, (False, True)),
    "switched off": ({"is_active": False}, 0, (True, True)),
    "being created": ({"state": "requested", "has_operation": True}, 0, (False, False)),
    "being re-created": ({"state": "provisioning", "has_operation": True}, 0, (False, False)),
    "half created": ({"state": "provisioning"}, 0, (False, True)),
    "drained": ({"state": "draining"}, 1, (False, True)),
    "at its one job": (AT_WORK, 1, (True, False)),
    "after its one job": (AT_WORK, 0, (False, False)),
    "after its one job, drained by an operator": ({**AT_WORK, "is_suspended": True}, 0, (False, True)),
    "after its one job, recycling failed": ({**AT_WORK, "recycle_failed": True}, 0, (False, True)),
    "resumed after its one job": ({"is_ephemeral": True}, 0, (False, False)),
    "ephemeral and clean": ({"is_ephemeral": True, "is_used": False}, 0, (True, False)),
    "ephemeral and half created": ({"is_ephemeral": True, "state": "provisioning"}, 0, (False, False)),
}


@pytest.mark.parametrize("case", CASES)
def test_ready_and_leaving(case: str) -> None:
    facts, running, expected = CASES[case]
    view = replace(MEMBER, **facts).observe(PoolLoad({1: running}), NOW)
    assert (view.is_ready, view.is_leaving) == expected


@pytest.mark.parametrize(
    ("facts", "counts"),
    [
        ({"state": "gone"}, False),
        ({"state": "requested", "has_container": False}, False),
        ({"state": "requested", "has_operation": True}, True),
        ({"state": "lost"}, True),
    ],
)
def test_only_what_there_is_takes_up_room(facts: dict[str, Any], counts: bool) -> None:
    assert bool(observe_pool([replace(MEMBER, **facts)], PoolLoad(), NOW)) is counts


def test_it_is_idle_since_its_last_job_or_since_it_is_ready() -> None:
    ended = NOW - timedelta(minutes=5)
    assert MEMBER.observe(PoolLoad(last_end={1: ended}), NOW).idle_since == ended
    assert MEMBER.observe(PoolLoad(last_end={1: NOW - timedelta(hours=2)}), NOW).idle_since == MEMBER.state_since
    assert MEMBER.observe(PoolLoad({1: 1}, {1: ended}), NOW).idle_since is None


def test_a_shard_without_a_container_is_fixed() -> None:
    assert replace(MEMBER, has_container=False).observe(PoolLoad(), NOW).is_fixed
