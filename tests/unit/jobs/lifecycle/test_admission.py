"""A tenant's submits are counted now and then while its limit is far off, and each of them when it is near."""

from __future__ import annotations

from dataclasses import dataclass, field

from jobs.lifecycle.admission import WaitingLimit

MAX_WAITING = 10_000


@dataclass
class World:
    waiting: int = 0
    now: float = 100.0
    counts: int = 0
    limit: WaitingLimit = field(init=False)

    def __post_init__(self) -> None:
        self.limit = WaitingLimit(self.count, lambda: self.now)

    def count(self, tenant_id: int, maximum: int) -> int:
        self.counts += 1
        return min(self.waiting, maximum)

    def submit(self, maximum: int = MAX_WAITING, tenant_id: int = 1) -> bool:
        return self.limit.has_headroom(tenant_id, maximum)


def test_far_below_the_limit_few_are_counted() -> None:
    world = World(waiting=5_000)
    assert all(world.submit() for _ in range(100))
    assert 1 < world.counts <= 10


def test_a_count_is_soon_too_old() -> None:
    world = World()
    assert world.submit()
    world.waiting, world.now = MAX_WAITING, world.now + 1.5
    assert not world.submit()


def test_near_the_limit_each_is_counted() -> None:
    world = World(waiting=MAX_WAITING - 500)
    assert not any(world.submit() for _ in range(10))
    assert world.counts == 10
    world.waiting = 0
    assert world.submit()


def test_a_small_limit_is_never_far() -> None:
    world = World()
    assert not world.submit(maximum=1000)
    assert world.counts == 0


def test_a_new_limit_counts_at_once() -> None:
    world = World(waiting=1_500)
    assert world.submit()
    assert not world.submit(maximum=2_000)


def test_tenants_do_not_share_a_count() -> None:
    world = World()
    assert world.submit()
    world.waiting = MAX_WAITING
    assert not world.submit(tenant_id=2)
    assert world.submit()


def test_many_processes_stay_within_the_limit_together() -> None:
    waiting, limit = 0, 3_000
    processes = [WaitingLimit(lambda _, maximum: min(waiting, maximum), lambda: 100.0) for _ in range(16)]
    stored = True
    while stored:
        stored = False
        for process in processes:
            if process.has_headroom(1, limit):
                waiting += 1
                stored = True
    assert limit - 1000 <= waiting <= limit
