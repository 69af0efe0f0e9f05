from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from myctobot.accounts.counts import ProcessCounts


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_counter_expires_after_its_first_addition() -> None:
    clock = Clock()
    counts = ProcessCounts(clock)
    assert [counts.incr("a", 10), counts.incr("a", 10), counts.get("a")] == [1, 2, 2]
    clock.now += 9
    assert counts.get_expiry("a") == 110
    clock.now += 1
    assert (counts.get("a"), counts.incr("a", 10)) == (0, 1)


def test_a_counter_can_be_taken_back_and_cleared() -> None:
    counts = ProcessCounts(Clock())
    counts.incr("a", 10, 3)
    assert counts.incr("a", 10, -1) == 2
    counts.clear("a")
    assert counts.get("a") == 0


def test_a_full_storage_drops_expired_counters_first_and_then_the_oldest() -> None:
    clock = Clock()
    counts = ProcessCounts(clock, max_counters=2)
    counts.incr("old", 100)
    counts.incr("short", 1)
    clock.now += 1
    counts.incr("new", 100)
    assert [counts.get(key) for key in ("old", "short", "new")] == [1, 0, 1]
    counts.incr("newest", 100)
    assert [counts.get(key) for key in ("old", "new", "newest")] == [0, 1, 1]


def test_threads_lose_no_addition() -> None:
    counts = ProcessCounts()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: counts.incr("a", 100), range(2000)))
    assert counts.get("a") == 2000
    assert counts.reset() == 1
