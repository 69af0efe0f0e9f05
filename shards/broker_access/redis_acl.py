"""Makes, changes and removes the shards' users in the broker. What they may do is decided in ``rules``.

The control plane's own user (REDIS_URL) must be allowed to: ``+acl``, ``+client|kill``, ``+info`` beside what it
does anyway. Redis keeps users over a restart only when it has an ``aclfile``; ``reconcile`` repairs one that has not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, unquote, urlsplit, urlunsplit

import structlog
from django.conf import settings
from redis import Redis, RedisError, ResponseError
from redis.exceptions import AuthenticationError, NoPermissionError

from myctobot.lib.crypto import digest, new_token
from shards.broker_access import acl_rules as rules
from shards.broker_access.acl_rules import Access, Known
from shards.errors import BrokerRefused, BrokerTooOld, BrokerUnreachable

log = structlog.get_logger(__name__)

_TIMEOUT_S: Final = 5
# A worker hears of new queues with its next heartbeat; until then it asks for the old ones.
LEAVING_S: Final = 30
_LEAVING: Final = "myctobot:broker-access:leaving:{}"
# An answer to a control command that nobody fetched; kombu gives it no end.
_REPLY_S: Final = 60
_PAGE: Final = 500


@dataclass(frozen=True)
class Reconciled:
    """The names of the shards whose users were not as they should be."""

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.removed)


def version() -> tuple[int, int]:
    """The server's version, as far as Redis goes. Raises as ``grant`` does."""
    with _client() as client:
        return _version(client)


def is_supported() -> bool:
    """Whether shards can have users of their own there. Raises as ``version`` does."""
    return rules.supports(version())


def grant(name: str, queues: Sequence[str], password_hash: str) -> None:
    """Let a shard, known by the digest of its password, take from these queues and from no others.

    Call it before the shard is told of the queues. What it may take from now it may for another half minute, since it
    is told by its next heartbeat. Another password than it had ends its connections.

    Raises:
        BrokerTooOld: the server cannot limit users so far.
        BrokerUnreachable: it does not answer; try again.
        BrokerRefused: our own user lacks a right.
    """
    access = Access(name, tuple(queues), password_hash)
    with _client() as client:
        found = _supported(client)
        known = _known(client, name)
        if known and (leaving := known.queues - set(queues)):
            client.set(_LEAVING.format(name), " ".join(sorted(leaving)), ex=LEAVING_S)
        _apply(client, found, access, known, _leaving(client, [name])[name])
        _persist(client)


def rotate(name: str, queues: Sequence[str]) -> tuple[str, str]:
    """Give a shard another password, which ends its connections; return it and its digest. Raises as ``grant``."""
    password = new_token("mctr")
    grant(name, queues, digest(password))
    return password, digest(password)


def revoke(name: str) -> None:
    """Remove a shard's user; the server ends its connections. Harmless when there is none. Raises as ``grant``."""
    with _client() as client:
        if rules.supports(_version(client)):
            client.acl_deluser(rules.user_name(name))
            client.delete(_LEAVING.format(name))
            _persist(client)


def listed() -> dict[str, Known]:
    """The shards that have users, and what each may take from. Raises as ``grant`` does."""
    with _client() as client:
        return {name: known for name in _names(client) if (known := _known(client, name))}


def reconcile(wanted: Iterable[Access]) -> Reconciled:
    """Make the users what they should be, and remove those of shards that are not named.

    Calling it again changes nothing. On a server that is too old there is nothing to do. Raises as ``grant`` does.
    """
    accesses = {access.name: access for access in wanted}
    with _client() as client:
        found = _version(client)
        if not rules.supports(found):
            return Reconciled()
        _expire_replies(client)
        before = _lines(client)
        gone = sorted(before.keys() - accesses.keys())
        leaving = _leaving(client, sorted(accesses))
        for name, access in accesses.items():
            _apply(client, found, access, _known(client, name) if name in before else None, leaving[name])
        if gone:
            client.acl_deluser(*map(rules.user_name, gone))
        after = _lines(client)
        result = Reconciled(
            added=tuple(sorted(after.keys() - before.keys())),
            changed=tuple(sorted(name for name in after.keys() & before.keys() if after[name] != before[name])),
            removed=tuple(gone),
        )
        if result:
            _persist(client)
        return result


