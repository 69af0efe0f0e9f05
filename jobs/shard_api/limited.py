"""Shard API with its own threads, database connections and turns, so that no other part of a process delays it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import structlog
from django.conf import settings
from django.db import Error as DatabaseError

from jobs.shard_api.app import KnownShardKeys, ShardApi
from myctobot.errors import MyctobotError
from myctobot.lib.crypto import digest
from myctobot.tenants.authentication import token_in
from myctobot.web.call_limiter import CallLimiter
from myctobot.web.call_limits import Account, AccountLimits, CallLimits, CallSource
from myctobot.web.process_caches import ProcessCaches
from myctobot.web.response import RawResponse
from myctobot.web.threads import THREADS, RequestThreads
from shards.errors import UnknownShardKey

log = structlog.get_logger(__name__)

POOL: Final = "shard_api"
# A thread and a connection for keys that this process does not know yet, so that guesses do not delay known shards.
_KEYS_POOL: Final = "shard_keys"
# All shards of a site may have one address, and after a restart all their keys are unknown.
_ADDRESS_PER_MINUTE: Final = 6000
_ADDRESS_WAITING: Final = 1000
# More than threads, because a thread keeps its database connection only while another call waits for it.
_CONCURRENT: Final = 2 * THREADS
# A shard with hundreds of runners stays below these. They only keep a compromised shard from delaying the others.
_SHARD: Final = AccountLimits(
    "shard", per_minute=60_000, concurrent=_CONCURRENT, waiting=4000, streams=1, held_bytes=256 * 1024 * 1024
)


class ShardKeyFinder:
    """Accounts of shards by their keys.

    Args:
        threads: read the database.
        keys: known keys of this process.
    """

    def __init__(self, threads: RequestThreads, keys: KnownShardKeys) -> None:
        self._threads, self._keys = threads, keys

    def credentials_of(self, scope: Any) -> str | None:
        """Return the digest of the key of a call."""
        authorization = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        token = token_in(authorization)
        return digest(token) if token else None

    def known(self, credentials: str) -> CallSource | None:
        """Return the accounts of a shard whose key was checked before."""
        return _source(credentials) if self._keys.remembers(credentials) else None

    async def find(self, credentials: str) -> CallSource | None:
        """Return the accounts of a shard; None if the key is unknown, or the database does not answer."""
        try:
            await self._threads.run(self._keys.check, credentials)
        except UnknownShardKey:
            return None
        except DatabaseError as error:
            log.warning("shard_key.not_checked", error=str(error))
            return None
        return _source(credentials)


def limited_shard_api(
    caches: ProcessCaches,
    limits: CallLimits,
    write_error: Callable[[str, MyctobotError], RawResponse],
    *,
    behind_proxy: bool,
) -> CallLimiter:
    """Return the ASGI application of the shard API.

    Args:
        caches: of this process.
        limits: those of addresses apply to callers without the key of a shard.
        write_error: makes the response to a refused call.
        behind_proxy: a reverse proxy passes the addresses of shards on.
    """
    address = replace(
        limits.address,
        per_minute=max(limits.address.per_minute, _ADDRESS_PER_MINUTE),
        waiting=max(limits.address.waiting, _ADDRESS_WAITING),
    )
    statement_timeout_s = settings.SHARD_STATEMENT_TIMEOUT_S
    # Half of the threads remain for shards.
    strangers = replace(
        limits.strangers, per_minute=10 * address.per_minute, concurrent=THREADS // 2, waiting=2 * address.waiting
    )
    return CallLimiter(
        ShardApi(RequestThreads(pool=POOL, statement_timeout_s=statement_timeout_s), caches),
        replace(limits, address=address, strangers=strangers, concurrent=_CONCURRENT),
        write_error,
        finder=ShardKeyFinder(
            RequestThreads(1, pool=_KEYS_POOL, statement_timeout_s=statement_timeout_s), caches.get(KnownShardKeys)
        ),
        behind_proxy=behind_proxy,
    )


def _source(key_hash: str) -> CallSource:
    return CallSource(Account(f"shard:{key_hash}", _SHARD), Account(f"all:{key_hash}", _SHARD))
