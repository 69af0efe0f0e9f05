from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from shards.health.outage import MAX_GAP, OutageTracker

START = datetime(2026, 1, 1, tzinfo=UTC)


def seconds(number: float) -> datetime:
    return START + timedelta(seconds=number)


def test_the_first_check_starts_it() -> None:
    assert OutageTracker.after_check(None, START, web_answers=True) == OutageTracker(START, START)


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
    after = OutageTracker.after_check(before, seconds(100 + gap_s), web_answers=web_answers)
    assert after == OutageTracker(START if kept else seconds(100 + gap_s), seconds(100 + gap_s))
