from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from shards.health.outage import MAX_GAP, OutageTracker, PastOutage

START = datetime(2026, 1, 1, tzinfo=UTC)


def seconds(number: float) -> datetime:
    return START + timedelta(seconds=number)


def test_the_first_check_starts_it() -> None:
    assert OutageTracker.after_check(None, START, web_answers=True) == OutageTracker(START, START)
    assert OutageTracker.after_check(None, START, web_answers=False) == OutageTracker(START, START, START)


@pytest.mark.parametrize(
    ("gap_s", "web_answers", "kept"),
    [
        (1, True, True),
        (MAX_GAP.total_seconds(), True, True),
        (MAX_GAP.total_seconds() + 1, True, False),
        (97, True, False),
        (1, False, False),
    ],
)
def test_a_gap_or_a_silent_web_process_resets_it(gap_s: float, web_answers: bool, kept: bool) -> None:
    before = OutageTracker(START, seconds(100))
    now = seconds(100 + gap_s)
    after = OutageTracker.after_check(before, now, web_answers=web_answers)
    assert after == OutageTracker(START if kept else now, now, None if web_answers else now)


@pytest.mark.parametrize("gap_s", [1, 97, 10_000])
def test_a_gap_in_which_a_shard_was_heard_is_no_outage(gap_s: float) -> None:
    before = OutageTracker(START, seconds(100))
    after = OutageTracker.after_check(before, seconds(100 + gap_s), web_answers=True, was_heard=True)
    assert after.since == START


def test_an_outage_keeps_its_start_until_the_web_process_answers() -> None:
    first = OutageTracker.after_check(OutageTracker(START, seconds(9)), seconds(10), web_answers=False)
    later = OutageTracker.after_check(first, seconds(11), web_answers=False, was_heard=True)
    assert (later.since, later.unreachable_since) == (seconds(11), seconds(10))
    over = OutageTracker.after_check(later, seconds(12), web_answers=True)
    assert (over.since, over.unreachable_since) == (seconds(11), None)


def test_a_check_that_waited_for_another_does_not_turn_the_time_back() -> None:
    after = OutageTracker.after_check(OutageTracker(START, seconds(10)), seconds(9), web_answers=True)
    assert after == OutageTracker(START, seconds(10))


@pytest.mark.parametrize(
    ("gap_s", "is_gap"), [(1, False), (MAX_GAP.total_seconds(), False), (MAX_GAP.total_seconds() + 1, True)]
)
def test_a_gap_is_the_time_between_two_checks(gap_s: float, is_gap: bool) -> None:
    found = OutageTracker(START, seconds(100)).gap_until(seconds(100 + gap_s))
    assert found == (PastOutage(seconds(100), seconds(100 + gap_s)) if is_gap else None)


@pytest.mark.parametrize(
    ("unreachable_s", "gap_s", "web_answers", "was_heard", "began_s"),
    [
        (None, 1, True, False, None),
        (None, 700, True, False, 100),
        (None, 700, False, False, 100),
        (None, 700, True, True, None),
        (90, 1, False, False, None),
        (90, 700, False, False, None),
        (90, 1, True, False, 90),
        (90, 700, True, True, 90),
    ],
    ids=[
        "none",
        "a gap",
        "a gap, and web starts later",
        "a gap in which shards reported",
        "web is still away",
        "web is still away after a gap",
        "web is back",
        "web is back after a gap",
    ],
)
def test_the_outage_that_a_check_sees_to_be_over(
    unreachable_s: float | None, gap_s: float, web_answers: bool, was_heard: bool, began_s: float | None
) -> None:
    before = OutageTracker(START, seconds(100), None if unreachable_s is None else seconds(unreachable_s))
    now = seconds(100 + gap_s)
    found = before.outage_until(now, web_answers=web_answers, was_heard=was_heard)
    assert found == (None if began_s is None else PastOutage(seconds(began_s), now))


def test_the_duration_of_an_outage() -> None:
    assert PastOutage(START, seconds(61)).duration == timedelta(seconds=61)
