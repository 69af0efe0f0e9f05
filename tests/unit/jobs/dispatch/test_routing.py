"""The router: every reason for a queue, and every reason against."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from jobs.dispatch.routing import AssignmentView, NoRoute, Route, ShardView, Snapshot, route
from myctobot.contract.jobs import class_queue, shard_class, shard_queue

ACME, OTHER = 1, 2


def shard(
    name: str,
    capabilities: str = "git",
    *,
    pool: str | None = None,
    slots: int = 1,
    running: int = 0,
    unhealthy: str | None = None,
    closed: bool = False,
) -> ShardView:
    names = capabilities.split("+")
    return ShardView(
        name=name,
        shard_class=shard_class(names, pool),
        class_queue=class_queue(names, pool),
        own_queue=shard_queue(name),
        capabilities=frozenset(names),
        pool=pool,
        slots=slots,
        running=running,
        unhealthy=unhealthy,
        closed=closed,
    )


def to_shard(name: str, priority: int = 100, *, default: bool = False) -> AssignmentView:
    return AssignmentView(name, None, priority, default)


def to_pool(name: str, priority: int = 100, *, default: bool = False) -> AssignmentView:
    return AssignmentView(None, name, priority, default)


def snapshot(
    *shards: ShardView, rights: tuple[AssignmentView, ...] = (), sent: dict[str, int] | None = None
) -> Snapshot:
    return Snapshot(shards, {ACME: rights} if rights else {}, Counter(sent or {}))


def queue_for(needs: str, where: Snapshot, tenant: int = ACME) -> str:
    decision = route(tenant, needs.split("+"), where)
    assert isinstance(decision, Route), decision
    return decision.queue


def refusal(needs: str, where: Snapshot, tenant: int = ACME) -> NoRoute:
    decision = route(tenant, needs.split("+"), where)
    assert isinstance(decision, NoRoute), decision
    return decision


def test_the_class_with_just_these_capabilities() -> None:
    where = snapshot(shard("a", "git"), shard("b", "filesystem+git"))
    assert queue_for("filesystem+git", where) == "cap.filesystem+git"


def test_the_least_over_qualified_class_goes_first() -> None:
    where = snapshot(shard("big", "browser+filesystem+git"), shard("small", "filesystem+git"))
    assert queue_for("git", where) == "cap.filesystem+git"


def test_a_better_qualified_class_serves_when_the_fitting_one_is_full() -> None:
    where = snapshot(shard("big", "browser+git"), shard("small", "git", running=1))
    assert queue_for("git", where) == "cap.browser+git"


def test_of_equally_fitting_classes_the_least_loaded() -> None:
    where = snapshot(shard("a", "a+git", slots=4, running=3), shard("b", "b+git", slots=4, running=1))
    assert queue_for("git", where) == "cap.b+git"


def test_equal_in_everything_the_order_of_names_decides() -> None:
    assert queue_for("git", snapshot(shard("b", "b+git"), shard("a", "a+git"))) == "cap.a+git"


@pytest.mark.parametrize(
    ("rights", "expected"),
    [
        ((), "cap.git"),
        ((to_pool("slow", 200), to_pool("fast", 50)), "cap.git+x@fast"),
        ((to_pool("slow", 200, default=True), to_pool("fast", 50)), "cap.git@slow"),
        ((to_pool("slow", 100), to_pool("fast", 100)), "cap.git@slow"),
        ((to_pool("slow", 100), to_pool("slow", 1), to_pool("fast", 50)), "cap.git@slow"),
    ],
    ids=["unassigned", "priority", "default first", "same priority", "best of two rights"],
)
def test_assignments_come_before_fit(rights: tuple[AssignmentView, ...], expected: str) -> None:
    where = snapshot(
        shard("p", "git+x", pool="fast"), shard("q", "git", pool="slow"), shard("shared", "git"), rights=rights
    )
    assert queue_for("git", where) == expected


def test_when_the_assigned_pool_is_full_the_shared_one_serves() -> None:
    where = snapshot(shard("p", pool="mine", running=1), shard("s", "git"), rights=(to_pool("mine", default=True),))
    assert queue_for("git", where) == "cap.git"


def test_a_pool_is_closed_to_tenants_without_a_right_to_it() -> None:
    where = snapshot(shard("p", pool="mine"), rights=(to_pool("mine"),))
    assert queue_for("git", where, ACME) == "cap.git@mine"
    assert refusal("git", where, OTHER).code == "no_shard"


def test_classes_of_two_pools_are_never_mixed() -> None:
    where = snapshot(shard("p", pool="mine", running=1), shard("q", pool="theirs"), rights=(to_pool("mine"),))
    assert refusal("git", where).code == "class_busy"


def test_a_right_to_one_shard_of_a_pool_leads_to_its_own_queue() -> None:
    where = snapshot(shard("p", pool="theirs"), shard("q", pool="theirs"), rights=(to_shard("q"),))
    assert queue_for("git", where) == "shard.q"


def test_a_preferred_shard_of_a_shared_class_has_its_own_queue_and_the_class_serves_when_it_is_full() -> None:
    one, two = shard("one"), shard("two")
    rights = (to_shard("two", default=True),)
    assert queue_for("git", snapshot(one, two, rights=rights)) == "shard.two"
    assert queue_for("git", snapshot(one, replace(two, running=1), rights=rights)) == "cap.git"


def test_the_same_right_to_every_shard_of_a_class_means_the_class() -> None:
    where = snapshot(shard("p", pool="x"), shard("q", pool="x"), rights=(to_shard("p", 5), to_shard("q", 5)))
    assert queue_for("git", where) == "cap.git@x"


def test_placing_counts_down() -> None:
    where = snapshot(shard("a", slots=2), shard("b", slots=1))
    for _ in range(3):
        decision = route(ACME, ["git"], where)
        assert isinstance(decision, Route)
        where.place(decision)
    assert refusal("git", where).code == "class_busy"


@pytest.mark.parametrize("queue", ["cap.git", "shard.a"])
def test_a_message_on_its_way_to_either_queue_takes_a_slot(queue: str) -> None:
    assert refusal("git", snapshot(shard("a"), sent={queue: 1})).code == "class_busy"


def test_a_message_to_another_class_takes_none() -> None:
    assert queue_for("git", snapshot(shard("a"), sent={"cap.other": 5})) == "cap.git"


def test_more_running_than_slots_counts_as_full_not_as_less_than_nothing() -> None:
    assert queue_for("git", snapshot(shard("a", slots=1, running=5), shard("b", slots=1))) == "cap.git"


def test_slots_of_unhealthy_shards_do_not_count() -> None:
    where = snapshot(shard("a", running=1), shard("b", slots=9, unhealthy="draining"))
    decision = refusal("git", where)
    assert decision.code == "class_busy"
    assert decision.reason == "The only healthy shard with git is busy (b draining)."
    assert decision.ever


def test_busy_says_how_many() -> None:
    decision = refusal("git", snapshot(shard("a", running=1), shard("b", "git+x", running=1)))
    assert decision.reason == "All 2 healthy shards with git are busy."


def test_all_sick_says_what_each_has() -> None:
    where = snapshot(shard("a", unhealthy="draining"), shard("b", unhealthy="silent since 10:00:00 UTC"))
    decision = refusal("git", where)
    assert decision.code == "no_healthy_shard"
    assert decision.reason == "No healthy shard with git: a draining; b silent since 10:00:00 UTC."
    assert decision.ever


def test_no_shard_at_all() -> None:
    decision = refusal("git", snapshot())
    assert (decision.code, decision.ever) == ("no_shard", False)
    assert "operator" in decision.reason


def test_a_capability_that_nobody_has_is_named() -> None:
    decision = refusal("git+playwright", snapshot(shard("a", "filesystem+git")))
    assert (decision.code, decision.ever) == ("capability_missing", False)
    assert decision.reason == "No shard of this tenant has playwright; its shards have filesystem, git."


def test_a_shard_in_a_closed_pool_does_not_help_and_is_not_betrayed() -> None:
    decision = refusal("secret-tool", snapshot(shard("a", "git"), shard("hidden", "secret-tool", pool="theirs")))
    assert decision.code == "capability_missing"
    assert "hidden" not in decision.reason


def test_capabilities_spread_over_shards_do_not_add_up() -> None:
    decision = refusal("browser+git", snapshot(shard("a", "git"), shard("b", "browser")))
    assert (decision.code, decision.ever) == ("capability_missing", False)
    assert decision.reason == "No single shard of this tenant has all of browser and git."


def test_a_sick_shard_with_the_capability_means_waiting_helps() -> None:
    assert refusal("git", snapshot(shard("a", unhealthy="never heard of"))).ever


def test_a_class_that_is_closed_says_by_whom() -> None:
    phrase = "draining since 12:03 UTC by anna: kernel update"
    decision = refusal("git", snapshot(shard("a", unhealthy=phrase, closed=True)))
    assert decision.code == "closed"
    assert decision.reason == f"No shard with git takes jobs now: a {phrase}."


def test_a_sentence_names_a_few_shards_and_counts_the_others() -> None:
    decision = refusal("git", snapshot(*(shard(f"s{n}", unhealthy="draining") for n in range(8))))
    assert decision.reason.endswith("s4 draining; and 3 more.")


def test_a_message_to_one_shard_leaves_the_others_of_its_class_free() -> None:
    where = snapshot(shard("a"), shard("b"), rights=(to_shard("b", default=True),), sent={"shard.a": 1})
    assert queue_for("git", where) == "shard.b"


@pytest.mark.parametrize(
    ("shards", "expected"),
    [
        (["a", "b"], "shard.b"),
        (["a"], "cap.git"),
    ],
    ids=["another of the class", "there is no other"],
)
def test_a_job_that_a_shard_lost_goes_to_another(shards: list[str], expected: str) -> None:
    decision = route(ACME, ["git"], snapshot(*map(shard, shards)), avoid={"a"})
    assert isinstance(decision, Route)
    assert decision.queue == expected


def test_another_class_serves_a_lost_job_when_its_own_has_no_other_shard() -> None:
    decision = route(ACME, ["git"], snapshot(shard("a"), shard("b", "browser+git")), avoid={"a"})
    assert isinstance(decision, Route)
    assert decision.queue == "cap.browser+git"


def test_a_full_shard_is_no_reason_to_wait_for_another() -> None:
    decision = route(ACME, ["git"], snapshot(shard("a"), shard("b", running=1)), avoid={"a"})
    assert isinstance(decision, Route)
    assert decision.queue == "cap.git"


def test_room_is_there_for_what_a_free_class_has() -> None:
    where = snapshot(shard("a", "filesystem+git"), shard("b", "browser", running=1))
    assert where.has_room_for(["git"])
    assert not where.has_room_for(["browser"])
    assert not where.has_room_for(["git", "browser"])
