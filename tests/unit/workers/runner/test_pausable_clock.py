"""A clock that stands still while the agent is frozen."""

from __future__ import annotations

import asyncio

from workers.runner.pausable_clock import LEAST_WAIT_S, AwakeClock, first_of


class Time:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_it_counts_from_its_beginning() -> None:
    time = Time()
    clock = AwakeClock(time)
    time.now += 5
    assert clock.seconds() == 5


def test_time_asleep_does_not_count() -> None:
    time = Time()
    clock = AwakeClock(time)
    time.now += 5
    clock.sleep()
    time.now += 60
    assert clock.seconds() == 5
    clock.sleep()
    clock.wake()
    clock.wake()
    time.now += 2
    assert clock.seconds() == 7


class Asleep(AwakeClock):
    """Counts how often somebody looks; wakes at the tenth look, when all its time is over."""

    looks = 0

    def seconds(self) -> float:
        self.looks += 1
        return 1.0 if self.looks > 9 else 1.0 - 1e-9


async def _wait(clock: AwakeClock) -> tuple[set[asyncio.Task[None]], float]:
    task = asyncio.create_task(asyncio.sleep(60))
    began = asyncio.get_running_loop().time()
    done = await first_of({task}, clock, 1.0)
    task.cancel()
    return done, asyncio.get_running_loop().time() - began


def test_with_next_to_nothing_left_a_clock_that_stands_still_is_looked_at_now_and_then() -> None:
    done, waited_s = asyncio.run(_wait(Asleep()))
    assert done == set()
    assert waited_s > 8 * LEAST_WAIT_S


def test_what_is_done_first_is_returned_at_once() -> None:
    async def wait() -> tuple[bool, bool]:
        quick, slow = asyncio.create_task(asyncio.sleep(0)), asyncio.create_task(asyncio.sleep(60))
        done = await first_of({quick, slow}, AwakeClock(), 60)
        slow.cancel()
        return quick in done, slow in done

    assert asyncio.run(wait()) == (True, False)
