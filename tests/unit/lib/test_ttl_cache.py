"""Caches are bounded, and their entries expire."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from myctobot.lib.ttl_cache import CachedValue, TtlCache


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Source:
    """Count loads, and return their number."""

    def __init__(self) -> None:
        self.loads = 0
        self.fails = False

    def load(self) -> int:
        self.loads += 1
        if self.fails:
            raise OSError
        return self.loads


def test_an_entry_expires() -> None:
    clock = Clock()
    cache: TtlCache[str, int] = TtlCache(10, 5, clock)
    cache.put("a", 1)
    clock.now += 4.9
    assert cache.get("a") == 1
    clock.now += 0.1
    assert cache.get("a") is None
    assert cache.get("b") is None


def test_a_full_cache_drops_only_its_oldest_entry() -> None:
    cache: TtlCache[str, int] = TtlCache(3, 5)
    for number, key in enumerate("abc"):
        cache.put(key, number)
    cache.put("a", 10)
    cache.put("d", 3)
    assert [cache.get(key) for key in "abcd"] == [10, None, 2, 3]
    assert len(cache) == 3


def test_a_replaced_entry_lives_for_the_full_time() -> None:
    clock = Clock()
    cache: TtlCache[str, int] = TtlCache(1, 5, clock)
    cache.put("a", 1)
    clock.now += 4
    cache.put("a", 2)
    clock.now += 4
    assert cache.get("a") == 2


def test_an_owner_drops_only_its_own_entries() -> None:
    cache: TtlCache[int, str] = TtlCache(10, 5, max_per_owner=2)
    cache.put(0, "quiet", owner="quiet")
    for key in range(1, 50):
        cache.put(key, "busy", owner="busy")
    assert cache.get(0) == "quiet"
    assert [key for key in range(1, 50) if cache.get(key)] == [48, 49]


def test_an_owner_with_a_maximum_of_one_keeps_its_newest_entry() -> None:
    cache: TtlCache[str, int] = TtlCache(10, 5, max_per_owner=1)
    for key in ("a", "b", "b", "c"):
        cache.put(key, 1, owner="acme")
    assert [cache.get(key) for key in "abc"] == [None, None, 1]
    cache.put("c", 2, owner="other")
    cache.put("d", 3, owner="acme")
    assert [cache.get(key) for key in "cd"] == [2, 3]


def test_discard_and_clear() -> None:
    cache: TtlCache[str, int] = TtlCache(10, 5, max_per_owner=2)
    for key in "abc":
        cache.put(key, 1, owner=key)
    cache.discard("a")
    cache.discard("unknown")
    assert [cache.get(key) for key in "abc"] == [None, 1, 1]
    cache.clear()
    assert len(cache) == 0
    cache.put("b", 2, owner="b")
    assert cache.get("b") == 2


@pytest.mark.parametrize("make", [lambda: TtlCache(0, 5), lambda: TtlCache(1, 5, max_per_owner=0)])
def test_a_bound_below_one_is_refused(make: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match="at least one entry"):
        make()


def test_a_miss_is_loaded_once_and_an_error_is_not_kept() -> None:
    clock, source = Clock(), Source()
    cache: TtlCache[str, int] = TtlCache(10, 5, clock)
    source.fails = True
    with pytest.raises(OSError):
        cache.get_or_load("a", source.load)
    source.fails = False
    assert [cache.get_or_load("a", source.load) for _ in range(3)] == [2, 2, 2]
    clock.now += 5
    assert cache.get_or_load("a", source.load) == 3


def test_a_stored_none_is_not_loaded_again() -> None:
    loads: list[int] = []
    cache: TtlCache[str, None] = TtlCache(10, 5)
    for _ in range(3):
        cache.get_or_load("a", lambda: loads.append(1))
    assert loads == [1]


def test_many_threads_keep_the_bounds() -> None:
    cache: TtlCache[int, int] = TtlCache(20, 60, max_per_owner=5)

    def work(owner: int) -> None:
        for number in range(2000):
            key = number % 40
            cache.put(key, number, owner=owner)
            assert cache.get_or_load(key + 100, lambda: 1, owner) == 1
            cache.discard((key * 7) % 40)

    with ThreadPoolExecutor(8) as pool:
        for future in [pool.submit(work, owner) for owner in range(8)]:
            future.result(30)
    assert len(cache) <= 20
    for key in range(140):
        cache.discard(key)
    assert len(cache) == 0
    # No owner may keep a count of entries that are gone.
    for key in range(5):
        cache.put(key, key, owner=0)
    assert [cache.get(key) for key in range(5)] == [0, 1, 2, 3, 4]


def test_a_value_serves_for_its_time() -> None:
    clock, source = Clock(), Source()
    value = CachedValue(source.load, 5, clock)
    assert (value(), value()) == (1, 1)
    clock.now += 4.9
    assert value() == 1
    clock.now += 0.1
    assert value() == 2
    value.clear()
    assert value() == 3


def test_a_failed_load_is_not_kept() -> None:
    source = Source()
    value = CachedValue(source.load, 5)
    source.fails = True
    with pytest.raises(OSError):
        value()
    source.fails = False
    assert value() == 2


def test_calls_at_once_cause_one_load() -> None:
    source, barrier = Source(), Barrier(8)
    value = CachedValue(source.load, 60)

    def ask() -> int:
        barrier.wait(5)
        return value()

    with ThreadPoolExecutor(8) as pool:
        answers = [future.result(5) for future in [pool.submit(ask) for _ in range(8)]]
    assert answers == [1] * 8
