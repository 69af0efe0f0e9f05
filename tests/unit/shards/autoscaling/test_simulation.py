"""Simulation of rule sets with given arrivals."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from shards.autoscaling.rules import RuleSet, read_rules
from shards.autoscaling.simulation import FLAP_S, Arrival, SimulationOutcome, World, simulate

MIDNIGHT = datetime(2026, 11, 26, tzinfo=UTC)
WORLD = World(MIDNIGHT, slots=2, build_s=60, every_s=10)


def rules(*, least: int = 1, most: int = 5, **changes: Any) -> RuleSet:
    return read_rules(
        {
            "scale_up": {"condition": "avg_queue_wait > 30s AND all_shards_at_capacity", "cooldown": "1m"},
            "scale_down": {"condition": "shard_idle > 10m AND shard_count > min_shards", "cooldown": "5m"},
            "limits": {"min_shards": least, "max_shards": most, "max_shards_per_type": most},
            **changes,
        }
    )


def test_jobs_that_fit_wait_for_nothing() -> None:
    out = simulate(rules(), [Arrival(0, 100), Arrival(5, 100), Arrival(150, 50)], WORLD)
    assert out.waits_s == [0, 0, 0]
    assert out.changes == []
    assert out.shard_s == 200


def test_a_job_waits_for_a_slot_in_the_order_in_which_it_came() -> None:
    out = simulate(rules(most=1), [Arrival(2, 10), Arrival(0, 100), Arrival(1, 50), Arrival(3, 10)], WORLD)
    # Waits in the order of arrival at 0, 1, 2 and 3 s.
    assert out.waits_s == [0, 0, 49, 58]


def test_a_burst_builds_shards_and_a_quiet_time_lets_them_go() -> None:
    burst = [Arrival(100, 300) for _ in range(8)]
    out = simulate(rules(), [*burst, Arrival(4000, 10)], WORLD)
    up, *down = out.changes
    # The pool grows for six waiting jobs after more than 30 s.
    assert up[:2] == (140, 3)
    assert sorted(out.waits_s) == [0] * 3 + [100] * 6
    assert [shards for _, shards, _ in down] == [-1] * 3
    # The first shard is idle since 400 s; the cooldown allows one removal every five minutes.
    assert [at for at, _, _ in down] == [1010, 1310, 1610]
    assert out.flaps == 0
    assert max(moment.shards for moment in out.moments) == 4


def test_rules_that_let_go_too_soon_flap() -> None:
    hasty = rules(scale_down={"condition": "shard_idle > 10s AND shard_count > min_shards", "cooldown": "10s"})
    bursts = [Arrival(start, 60) for start in range(0, 3600, 600) for _ in range(6)]
    assert simulate(hasty, bursts, WORLD).flaps >= 4
    assert simulate(rules(), bursts, WORLD).flaps == 0


def test_flaps_are_counted_once_each() -> None:
    changes = [(0.0, 2, ""), (100.0, -1, ""), (200.0, 1, ""), (300.0, 1, ""), (400.0, -1, ""), (400 + FLAP_S, 1, "")]
    assert SimulationOutcome(changes=changes).flaps == 1


def test_a_minimum_begins_with_its_time_of_the_day() -> None:
    morning = [{"from": "00:10", "to": "06:00", "min_shards": 3}]
    out = simulate(rules(minimums=morning), [Arrival(0, 1), Arrival(1000, 1)], WORLD)
    assert out.changes[0][:2] == (600, 2)


def test_nothing_comes_of_nothing() -> None:
    out = simulate(rules(), [], WORLD)
    assert (out.waits_s, out.shard_s, out.wait_s(0.95), out.flaps) == ([], 0, 0, 0)


def test_shares_of_waits() -> None:
    out = SimulationOutcome(waits_s=[float(wait) for wait in range(1, 101)])
    assert (out.wait_s(0.5), out.wait_s(0.95), out.wait_s(1)) == (50, 95, 100)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.builds(Arrival, st.floats(0, 7200), st.floats(1, 900)), max_size=40),
    st.integers(0, 2),
    st.integers(1, 6),
    st.integers(1, 3),
)
def test_every_job_runs_and_the_limits_hold(arrivals: list[Arrival], least: int, most: int, slots: int) -> None:
    by = rules(least=min(least, most), most=most, wait_target="20s")
    out = simulate(by, arrivals, World(MIDNIGHT, slots=slots, build_s=30))
    assert len(out.waits_s) == len(arrivals)
    assert all(wait >= 0 for wait in out.waits_s)
    assert all(moment.shards <= most for moment in out.moments)
    assert all(moment.running <= most * slots for moment in out.moments)
    assert out.shard_s >= sum(job.length_s for job in arrivals) / slots - 1e-6
