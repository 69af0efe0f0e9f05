"""Where a job would go, in which order, and why not elsewhere."""

from __future__ import annotations

import pytest

from jobs.dispatch.routing import Route, Snapshot, route
from jobs.queue.preview import Preview, preview
from tests.unit.jobs.dispatch.test_routing import ACME, OTHER, shard, snapshot, to_pool, to_shard


def order(found: Preview) -> list[str]:
    return [place.shard for place in found.places]


def reasons(found: Preview, name: str) -> str:
    (place,) = [place for place in found.places if place.shard == name]
    return "; ".join(place.reasons)


def why_not(found: Preview, name: str) -> str:
    (one,) = [one for one in found.excluded if one.shard == name]
    return one.why


MANY = snapshot(
    shard("plain", "git", slots=2, running=1),
    shard("wide", "browser+git"),
    shard("mine", "git", pool="own"),
    shard("dear", "git", pool="premium"),
    shard("theirs", "git", pool="other"),
    shard("other-kind", "browser"),
    shard("ill", "git", pool="own", unhealthy="silent since 12:00:00 UTC"),
    rights=(to_pool("own", 50), to_pool("premium", 10), to_shard("wide", 90, default=True)),
)


def test_the_order_is_the_routers() -> None:
    found = preview(ACME, ["git"], MANY)
    assert order(found) == ["wide", "dear", "mine", "plain"]
    assert [place.number for place in found.places] == [1, 2, 3, 4]


def test_each_place_has_its_reasons() -> None:
    found = preview(ACME, ["git"], MANY)
    assert reasons(found, "wide") == "the tenant's default; over-qualified by 1: browser; 0 of 1 slots in use"
    assert reasons(found, "mine").startswith("assigned with priority 50, a fallback; has just what is needed")
    assert reasons(found, "plain").endswith("any tenant may use it; has just what is needed; 1 of 2 slots in use")


def test_whatever_cannot_says_why() -> None:
    found = preview(ACME, ["git"], MANY)
    assert why_not(found, "theirs") == "belongs to the pool other, to which this tenant is not assigned"
    assert why_not(found, "other-kind") == "lacks git"
    assert why_not(found, "ill") == "silent since 12:00:00 UTC"


def test_a_busy_shard_keeps_its_place_and_takes_the_job_later() -> None:
    where = snapshot(shard("busy", running=1), shard("free", "browser+git"))
    found = preview(ACME, ["git"], where)
    assert [(place.shard, place.takes_now) for place in found.places] == [("busy", False), ("free", True)]
    assert (found.goes, found.verdict) == (True, "It goes to the queue cap.browser+git at once.")


def test_what_is_on_its_way_takes_a_slot() -> None:
    found = preview(ACME, ["git"], snapshot(shard("one"), sent={"cap.git": 1}))
    assert not found.goes
    assert reasons(found, "one").endswith("0 of 1 slots in use and 1 on the way: busy")


def test_every_shard_is_in_one_of_the_lists() -> None:
    found = preview(OTHER, ["git", "browser"], MANY)
    assert sorted(order(found) + [one.shard for one in found.excluded]) == sorted(one.name for one in MANY.shards)


@pytest.mark.parametrize("needs", [["git"], ["browser"], ["browser", "git"], ["database"]])
@pytest.mark.parametrize("tenant", [ACME, OTHER])
def test_it_never_says_other_things_than_the_router(needs: list[str], tenant: int) -> None:
    decision, found = route(tenant, needs, MANY), preview(tenant, needs, MANY)
    assert found.goes is isinstance(decision, Route)
    first = next((place for place in found.places if place.takes_now), None)
    assert (first.queue if first else None) == (decision.queue if isinstance(decision, Route) else None)


def test_without_shards_it_says_so() -> None:
    found = preview(ACME, ["git"], Snapshot([]))
    assert (found.places, found.excluded) == ((), ())
    assert "no shard" in found.verdict
