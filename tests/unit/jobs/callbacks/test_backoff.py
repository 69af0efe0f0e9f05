"""Schedule of repeated callback deliveries."""

from __future__ import annotations

import pytest

from jobs.callbacks.backoff import GIVE_UP_AFTER_S, is_gone, is_taken, next_pause_s


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
