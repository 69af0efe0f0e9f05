from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from shards.health.outage import MAX_GAP, Listening

START = datetime(2026, 1, 1, tzinfo=UTC)


def seconds(number: float) -> datetime:
    return START + timedelta(seconds=number)


def test_the_first_look_begins_it() -> None:
    assert Listening.after_look(None, START, web_answers=True) == Listening(START, START)


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
def test_a_gap_or_a_silent_web_process_begins_it_anew(gap_s: float, web_answers: bool, kept: bool) -> None:
    before = Listening(START, seconds(100))
    after = Listening.after_look(before, seconds(100 + gap_s), web_answers=web_answers)
    assert after == Listening(START if kept else seconds(100 + gap_s), seconds(100 + gap_s))
