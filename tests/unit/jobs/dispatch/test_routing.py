"""Routing: every reason for and against a queue."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from jobs.dispatch.routing import AssignmentView, NoRoute, RoutableShard, Route, Snapshot, route
from myctobot.contract.shards import class_queue, shard_class, shard_queue

ACME, OTHER = 1, 2


def shard(
    name: str,
    capabilities: str = "git",
    *,
    pool: str | None = None,
    slots: int = 1,
    running: int = 0,
    unhealthy: str | None = None,
    suspended: bool = False,
) -> RoutableShard:
    names = capabilities.split("+")
    return RoutableShard(
        name=name,
        shard_class=shard_class(names, pool),
        class_queue=class_queue(names, pool),
        own_queue=shard_queue(name),
        capabilities=frozenset(names),
        pool=pool,
        slots=slots,
        running=running,
        unhealthy=unhealthy,
        suspended=suspended,
    )


def to_shard(name: str, priority: int = 100, *, default: bool = False) -> AssignmentView:
    return AssignmentView(name, None, priority, default)


def to_pool(name: str, priority: int = 100, *, default: bool = False) -> AssignmentView:
    return AssignmentView(None, name, priority, default)


def snapshot(
    *shards: RoutableShard, assignments: tuple[AssignmentView, ...] = (), sent: dict[str, int] | None = None
) -> Snapshot:
    return Snapshot(shards, {ACME: assignments} if assignments else {}, Counter(sent or {}))


def queue_for(needs: str, where: Snapshot, tenant: int = ACME) -> str:
    decision = route(tenant, needs.split("+"), where)
    assert isinstance(decision, Route), decision
    return decision.queue


def refusal(needs: str, where: Snapshot, tenant: int = ACME) -> NoRoute:
    decision = route(tenant, needs.split("+"), where)
    assert isinstance(decision, NoRoute), decision
    return decision


def test_prefers_the_class_with_exactly_the_needed_capabilities() -> None:
    where = snapshot(shard("a", "git"), shard("b", "filesystem+git"))
    assert queue_for("filesystem+git", where) == "cap.filesystem+git"


def test_prefers_the_least_over_qualified_class() -> None:
    where = snapshot(shard("big", "browser+filesystem+git"), shard("small", "filesystem+git"))
    assert queue_for("git", where) == "cap.filesystem+git"


def test_uses_an_over_qualified_class_when_the_best_one_is_full() -> None:
    where = snapshot(shard("big", "browser+git"), shard("small", "git", running=1))
    assert queue_for("git", where) == "cap.browser+git"


def test_prefers_the_least_loaded_of_equal_classes() -> None:
    where = snapshot(shard("a", "a+git", slots=4, running=3), shard("b", "b+git", slots=4, running=1))
    assert queue_for("git", where) == "cap.b+git"


def test_names_break_ties() -> None:
    assert queue_for("git", snapshot(shard("b", "b+git"), shard("a", "a+git"))) == "cap.a+git"


@pytest.mark.parametrize(
    ("assignments", "expected"),
    [
        ((), "cap.git"),
        ((to_pool("slow", 200), to_pool("fast", 50)), "cap.git+x@fast"),
        ((to_pool("slow", 200, default=True), to_pool("fast", 50)), "cap.git@slow"),
        ((to_pool("slow", 100), to_pool("fast", 100)), "cap.git@slow"),
        ((to_pool("slow", 100), to_pool("slow", 1), to_pool("fast", 50)), "cap.git@slow"),
    ],
    ids=["unassigned", "priority", "default first", "same priority", "best of two assignments"],
)
def test_assignments_come_before_over_qualification(assignments: tuple[AssignmentView, ...], expected: str) -> None:
    where = snapshot(
        shard("p", "git+x", pool="fast"),
        shard("q", "git", pool="slow"),
        shard("shared", "git"),
        assignments=assignments,
    )
    assert queue_for("git", where) == expected


def test_uses_shared_shards_when_the_assigned_pool_is_full() -> None:
    where = snapshot(
        shard("p", pool="mine", running=1), shard("s", "git"), assignments=(to_pool("mine", default=True),)
    )
    assert queue_for("git", where) == "cap.git"


def test_a_pool_refuses_tenants_without_an_assignment() -> None:
    where = snapshot(shard("p", pool="mine"), assignments=(to_pool("mine"),))
    assert queue_for("git", where, ACME) == "cap.git@mine"
    assert refusal("git", where, OTHER).code == "no_shard"


def test_pools_have_separate_classes() -> None:
    where = snapshot(shard("p", pool="mine", running=1), shard("q", pool="theirs"), assignments=(to_pool("mine"),))
    assert refusal("git", where).code == "class_busy"


def test_an_assignment_to_one_shard_of_a_pool_uses_its_own_queue() -> None:
    where = snapshot(shard("p", pool="theirs"), shard("q", pool="theirs"), assignments=(to_shard("q"),))
    assert queue_for("git", where) == "shard.q"


def test_a_preferred_shard_falls_back_to_its_class_when_full() -> None:
    one, two = shard("one"), shard("two")
    assignments = (to_shard("two", default=True),)
    assert queue_for("git", snapshot(one, two, assignments=assignments)) == "shard.two"
    assert queue_for("git", snapshot(one, replace(two, running=1), assignments=assignments)) == "cap.git"


def test_equal_assignments_to_all_shards_use_the_class_queue() -> None:
    where = snapshot(shard("p", pool="x"), shard("q", pool="x"), assignments=(to_shard("p", 5), to_shard("q", 5)))
    assert queue_for("git", where) == "cap.git@x"


def test_placing_decreases_the_capacity() -> None:
    where = snapshot(shard("a", slots=2), shard("b", slots=1))
    for _ in range(3):
        decision = route(ACME, ["git"], where)
        assert isinstance(decision, Route)
        where.place(decision)
    assert refusal("git", where).code == "class_busy"


@pytest.mark.parametrize("queue", ["cap.git", "shard.a"])
def test_a_sent_message_to_either_queue_takes_a_slot(queue: str) -> None:
    assert refusal("git", snapshot(shard("a"), sent={queue: 1})).code == "class_busy"


def test_a_message_to_another_class_takes_no_slot() -> None:
    assert queue_for("git", snapshot(shard("a"), sent={"cap.other": 5})) == "cap.git"


def test_more_running_jobs_than_slots_count_as_full() -> None:
    assert queue_for("git", snapshot(shard("a", slots=1, running=5), shard("b", slots=1))) == "cap.git"


def test_slots_of_unhealthy_shards_do_not_count() -> None:
    where = snapshot(shard("a", running=1), shard("b", slots=9, unhealthy="draining"))
    decision = refusal("git", where)
    assert decision.code == "class_busy"
    assert decision.reason == "The only healthy shard with git is busy (b draining)."
    assert decision.can_ever_run


def test_the_busy_reason_has_the_number_of_shards() -> None:
    decision = refusal("git", snapshot(shard("a", running=1), shard("b", "git+x", running=1)))
    assert decision.reason == "All 2 healthy shards with git are busy."


def test_the_unhealthy_reason_names_the_cause_of_each_shard() -> None:
    where = snapshot(shard("a", unhealthy="draining"), shard("b", unhealthy="silent since 10:00:00 UTC"))
    decision = refusal("git", where)
    assert decision.code == "no_healthy_shard"
    assert decision.reason == "No healthy shard with git: a draining; b silent since 10:00:00 UTC."
    assert decision.can_ever_run


def test_without_any_shard() -> None:
    decision = refusal("git", snapshot())
    assert (decision.code, decision.can_ever_run) == ("no_shard", False)
    assert "operator" in decision.reason


def test_a_missing_capability_is_named() -> None:
    decision = refusal("git+playwright", snapshot(shard("a", "filesystem+git")))
    assert (decision.code, decision.can_ever_run) == ("capability_missing", False)
    assert decision.reason == "No shard of this tenant has playwright; its shards have filesystem, git."


def test_a_shard_in_an_unassigned_pool_is_not_disclosed() -> None:
    decision = refusal("secret-tool", snapshot(shard("a", "git"), shard("hidden", "secret-tool", pool="theirs")))
    assert decision.code == "capability_missing"
    assert "hidden" not in decision.reason


def test_capabilities_spread_over_shards_do_not_add_up() -> None:
    decision = refusal("browser+git", snapshot(shard("a", "git"), shard("b", "browser")))
    assert (decision.code, decision.can_ever_run) == ("capability_missing", False)
    assert decision.reason == "No single shard of this tenant has all of browser and git."


def test_an_unhealthy_shard_may_run_the_job_later() -> None:
    assert refusal("git", snapshot(shard("a", unhealthy="never heard of"))).can_ever_run


def test_the_reason_names_who_suspended_a_class() -> None:
    phrase = "draining since 12:03 UTC by anna: kernel update"
    decision = refusal("git", snapshot(shard("a", unhealthy=phrase, suspended=True)))
    assert decision.code == "suspended"
    assert decision.reason == f"No shard with git takes jobs now: a {phrase}."


def test_the_reason_names_a_few_shards_and_counts_the_others() -> None:
    decision = refusal("git", snapshot(*(shard(f"s{n}", unhealthy="draining") for n in range(8))))
    assert decision.reason.endswith("s4 draining; and 3 more.")


def test_a_message_to_one_shard_does_not_block_its_class() -> None:
    where = snapshot(shard("a"), shard("b"), assignments=(to_shard("b", default=True),), sent={"shard.a": 1})
    assert queue_for("git", where) == "shard.b"


@pytest.mark.parametrize(
    ("shards", "expected"),
    [
        (["a", "b"], "shard.b"),
        (["a"], "cap.git"),
    ],
    ids=["another of the class", "there is no other"],
)
def test_a_lost_job_avoids_its_last_shard(shards: list[str], expected: str) -> None:
    decision = route(ACME, ["git"], snapshot(*map(shard, shards)), avoid={"a"})
    assert isinstance(decision, Route)
    assert decision.queue == expected


def test_a_lost_job_uses_another_class_without_its_last_shard() -> None:
    decision = route(ACME, ["git"], snapshot(shard("a"), shard("b", "browser+git")), avoid={"a"})
    assert isinstance(decision, Route)
    assert decision.queue == "cap.browser+git"


def test_a_lost_job_does_not_wait_for_a_full_shard() -> None:
    decision = route(ACME, ["git"], snapshot(shard("a"), shard("b", running=1)), avoid={"a"})
    assert isinstance(decision, Route)
    assert decision.queue == "cap.git"


def test_capacity_exists_for_the_capabilities_of_a_free_class() -> None:
    where = snapshot(shard("a", "filesystem+git"), shard("b", "browser", running=1))
    assert where.has_capacity_for(["git"])
    assert not where.has_capacity_for(["browser"])
    assert not where.has_capacity_for(["git", "browser"])
