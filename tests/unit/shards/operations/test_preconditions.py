from __future__ import annotations

from typing import Any

import pytest

from shards.lifecycle.states import MOVES
from shards.operations.models import OperationKind
from shards.operations.preconditions import ENDS_JOBS, STATES, blocked_reason
from shards.providers.base import Features

ALL = Features(snapshots=True, limits=True, isolated=True, environment=True, images=True)
WELL: dict[str, Any] = {
    "state": "ready", "provider": "lxc", "has_container": True, "features": ALL, "running": 0, "force": False,
}  # fmt: skip


def test_every_kind_has_its_states_and_every_state_is_one() -> None:
    assert set(STATES) == set(OperationKind.values)
    assert set().union(*STATES.values()) <= set(MOVES)


@pytest.mark.parametrize("kind", ["stop", "restart", "snapshot", "restore", "destroy"])
def test_a_shard_that_is_well_may_be_worked_on(kind: str) -> None:
    assert blocked_reason(kind, **WELL) is None


@pytest.mark.parametrize(
    ("kind", "changes", "said"),
    [
        ("provision", {"state": "ready"}, "it is ready"),
        ("provision", {"state": "requested"}, "it has a container already"),
        ("start", {"state": "stopped", "has_container": False}, "it has no container"),
        ("recycle", {"state": "ready"}, "it is ready"),
        ("snapshot", {"features": Features()}, "does not support snapshots"),
        ("restore", {"features": Features()}, "does not support snapshots"),
        ("destroy", {"provider": "", "features": None}, "it has no provider"),
        ("destroy", {"state": "gone"}, "it is gone"),
    ],
)
def test_impossible_operations_have_a_reason(kind: str, changes: dict[str, Any], said: str) -> None:
    assert said in (blocked_reason(kind, **{**WELL, **changes}) or "")


@pytest.mark.parametrize("kind", sorted(ENDS_JOBS))
def test_running_jobs_are_not_ended_unless_allowed(kind: str) -> None:
    busy = {**WELL, "running": 1, "state": "draining"}
    assert "it runs a job" in (blocked_reason(kind, **busy) or "")
    assert blocked_reason(kind, **{**busy, "force": True}) is None


def test_a_destroyed_container_can_be_created_again() -> None:
    assert blocked_reason("provision", **{**WELL, "state": "gone", "has_container": False}) is None
