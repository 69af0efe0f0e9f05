"""Capabilities that a tenant may request, by the router's rule about eligible shards."""

from __future__ import annotations

import pytest

from jobs.dispatch.routing import AssignmentView, RoutableShard
from jobs.queue.capabilities import capabilities_in
from tests.unit.jobs.dispatch.test_routing import ACME, OTHER, shard, snapshot, to_pool, to_shard

PREMIUM = shard("closed", "git+browser", pool="premium")


@pytest.mark.parametrize(
    ("shards", "rights", "offered"),
    [
        ((), (), {}),
        ((shard("one"),), (), {"git": (1, 1)}),
        ((shard("one"), shard("two", "git+node")), (), {"git": (2, 2), "node": (1, 1)}),
        # A shard that takes no jobs now may take them later, so its capabilities are listed.
        ((shard("one", unhealthy="is draining"), shard("two")), (), {"git": (2, 1)}),
        ((shard("one", running=1),), (), {"git": (1, 1)}),
        # Only tenants with an assignment to a pool, or to a shard of it, may use it.
        ((shard("one"), PREMIUM), (), {"git": (1, 1)}),
        ((shard("one"), PREMIUM), (to_pool("premium"),), {"browser": (1, 1), "git": (2, 2)}),
        ((shard("one"), PREMIUM), (to_shard("closed"),), {"browser": (1, 1), "git": (2, 2)}),
        ((PREMIUM,), (to_pool("other"),), {}),
    ],
)
def test_available_capabilities(
    shards: tuple[RoutableShard, ...], rights: tuple[AssignmentView, ...], offered: dict[str, tuple[int, int]]
) -> None:
    found = capabilities_in(ACME, snapshot(*shards, assignments=rights))
    assert {offer.slug: (offer.shards, offer.ready) for offer in found} == offered
    assert [offer.slug for offer in found] == sorted(offered)


def test_assignments_of_another_tenant_do_not_count() -> None:
    assert capabilities_in(OTHER, snapshot(PREMIUM, assignments=(to_pool("premium"),))) == []
