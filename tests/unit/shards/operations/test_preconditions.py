from __future__ import annotations

from typing import Any

import pytest

from shards.lifecycle.states import MOVES
from shards.operations.models import OperationKind
from shards.operations.preconditions import ENDS_JOBS, STATES, why_not
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
    assert why_not(kind, **WELL) is None


@pytest.mark.parametrize(
    ("kind", "changes", "said"),
    [
        ("provision", {"state": "ready"}, "it is ready"),
        ("provision", {"state": "requested"}, "a container of it is on record"),
        ("start", {"state": "stopped", "has_container": False}, "it has no container"),
        ("recycle", {"state": "ready"}, "it is ready"),
        ("snapshot", {"features": Features()}, "has no snapshots"),
        ("restore", {"features": Features()}, "has no snapshots"),
        ("destroy", {"provider": "", "features": None}, "it has no provider"),
        ("destroy", {"state": "gone"}, "it is gone"),
    ],
)
def test_what_cannot_be_done_is_said(kind: str, changes: dict[str, Any], said: str) -> None:
    assert said in (why_not(kind, **{**WELL, **changes}) or "")


@pytest.mark.parametrize("kind", sorted(ENDS_JOBS))
def test_jobs_are_not_ended_unless_somebody_says_so(kind: str) -> None:
    busy = {**WELL, "running": 1, "state": "draining"}
    assert "it runs a job" in (why_not(kind, **busy) or "")
    assert why_not(kind, **{**busy, "force": True}) is None


def test_a_container_can_be_made_again_after_it_was_destroyed() -> None:
    assert why_not("provision", **{**WELL, "state": "gone", "has_container": False}) is None
