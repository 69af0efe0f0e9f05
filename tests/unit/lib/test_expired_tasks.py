"""Expired messages of scheduled tasks: each task runs although a slow worker finds all of its messages expired."""

from __future__ import annotations

from collections import deque

import pytest

from myctobot.lib.expired_tasks import RECENT_S, ExpiredTasks


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tasks(clock: Clock) -> ExpiredTasks:
    return ExpiredTasks(clock)


def test_one_expired_message_of_a_task_that_never_ran_is_kept(tasks: ExpiredTasks) -> None:
    assert [tasks.keeps("tick") for _ in range(3)] == [True, False, False]
    assert tasks.keeps("watch")


def test_an_expired_message_of_a_task_that_ran_just_now_is_discarded(tasks: ExpiredTasks, clock: Clock) -> None:
    tasks.note_start("tick")
    clock.now += RECENT_S - 1
    assert not tasks.keeps("tick")
    clock.now += 1
    assert tasks.keeps("tick")


@pytest.mark.parametrize("keeps", [True, False])
def test_a_worker_that_is_slower_than_the_schedule_runs_each_task(clock: Clock, keeps: bool) -> None:
    """Simulate a worker that takes one message a second while two arrive, each of which expires after five."""
    queue: deque[tuple[str, float]] = deque()
    tasks = ExpiredTasks(clock)
    last_run = {"tick": 0.0, "watch": 0.0}
    for _ in range(300):
        clock.now += 1
        queue.extend((task, clock.now + 5) for task in ("tick", "watch"))
        task, expires = queue.popleft()
        if clock.now < expires or (keeps and tasks.keeps(task)):
            tasks.note_start(task)
            last_run[task] = clock.now
    # A worker that discards every expired message runs no task any more.
    assert all((clock.now - at < 2 * RECENT_S) is keeps for at in last_run.values()), last_run
