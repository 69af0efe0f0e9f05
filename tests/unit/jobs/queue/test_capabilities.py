"""What a tenant may ask for: the router's rule about who may use which shard, seen from the form."""

from __future__ import annotations

import pytest

from jobs.dispatch.routing import AssignmentView, ShardView
from jobs.queue.capabilities import offers_in
from tests.unit.jobs.dispatch.test_routing import ACME, OTHER, shard, snapshot, to_pool, to_shard

PREMIUM = shard("closed", "git+browser", pool="premium")


@pytest.mark.parametrize(
    ("shards", "rights", "offered"),
    [
        ((), (), {}),
        ((shard("one"),), (), {"git": (1, 1)}),
        ((shard("one"), shard("two", "git+node")), (), {"git": (2, 2), "node": (1, 1)}),
        # One that takes no jobs now may take them later: it is offered, and counted.
        ((shard("one", unhealthy="is draining"), shard("two")), (), {"git": (2, 1)}),
        ((shard("one", running=1),), (), {"git": (1, 1)}),
        # A pool is for those who are assigned to it, or to a shard of it.
        ((shard("one"), PREMIUM), (), {"git": (1, 1)}),
        ((shard("one"), PREMIUM), (to_pool("premium"),), {"browser": (1, 1), "git": (2, 2)}),
        ((shard("one"), PREMIUM), (to_shard("closed"),), {"browser": (1, 1), "git": (2, 2)}),
        ((PREMIUM,), (to_pool("other"),), {}),
    ],
)
def test_offers(
    shards: tuple[ShardView, ...], rights: tuple[AssignmentView, ...], offered: dict[str, tuple[int, int]]
) -> None:
    found = offers_in(ACME, snapshot(*shards, rights=rights))
    assert {offer.slug: (offer.shards, offer.ready) for offer in found} == offered
    assert [offer.slug for offer in found] == sorted(offered)


def test_anothers_rights_are_not_mine() -> None:
    assert offers_in(OTHER, snapshot(PREMIUM, rights=(to_pool("premium"),))) == []
