"""Shards as the database has them, and their users in the broker."""

from __future__ import annotations

from collections.abc import Iterator

from myctobot.lib.crypto import digest, new_token
from shards.broker_access import redis_acl as server
from shards.broker_access.acl_rules import Access
from shards.broker_access.lock import one_at_a_time
from shards.models.shard import Shard

_PAGE = 500


def accesses() -> Iterator[Access]:
    """What every shard that has a password of its own may do."""
    rows = Shard.objects.exclude(broker_password_hash=None).select_related("pool").order_by("name")
    for shard in rows.iterator(chunk_size=_PAGE):
        yield Access(shard.name, tuple(shard.queues), shard.broker_password_hash or "")


def admit(shard: Shard, *, present_url: str = "", address: str | None = None) -> str:
    """Give a shard a user of its own and return its ``broker_url``.

    Args:
        shard: whose.
        present_url: that it has now; a password in it that is still good stays, any other ends.
        address: of the broker; SHARD_BROKER_URL when None.

    Raises:
        BrokerTooOld, BrokerRefused, BrokerUnreachable: see ``server.grant``; nothing has changed.
    """
    password = server.password_in(present_url, shard.name) or ""
    with one_at_a_time():
        if digest(password) != shard.broker_password_hash:
            password = new_token("mctr")
            shard.broker_password_hash = digest(password)
            shard.save(update_fields=["broker_password_hash"])
        server.grant(shard.name, shard.queues, digest(password))
    return server.broker_url_for(shard.name, password, address)
