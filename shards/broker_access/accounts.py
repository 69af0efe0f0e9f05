"""Broker accounts of the shards, as the database defines them."""

from __future__ import annotations

from collections.abc import Iterator

from myctobot.lib.crypto import digest, new_token
from shards.broker_access import redis_acl
from shards.broker_access.acl_rules import BrokerAccount
from shards.broker_access.lock import one_at_a_time
from shards.models import Shard

_PAGE = 500


def accounts() -> Iterator[BrokerAccount]:
    """Yield the account of every shard that has its own password."""
    rows = Shard.objects.exclude(broker_password_hash=None).select_related("pool").order_by("name")
    for shard in rows.iterator(chunk_size=_PAGE):
        yield BrokerAccount(shard.name, tuple(shard.queues), shard.broker_password_hash or "")


def grant_account(shard: Shard, *, present_url: str = "", address: str | None = None) -> str:
    """Create or update a shard's broker user and return its ``broker_url``.

    Args:
        shard: the shard.
        present_url: its present URL; a valid password in it is kept, otherwise a new one is created.
        address: address of the broker; SHARD_BROKER_URL if None.

    Raises:
        BrokerTooOld, BrokerRefused, BrokerUnreachable: see ``redis_acl.grant``; nothing is changed.
    """
    password = redis_acl.password_in(present_url, shard.name) or ""
    with one_at_a_time():
        if digest(password) != shard.broker_password_hash:
            password = new_token("mctr")
            shard.broker_password_hash = digest(password)
            shard.save(update_fields=["broker_password_hash"])
        redis_acl.grant(shard.name, shard.queues, digest(password))
    return redis_acl.broker_url_for(shard.name, password, address)
