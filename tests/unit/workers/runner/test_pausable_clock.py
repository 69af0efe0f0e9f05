"""Clock that pauses while the agent is frozen."""

from __future__ import annotations

import asyncio

from workers.runner.pausable_clock import MIN_WAIT_S, PausableClock, first_of


class Time:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_the_clock_counts_from_its_creation() -> None:
    time = Time()
    clock = PausableClock(time)
    time.now += 5
    assert clock.seconds() == 5


def test_pauses_do_not_count() -> None:
    time = Time()
    clock = PausableClock(time)
    time.now += 5
    clock.pause()
    time.now += 60
    assert clock.seconds() == 5
    clock.pause()
    clock.resume()
    clock.resume()
    time.now += 2
    assert clock.seconds() == 7


class PausedClock(PausableClock):
    """Clock that counts its reads and reaches the limit at the tenth one."""

    reads = 0

    def seconds(self) -> float:
        self.reads += 1
        return 1.0 if self.reads > 9 else 1.0 - 1e-9


async def _wait(clock: PausableClock) -> tuple[set[asyncio.Task[None]], float]:
    task = asyncio.create_task(asyncio.sleep(60))
    began = asyncio.get_running_loop().time()
    done = await first_of({task}, clock, 1.0)
    task.cancel()
    return done, asyncio.get_running_loop().time() - began


def test_a_paused_clock_with_little_time_left_is_not_read_in_a_busy_loop() -> None:
    done, waited_s = asyncio.run(_wait(PausedClock()))
    assert done == set()
    assert waited_s > 8 * MIN_WAIT_S


def test_the_first_finished_task_is_returned_at_once() -> None:
    async def wait() -> tuple[bool, bool]:
        quick, slow = asyncio.create_task(asyncio.sleep(0)), asyncio.create_task(asyncio.sleep(60))
        done = await first_of({quick, slow}, PausableClock(), 60)
        slow.cancel()
        return quick in done, slow in done

    assert asyncio.run(wait()) == (True, False)