def broker_url_for(name: str, password: str, address: str | None = None) -> str:
    """The address that shards use (SHARD_BROKER_URL, when it is not given), with a shard's own user in it."""
    parts = urlsplit(address or settings.SHARD_BROKER_URL)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{quote(rules.user_name(name))}:{quote(password, safe='')}@{host}"))


def password_in(broker_url: str, name: str) -> str | None:
    """The password in such an address, when it is this shard's own user's."""
    parts = urlsplit(broker_url)
    return unquote(parts.password) if parts.password and parts.username == rules.user_name(name) else None


# --- The server ---------------------------------------------------------------------------------------


@contextmanager
def _client() -> Iterator[Redis]:
    client = Redis.from_url(
        settings.REDIS_URL,
        decode_responses=True,
        socket_timeout=_TIMEOUT_S,
        socket_connect_timeout=_TIMEOUT_S,
    )
    try:
        with client:
            yield client
    except (AuthenticationError, NoPermissionError) as error:
        raise BrokerRefused from error
    except RedisError as error:
        raise BrokerUnreachable from error


def _version(client: Redis) -> tuple[int, int]:
    info: Any = client.info("server")
    return rules.parse_version(str(info["redis_version"]))


def _supported(client: Redis) -> tuple[int, int]:
    found = _version(client)
    if not rules.supports(found):
        raise BrokerTooOld(
            f"The broker is a Redis {found[0]}.{found[1]}, which cannot give each shard a user of its own. "
            f"Install Redis {rules.MINIMUM[0]}.{rules.MINIMUM[1]} or newer, or Valkey (for the embedded stack: "
            "redis-server or valkey-server on PATH), or set REDIS_URL to one."
        )
    return found


def _apply(client: Redis, found: tuple[int, int], access: Access, known: Known | None, leaving: frozenset[str]) -> None:
    allowed = Access(access.name, sorted({*access.queues, *leaving}), access.password_hash)
    database = int(client.connection_pool.connection_kwargs.get("db") or 0)
    # redis-py's own method knows no selectors.
    arguments = rules.arguments(allowed, version=found, database=database)
    client.execute_command("ACL SETUSER", *arguments)  # type: ignore[no-untyped-call]  # redis-py leaves it without
    if known and known.password_hashes != {access.password_hash}:
        client.client_kill_filter(user=rules.user_name(access.name))


def _known(client: Redis, name: str) -> Known | None:
    answer: Any = client.acl_getuser(rules.user_name(name))
    if not answer:
        return None
    return Known(rules.queues_in(answer.get("selectors", [])), frozenset(answer["passwords"]))


def _names(client: Redis) -> list[str]:
    users: Any = client.acl_users()
    return [name for user in users if (name := rules.shard_of(user)) is not None]


def _lines(client: Redis) -> dict[str, str]:
    """How the server itself writes each shard's user."""
    lines: Any = client.acl_list()
    users = ((line.split(" ", 2)[1], line) for line in lines)
    return {name: line for user, line in users if (name := rules.shard_of(user)) is not None}


def _leaving(client: Redis, names: Sequence[str]) -> dict[str, frozenset[str]]:
    kept: Any = client.mget([_LEAVING.format(name) for name in names]) if names else []
    return {name: frozenset((queues or "").split()) for name, queues in zip(names, kept, strict=True)}


def _persist(client: Redis) -> None:
    try:
        client.acl_save()
    except ResponseError as error:
        # Without an aclfile there is nothing to write to; ``reconcile`` makes the users again after a restart.
        if "not configured to use an ACL file" not in str(error):
            log.warning("broker.users_not_saved", error=str(error))


def _expire_replies(client: Redis) -> None:
    """Give an end to answers that came too late to be fetched, so that no shard fills the broker with them."""
    with client.pipeline(transaction=False) as pipe:
        for key in client.scan_iter(match=rules.REPLIES, count=_PAGE):
            pipe.expire(key, _REPLY_S, nx=True)
        pipe.execute()
