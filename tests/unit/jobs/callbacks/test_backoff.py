"""When a callback is sent again."""

from __future__ import annotations

import pytest

from jobs.callbacks.backoff import GIVE_UP_AFTER_S, is_refused_for_good, is_taken, next_pause_s


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
def test_what_an_answer_means(status: int, taken: bool, for_good: bool) -> None:
    assert (is_taken(status), is_refused_for_good(status)) == (taken, for_good)


@pytest.mark.parametrize(("tries", "pause_s"), [(1, 5), (2, 30), (3, 120), (8, 14400), (30, 14400)])
def test_pauses_grow(tries: int, pause_s: float) -> None:
    assert next_pause_s(tries, 0, 0.0) == pause_s


def test_those_that_failed_together_do_not_come_back_together() -> None:
    assert next_pause_s(1, 0, 1.0) == 6


def test_after_a_day_it_is_given_up() -> None:
    age_s, tries = 0.0, 0
    while (pause_s := next_pause_s(tries + 1, age_s, 0.5)) is not None:
        tries, age_s = tries + 1, age_s + pause_s
    assert GIVE_UP_AFTER_S - 5 * 3600 < age_s <= GIVE_UP_AFTER_S
    assert 10 <= tries <= 20
