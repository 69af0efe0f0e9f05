"""Facts of a shard on its page, from its last heartbeat."""

from __future__ import annotations

from typing import Any

import pytest

from shards.admin.shard_summary import at_a_glance
from shards.models import Shard
from tests.factories.control_plane import make_shard

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    ("network", "said"),
    [("job", "each job has its own"), ("shard", "shared by the shard's jobs"), ("<b>", None), (None, None)],
)
def test_the_network_of_the_agents(network: Any, said: str | None) -> None:
    shard, _ = make_shard("one")
    Shard.objects.filter(pk=shard.pk).update(report={"network": network})
    shard.refresh_from_db()
    assert at_a_glance(shard)["network"] == said
