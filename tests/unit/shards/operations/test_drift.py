from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from shards.operations.drift import Drift, KnownContainer, compare
from shards.providers.base import ContainerState, ManagedContainer

NOW = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)
OLD, YOUNG = NOW - timedelta(hours=1), NOW - timedelta(minutes=1)


def found(ref: str, at: datetime | None = OLD) -> ManagedContainer:
    return ManagedContainer(ref, f"name-{ref}", ContainerState.RUNNING, at)


def known(ref: str, state: str = "ready", busy: bool = False) -> KnownContainer:
    return KnownContainer(f"name-{ref}", ref, state, busy)


def shown(differences: list[Drift]) -> list[tuple[str, str, bool]]:
    return [(one.kind.value, one.ref, one.may_repair) for one in differences]


@pytest.mark.parametrize(
    ("provider_has", "database_has", "expected"),
    [
        ([], [], []),
        ([found("a")], [known("a")], []),
        ([found("a")], [], [("orphan", "a", True)]),
        ([found("a", YOUNG)], [], [("orphan", "a", False)]),
        ([found("a", None)], [], [("orphan", "a", True)]),
        # It is being created: its reference is stored before it exists.
        ([found("a")], [KnownContainer("name-a", "", "provisioning", True)], [("orphan", "a", False)]),
        ([found("a")], [known("a", "gone")], [("orphan", "a", True)]),
        ([], [known("a")], [("missing", "a", True)]),
        ([], [known("a", busy=True)], [("missing", "a", False)]),
        ([], [known("a", "gone")], []),
        ([], [known("a", "lost")], []),
        ([], [KnownContainer("b", "", "requested", False)], []),
        ([found("a"), found("b")], [known("b"), known("c")], [("orphan", "a", True), ("missing", "c", True)]),
    ],
)
def test_differences(
    provider_has: list[ManagedContainer], database_has: list[KnownContainer], expected: list[tuple[str, str, bool]]
) -> None:
    assert shown(compare("lxc", provider_has, database_has, NOW)) == expected


def test_a_difference_says_what_is_where() -> None:
    orphan, missing = compare("lxc", [found("a")], [known("c")], NOW)
    assert str(orphan) == "lxc has a (name-a), which belongs to no shard"
    assert str(missing) == "shard name-c refers to c, which lxc does not have"
