"""Preview of routing: eligible shards in order, and excluded shards."""

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


def reason_of_exclusion(found: Preview, name: str) -> str:
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
    assignments=(to_pool("own", 50), to_pool("premium", 10), to_shard("wide", 90, default=True)),
)


def test_the_order_is_that_of_the_router() -> None:
    found = preview(ACME, ["git"], MANY)
    assert order(found) == ["wide", "dear", "mine", "plain"]
    assert [place.number for place in found.places] == [1, 2, 3, 4]


def test_each_rank_has_reasons() -> None:
    found = preview(ACME, ["git"], MANY)
    assert reasons(found, "wide") == "the tenant's default; over-qualified by 1: browser; 0 of 1 slots in use"
    assert reasons(found, "mine").startswith(
        "assigned with priority 50, a fallback; has exactly the needed capabilities"
    )
    assert reasons(found, "plain").endswith(
        "any tenant may use it; has exactly the needed capabilities; 1 of 2 slots in use"
    )


def test_excluded_shards_have_a_reason() -> None:
    found = preview(ACME, ["git"], MANY)
    assert reason_of_exclusion(found, "theirs") == "belongs to the pool other, to which this tenant is not assigned"
    assert reason_of_exclusion(found, "other-kind") == "lacks git"
    assert reason_of_exclusion(found, "ill") == "silent since 12:00:00 UTC"


def test_a_busy_shard_keeps_its_rank() -> None:
    where = snapshot(shard("busy", running=1), shard("free", "browser+git"))
    found = preview(ACME, ["git"], where)
    assert [(place.shard, place.takes_now) for place in found.places] == [("busy", False), ("free", True)]
    assert (found.goes, found.verdict) == (True, "The job goes to the queue cap.browser+git at once.")


def test_a_sent_message_takes_a_slot() -> None:
    found = preview(ACME, ["git"], snapshot(shard("one"), sent={"cap.git": 1}))
    assert not found.goes
    assert reasons(found, "one").endswith("0 of 1 slots in use and 1 on the way: busy")


def test_every_shard_is_in_exactly_one_list() -> None:
    found = preview(OTHER, ["git", "browser"], MANY)
    assert sorted(order(found) + [one.shard for one in found.excluded]) == sorted(one.name for one in MANY.shards)


@pytest.mark.parametrize("needs", [["git"], ["browser"], ["browser", "git"], ["database"]])
@pytest.mark.parametrize("tenant", [ACME, OTHER])
def test_the_preview_agrees_with_the_router(needs: list[str], tenant: int) -> None:
    decision, found = route(tenant, needs, MANY), preview(tenant, needs, MANY)
    assert found.goes is isinstance(decision, Route)
    first = next((place for place in found.places if place.takes_now), None)
    assert (first.queue if first else None) == (decision.queue if isinstance(decision, Route) else None)


def test_without_shards() -> None:
    found = preview(ACME, ["git"], Snapshot([]))
    assert (found.places, found.excluded) == ((), ())
    assert "no shard" in found.verdict
