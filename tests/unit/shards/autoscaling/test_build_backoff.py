"""Backoff after failed builds: one at a time with growing waits, and a pause of an hour after three."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from shards.autoscaling.build_backoff import Build, build_allowance

NOW = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)


def builds(*ended: tuple[float, str]) -> list[Build]:
    """Return builds from pairs of seconds ago and error, the latest first."""
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
    assert build_allowance(ended, under_way, None, NOW).maximum == most


def test_a_pause_says_until_when_and_why() -> None:
    allowance = build_allowance(builds((60, "no room"), (70, "x"), (80, "x")), 0, None, NOW)
    assert allowance.is_paused
    assert allowance.reason == "3 builds in a row failed. Building is paused until 12:59 UTC: no room"


def test_failures_before_a_resume_do_not_count() -> None:
    ended = builds((60, "x"), (70, "x"), (80, "x"))
    assert build_allowance(ended, 0, NOW - timedelta(seconds=30), NOW).maximum is None
    assert build_allowance(ended, 0, NOW - timedelta(seconds=65), NOW).maximum == 1
