"""Scaling decisions: tables of single decisions, and properties of all."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from shards.autoscaling.decisions import Action, Decision, PoolView, ScalableShard, decide, measure
from shards.autoscaling.rules import RuleSet, read_rules

NOW = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)


def rules(**changes: Any) -> RuleSet:
    return read_rules(
        {
            "scale_up": {"condition": "avg_queue_wait > 30s AND all_shards_at_capacity", "cooldown": "5m"},
            "scale_down": {"condition": "shard_idle > 30m AND shard_count > min_shards", "cooldown": "15m"},
            "limits": {"min_shards": 2, "max_shards": 20, "max_shards_per_type": 5},
            **changes,
        }
    )


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def busy(name: str, running: int = 2) -> ScalableShard:
    return ScalableShard(name, "general", True, False, running, 2, None)


def idle(name: str, for_s: float) -> ScalableShard:
    return ScalableShard(name, "general", True, False, 0, 2, ago(for_s))


def building(name: str) -> ScalableShard:
    return ScalableShard(name, "general", False, False, 0, 2, None)


def decided(
    *shards: ScalableShard, waits: list[float] | None = None, by: RuleSet | None = None, **facts: Any
) -> Decision:
    return decide(by or rules(), PoolView(shards, waits or [], **facts), "general", NOW)


class TestUp:
    def test_to_the_minimum_without_any_job(self) -> None:
        decision = decided(busy("a"))
        assert (decision.action, decision.count) == (Action.BUILD, 1)
        assert "1 shards; the minimum is 2" in decision.reason

    def test_shards_that_are_being_built_count(self) -> None:
        assert decided(busy("a"), building("b")).action is Action.NOTHING

    def test_a_leaving_shard_does_not_count(self) -> None:
        assert decided(busy("a"), replace(busy("b"), is_leaving=True)).count == 1

    def test_when_jobs_wait_and_all_is_full(self) -> None:
        decision = decided(busy("a"), busy("b"), waits=[40, 50, 60])
        # Three jobs need two shards of two slots.
        assert (decision.action, decision.count) == (Action.BUILD, 2)
        assert decision.measured["avg_queue_wait"] == 50
        assert "avg_queue_wait > 30s" in decision.reason

    def test_not_while_a_slot_is_free(self) -> None:
        assert decided(busy("a"), busy("b", running=1), waits=[40]).action is Action.NOTHING

    def test_not_within_the_cooldown(self) -> None:
        decision = decided(busy("a"), busy("b"), waits=[40], built_at=ago(60))
        assert decision.action is Action.NOTHING
        assert "cooldown ends in 240 s" in decision.reason

    def test_not_for_jobs_that_what_is_being_built_will_take(self) -> None:
        decision = decided(busy("a"), busy("b"), building("c"), waits=[40, 40])
        assert decision.action is Action.NOTHING
        assert "1 shards are being built, with 2 slots" in decision.reason
        assert decided(busy("a"), busy("b"), building("c"), waits=[40, 40, 40]).count == 1

    def test_within_the_limits_alone(self) -> None:
        shards = [busy(str(number)) for number in range(4)]
        assert decided(*shards, waits=[40.0] * 50).count == 1
        full = decided(*shards, busy("4"), waits=[40.0] * 50)
        assert full.action is Action.NOTHING
        assert "limits allow no more: 20 shards, 5 of a type" in full.reason

    def test_a_wait_target_needs_no_condition(self) -> None:
        by = rules(wait_target="1m")
        shards = (busy("a"), busy("b", running=1))
        assert decided(*shards, waits=[61], by=by).action is Action.BUILD
        assert decided(*shards, waits=[60], by=by).action is Action.NOTHING

    def test_warm_spares_stand_ready(self) -> None:
        by = rules(warm_spares=2)
        decision = decided(busy("a"), busy("b"), idle("c", 5), by=by)
        assert (decision.action, decision.count) == (Action.BUILD, 1)
        assert decided(busy("a"), idle("b", 5), building("c"), by=by).action is Action.NOTHING


class TestDown:
    def test_the_shard_that_is_idle_for_longest(self) -> None:
        decision = decided(busy("a"), idle("b", 1900), idle("c", 2000))
        assert (decision.action, decision.remove) == (Action.REMOVE, "c")

    def test_not_too_soon(self) -> None:
        assert decided(busy("a"), busy("b"), idle("c", 1800)).action is Action.NOTHING

    def test_not_below_the_minimum(self) -> None:
        assert decided(busy("a"), idle("b", 9000)).action is Action.NOTHING
        noon = [{"from": "11:00", "to": "13:00", "min_shards": 3}]
        assert decided(busy("a"), busy("b"), idle("c", 9000), by=rules(minimums=noon)).action is Action.NOTHING

    def test_not_soon_after_a_change_of_either_kind(self) -> None:
        shards = (busy("a"), busy("b"), idle("c", 9000))
        assert decided(*shards, removed_at=ago(600)).action is Action.NOTHING
        assert decided(*shards, built_at=ago(600)).action is Action.NOTHING
        assert decided(*shards, built_at=ago(901), removed_at=ago(901)).remove == "c"

    def test_not_a_warm_spare(self) -> None:
        assert decided(busy("a"), busy("b"), idle("c", 9000), by=rules(warm_spares=1)).action is Action.NOTHING
        assert decided(busy("a"), idle("b", 9000), idle("c", 9500), by=rules(warm_spares=1)).remove == "c"

    def test_to_a_lowered_limit_once_a_shard_is_idle(self) -> None:
        by = rules(limits={"min_shards": 1, "max_shards": 2, "max_shards_per_type": 2})
        assert decided(busy("a"), busy("b"), idle("c", 1), by=by).remove == "c"
        kept = decided(busy("a"), busy("b"), busy("c"), by=by)
        assert kept.action is Action.NOTHING
        assert "No shard is idle" in kept.reason


def test_measures_of_a_pool_without_shards_and_jobs() -> None:
    found = measure(rules(), PoolView([]), NOW)
    assert (found["shard_count"], found["avg_queue_wait"], found["utilisation"]) == (0, 0, 0)
    assert found["all_shards_at_capacity"]


shard_views = st.builds(
    ScalableShard,
    name=st.uuids().map(str),
    shard_type=st.sampled_from(["general", "full"]),
    is_ready=st.booleans(),
    is_leaving=st.booleans(),
    running=st.integers(0, 3),
    slots=st.integers(1, 3),
    idle_since=st.none() | st.integers(0, 10_000).map(ago),
)
times = st.none() | st.integers(0, 2000).map(ago)
pools = st.builds(
    PoolView,
    shards=st.lists(shard_views, max_size=12),
    waits_s=st.lists(st.floats(0, 1000), max_size=20),
    built_at=times,
    removed_at=times,
)


@st.composite
def rule_sets(draw: st.DrawFn) -> RuleSet:
    most = draw(st.integers(1, 10))
    limits = {
        "min_shards": draw(st.integers(0, most)),
        "max_shards": most,
        "max_shards_per_type": draw(st.integers(1, 10)),
    }
    return rules(limits=limits, warm_spares=draw(st.integers(0, most - 1)))


@given(rule_sets(), pools)
def test_limits_are_kept_and_nothing_busy_is_removed(by: RuleSet, pool: PoolView) -> None:
    decision = decide(by, pool, "general", NOW)
    assert decision.reason.endswith(".")
    staying = [shard for shard in pool.shards if not shard.is_leaving]
    if decision.action is Action.BUILD:
        assert decision.count >= 1
        assert len(pool.shards) + decision.count <= by.limits.max_shards
        of_type = sum(shard.shard_type == "general" for shard in pool.shards)
        assert of_type + decision.count <= by.limits.max_shards_per_type
    elif decision.action is Action.REMOVE:
        (removed,) = [shard for shard in pool.shards if shard.name == decision.remove]
        assert not removed.running
        assert removed.is_ready
        assert not removed.is_leaving
        assert len(staying) - 1 >= by.limits.min_shards
    else:
        assert (decision.count, decision.remove) == (0, None)


@given(rule_sets(), pools)
def test_a_requested_change_is_not_requested_again(by: RuleSet, pool: PoolView) -> None:
    decision = decide(by, pool, "general", NOW)
    if decision.action is Action.BUILD:
        new = [building(f"new-{number}") for number in range(decision.count)]
        then = replace(pool, shards=[*pool.shards, *new], built_at=NOW)
        again = decide(by, then, "general", NOW)
        # A limit per type may split the growth to the minimum into several decisions.
        assert again.action is not Action.REMOVE or len(then.shards) > by.limits.max_shards
        assert again.action is not Action.BUILD or len(then.shards) < by.limits.min_shards
    elif decision.action is Action.REMOVE:
        left = [replace(shard, is_leaving=True) if shard.name == decision.remove else shard for shard in pool.shards]
        then = replace(pool, shards=left, removed_at=NOW)
        again = decide(by, then, "general", NOW)
        assert again.action is not Action.REMOVE or again.remove != decision.remove
