from __future__ import annotations

import pytest

from myctobot.contract.shards import EnforcedLimits, IsolationKind
from workers.sandbox.enforcement import enforced_limits, limits_problem
from workers.sandbox.isolation import Isolation

GROUPS = frozenset({"memory", "processes", "swap", "freeze"})


@pytest.mark.parametrize(
    ("groups", "kind", "uid", "memory", "processes"),
    [
        (GROUPS, IsolationKind.SANDBOX, 0, "control_group", "control_group"),
        (GROUPS, IsolationKind.NONE, 0, "control_group", "control_group"),
        (frozenset(), IsolationKind.SANDBOX, 0, "watchdog", "user"),
        (frozenset(), IsolationKind.SANDBOX, 1234, "watchdog", "user"),
        (frozenset(), IsolationKind.NONE, 1234, "none", "user"),
        (frozenset(), IsolationKind.NONE, 0, "none", "none"),
    ],
)
def test_the_limits_of_an_isolation(
    monkeypatch: pytest.MonkeyPatch, groups: frozenset[str], kind: IsolationKind, uid: int, memory: str, processes: str
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: uid)
    found = enforced_limits(Isolation(kind, groups))
    assert found == {"memory": memory, "processes": processes, "disk": "watchdog"}


def test_the_disk_of_a_job_is_limited_by_its_image() -> None:
    assert enforced_limits(Isolation(IsolationKind.SANDBOX, GROUPS, disk_images=True))["disk"] == "image"


def test_without_a_limit_on_memory_no_job_may_run() -> None:
    assert limits_problem(EnforcedLimits(memory="control_group", processes="control_group")) is None
    assert limits_problem(EnforcedLimits(memory="watchdog", processes="user")) is None
    problem = limits_problem(EnforcedLimits(memory="none", processes="user"))
    assert problem is not None
    assert "sandbox.allow_unlimited" in problem
