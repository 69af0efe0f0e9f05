"""After builds that failed: one at a time, later each time, and after three none for an hour."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from shards.autoscaling.build_backoff import Build, leave_to_build

NOW = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)


def builds(*ended: tuple[float, str]) -> list[Build]:
    """Latest first: seconds ago, and what went wrong."""
    return [Build(NOW - timedelta(seconds=ago_s), error) for ago_s, error in ended]


CASES: dict[str, tuple[list[Build], int, int | None]] = {
    "nothing was built yet": ([], 0, None),
    "all is well": (builds((5, ""), (9, "full")), 2, None),
    "one failed just now": (builds((29, "full")), 0, 0),
    "one failed a while ago": (builds((31, "full")), 0, 1),
    "one is tried already": (builds((31, "full")), 1, 0),
    "two failed just now": (builds((31, "full"), (90, "full")), 0, 0),
    "two failed a while ago": (builds((61, "full"), (90, "full")), 0, 1),
    "three failed": (builds((61, "full"), (90, "full"), (99, "full")), 0, 0),
    "three failed an hour ago": (builds((3601, "full"), (4000, "full"), (5000, "full")), 0, 1),
    "the one after the pause failed too": (builds((5, "full"), (4000, "full"), (5000, "full"), (6000, "")), 0, 0),
    "the last one went well again": (builds((5, ""), (61, "full"), (90, "full"), (99, "full")), 0, None),
}


@pytest.mark.parametrize("case", CASES)
def test_how_many_may_be_built(case: str) -> None:
    ended, under_way, most = CASES[case]
    assert leave_to_build(ended, under_way, None, NOW).most == most


def test_a_pause_says_until_when_and_why() -> None:
    leave = leave_to_build(builds((60, "no room"), (70, "x"), (80, "x")), 0, None, NOW)
    assert leave.is_paused
    assert leave.reason == "3 builds in a row failed, so nothing is built before 12:59 UTC: no room"


def test_what_failed_before_an_operator_let_it_go_on_counts_no_more() -> None:
    ended = builds((60, "x"), (70, "x"), (80, "x"))
    assert leave_to_build(ended, 0, NOW - timedelta(seconds=30), NOW).most is None
    assert leave_to_build(ended, 0, NOW - timedelta(seconds=65), NOW).most == 1
