"""Creates, changes and removes the shards' users in the broker; ``acl_rules`` defines their rights.

The control plane's user (REDIS_URL) additionally needs ``+acl``, ``+client|kill`` and ``+info``. Redis keeps users over
a restart only with an ``aclfile``; without one, ``reconcile`` creates them again.
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
from shards.broker_access import acl_rules
from shards.broker_access.acl_rules import BrokerAccount, KnownUser
from shards.errors import BrokerRefused, BrokerTooOld, BrokerUnreachable

log = structlog.get_logger(__name__)

_TIMEOUT_S: Final = 5
# A worker learns its new queues with its next heartbeat and reads the old ones until then.
LEAVING_S: Final = 30
_LEAVING: Final = "myctobot:broker-access:leaving:{}"
# Expiry of unread answers to control commands, which kombu does not set.
_REPLY_S: Final = 60
_PAGE: Final = 500


@dataclass(frozen=True)
class Reconciled:
    """Names of the shards whose users were added, changed or removed."""

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.removed)


def version() -> tuple[int, int]:
    """Return the version of Redis that the server is compatible with. Raises the errors of ``grant``."""
    with _client() as client:
        return _version(client)


def is_supported() -> bool:
    """Tell whether the server supports the shards' users. Raises the errors of ``grant``."""
    return acl_rules.supports(version())


def grant(name: str, queues: Sequence[str], password_hash: str) -> None:
    """Let a shard read only these queues, with the password that has this digest.

    Call this before the shard learns its queues. It may read its earlier queues for another half minute, until its next
    heartbeat. A changed password ends its connections.

    Raises:
        BrokerTooOld: the server has no selectors.
        BrokerUnreachable: the server does not answer; try again.
        BrokerRefused: the control plane's user lacks a right.
    """
    access = BrokerAccount(name, tuple(queues), password_hash)
    with _client() as client:
        found = _supported(client)
        known = _known(client, name)
        if known and (leaving := known.queues - set(queues)):
            client.set(_LEAVING.format(name), " ".join(sorted(leaving)), ex=LEAVING_S)
        _apply(client, found, access, known, _leaving(client, [name])[name])
        _persist(client)


def rotate(name: str, queues: Sequence[str]) -> tuple[str, str]:
    """Give a shard a new password, which ends its connections; return it and its digest. Raises as ``grant``."""
    password = new_token("mctr")
    grant(name, queues, digest(password))
    return password, digest(password)


def revoke(name: str) -> None:
    """Remove a shard's user, if it exists; the server ends its connections. Raises the errors of ``grant``."""
    with _client() as client:
        if acl_rules.supports(_version(client)):
            client.acl_deluser(acl_rules.user_name(name))
            client.delete(_LEAVING.format(name))
            _persist(client)


def listed() -> dict[str, KnownUser]:
    """Return the users of the shards by shard name. Raises the errors of ``grant``."""
    with _client() as client:
        return {name: known for name in _names(client) if (known := _known(client, name))}


def reconcile(wanted: Iterable[BrokerAccount]) -> Reconciled:
    """Make the broker's users match the accounts, and remove users of other shards.

    A repeated call changes nothing, and a call to a server that is too old does nothing. Raises the errors of
    ``grant``.
    """
    accesses = {access.name: access for access in wanted}
    with _client() as client:
        found = _version(client)
        if not acl_rules.supports(found):
            return Reconciled()
        _expire_replies(client)
        before = _acl_lines(client)
        gone = sorted(before.keys() - accesses.keys())
        leaving = _leaving(client, sorted(accesses))
        for name, access in accesses.items():
            _apply(client, found, access, _known(client, name) if name in before else None, leaving[name])
        if gone:
            client.acl_deluser(*map(acl_rules.user_name, gone))
        after = _acl_lines(client)
        result = Reconciled(
            added=tuple(sorted(after.keys() - before.keys())),
            changed=tuple(sorted(name for name in after.keys() & before.keys() if after[name] != before[name])),
            removed=tuple(gone),
        )
        if result:
            _persist(client)
        return result


def broker_url_for(name: str, password: str, address: str | None = None) -> str:
    """Return the address that shards use (by default SHARD_BROKER_URL) with a shard's user and password."""
    parts = urlsplit(address or settings.SHARD_BROKER_URL)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{quote(acl_rules.user_name(name))}:{quote(password, safe='')}@{host}"))


def password_in(broker_url: str, name: str) -> str | None:
    """Return the password in a broker URL if the URL has this shard's user."""
    parts = urlsplit(broker_url)
    return unquote(parts.password) if parts.password and parts.username == acl_rules.user_name(name) else None


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
    return acl_rules.parse_version(str(info["redis_version"]))


def _supported(client: Redis) -> tuple[int, int]:
    found = _version(client)
    if not acl_rules.supports(found):
        raise BrokerTooOld(
            f"The broker is Redis {found[0]}.{found[1]}, which cannot give each shard its own user. "
            f"Install Redis {acl_rules.MINIMUM[0]}.{acl_rules.MINIMUM[1]} or newer, or Valkey (for the embedded stack: "
            "redis-server or valkey-server on PATH), or set REDIS_URL to such a server."
        )
    return found


def _apply(
    client: Redis, found: tuple[int, int], access: BrokerAccount, known: KnownUser | None, leaving: frozenset[str]
) -> None:
    allowed = BrokerAccount(access.name, sorted({*access.queues, *leaving}), access.password_hash)
    database = int(client.connection_pool.connection_kwargs.get("db") or 0)
    # redis-py's method does not support selectors.
    arguments = acl_rules.arguments(allowed, version=found, database=database)
    client.execute_command("ACL SETUSER", *arguments)  # type: ignore[no-untyped-call]  # redis-py has no annotation for it
    if known and known.password_hashes != {access.password_hash}:
        client.client_kill_filter(user=acl_rules.user_name(access.name))


def _known(client: Redis, name: str) -> KnownUser | None:
    answer: Any = client.acl_getuser(acl_rules.user_name(name))
    if not answer:
        return None
    return KnownUser(acl_rules.queues_in(answer.get("selectors", [])), frozenset(answer["passwords"]))


def _names(client: Redis) -> list[str]:
    users: Any = client.acl_users()
    return [name for user in users if (name := acl_rules.shard_of(user)) is not None]


def _acl_lines(client: Redis) -> dict[str, str]:
    """Return each shard's user as the server prints it."""
    lines: Any = client.acl_list()
    users = ((line.split(" ", 2)[1], line) for line in lines)
    return {name: line for user, line in users if (name := acl_rules.shard_of(user)) is not None}


def _leaving(client: Redis, names: Sequence[str]) -> dict[str, frozenset[str]]:
    kept: Any = client.mget([_LEAVING.format(name) for name in names]) if names else []
    return {name: frozenset((queues or "").split()) for name, queues in zip(names, kept, strict=True)}


def _persist(client: Redis) -> None:
    try:
        client.acl_save()
    except ResponseError as error:
        # Without an aclfile, users cannot be saved; ``reconcile`` creates them again after a restart.
        if "not configured to use an ACL file" not in str(error):
            log.warning("broker.users_not_saved", error=str(error))


def _expire_replies(client: Redis) -> None:
    """Set an expiry on unread answers, so that no shard can fill the broker with them."""
    with client.pipeline(transaction=False) as pipe:
        for key in client.scan_iter(match=acl_rules.REPLIES, count=_PAGE):
            pipe.expire(key, _REPLY_S, nx=True)
            # There may be millions of them.
            if len(pipe) >= _PAGE:
                pipe.execute()
        pipe.execute()
