"""Schedule of repeated callback deliveries."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from jobs.callbacks.backoff import (
    GIVE_UP_AFTER_S,
    MAX_RETRY_AFTER_S,
    is_gone,
    is_taken,
    next_pause_s,
    retry_after_s,
)

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("status", "taken", "for_good"),
    [
        (200, True, False),
        (204, True, False),
        (302, False, False),
        (410, False, True),
        (429, False, False),
        (500, False, False),
    ],
)
def test_meaning_of_an_answer(status: int, taken: bool, for_good: bool) -> None:
    assert (is_taken(status), is_gone(status)) == (taken, for_good)


@pytest.mark.parametrize(("tries", "pause_s"), [(1, 5), (2, 30), (3, 120), (8, 14400), (30, 14400)])
def test_pauses_grow(tries: int, pause_s: float) -> None:
    assert next_pause_s(tries, 0, 0.0) == pause_s


def test_jitter_spreads_simultaneous_failures() -> None:
    assert next_pause_s(1, 0, 1.0) == 6


def test_deliveries_stop_after_a_day() -> None:
    age_s, tries = 0.0, 0
    while (pause_s := next_pause_s(tries + 1, age_s, 0.5)) is not None:
        tries, age_s = tries + 1, age_s + pause_s
    assert GIVE_UP_AFTER_S - 5 * 3600 < age_s <= GIVE_UP_AFTER_S
    assert 10 <= tries <= 20


@pytest.mark.parametrize(
    ("status", "header", "expected"),
    [
        (429, "90", 90),
        (503, " 90 ", 90),
        (503, "Mon, 30 Nov 2026 12:01:00 GMT", 60),
        (429, "Mon, 30 Nov 2026 11:00:00 GMT", 0),
        (429, None, None),
        (500, "90", None),
        (302, "90", None),
        (429, "", None),
        (429, "-1", None),
        (429, "1.5", None),
        (429, "9" * 30, None),
        (429, "\u0661", None),
        (429, "soon", None),
        (429, "Mon, 30 Nov 2026 12:01:00", None),
        (429, "Mon, 01 Jan 99999999999999 00:00:00 GMT", None),
        (429, "Mon, 99 Nov 2026 12:01:00 +9999", None),
    ],
)
def test_the_pause_that_an_endpoint_asks_for(status: int, header: str | None, expected: float | None) -> None:
    assert retry_after_s(status, header, NOW) == expected


@pytest.mark.parametrize(
    ("tries", "asked_s", "expected"), [(1, 90, 90), (1, 0, 5), (3, 90, 120), (1, 10**9, MAX_RETRY_AFTER_S)]
)
def test_an_endpoint_may_ask_for_a_longer_pause_within_a_bound(tries: int, asked_s: float, expected: float) -> None:
    assert next_pause_s(tries, 0, 0.0, asked_s) == expected


def test_a_pause_beyond_the_last_day_is_the_end() -> None:
    assert next_pause_s(1, GIVE_UP_AFTER_S - 60, 0.0, 90) is None
