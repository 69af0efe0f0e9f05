"""What many ask for is found once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from myctobot.lib.ttl_cache import Remembered


class Source:
    def __init__(self) -> None:
        self.asked = 0
        self.now = 100.0
        self.fails = False

    def find(self) -> int:
        self.asked += 1
        if self.fails:
            raise OSError
        return self.asked


def test_an_answer_serves_for_its_time_and_no_longer() -> None:
    source = Source()
    known = Remembered(source.find, 5, lambda: source.now)
    assert (known(), known()) == (1, 1)
    source.now += 4.9
    assert known() == 1
    source.now += 0.1
    assert known() == 2
    known.forget()
    assert known() == 3


def test_a_failure_is_not_remembered() -> None:
    source = Source()
    known = Remembered(source.find, 5, lambda: source.now)
    source.fails = True
    with pytest.raises(OSError):
        known()
    source.fails = False
    assert known() == 2


def test_those_who_ask_at_once_cost_one_look() -> None:
    source, barrier = Source(), Barrier(8)
    known = Remembered(source.find, 60)

    def ask() -> int:
        barrier.wait(5)
        return known()

    with ThreadPoolExecutor(8) as pool:
        answers = [future.result(5) for future in [pool.submit(ask) for _ in range(8)]]
    assert answers == [1] * 8
