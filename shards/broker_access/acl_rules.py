"""Rights of a shard's broker user, as arguments of ACL SETUSER; pure.

A shard reads its queues, receives and answers control commands, and publishes Celery events;
``workers/worker/redis_transport.py`` needs nothing else. Each right is a separate selector. With one common list of
commands and keys, a shard that may send answers could also write to its queues.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from myctobot.contract.names import is_slug

# Redis has selectors since 7.0. Valkey, a fork of 7.2, has them in every version.
MINIMUM: Final = (7, 0)
_WITH_CLIENT_SETINFO: Final = (7, 2)
PREFIX: Final = "shard-"
# Keys with answers to control commands; kombu names them <id of the sender>.reply.celery.pidbox.
REPLIES: Final = "*.reply.celery.pidbox"

# Names that ``myctobot.contract`` creates. They contain no wildcard, and no space that could start another rule.
_QUEUE = re.compile(r"(?:cap|shard)\.[a-z0-9@+-]+")
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class BrokerAccount:
    """Account of a shard: its queues and the SHA-256 digest (hexadecimal) of its password."""

    name: str
    queues: Sequence[str]
    password_hash: str = field(repr=False)


@dataclass(frozen=True)
class KnownUser:
    """User that exists in the broker."""

    queues: frozenset[str]
    password_hashes: frozenset[str] = field(repr=False)


def parse_version(text: str) -> tuple[int, int]:
    """Parse ``redis_version`` of INFO, where Valkey names the compatible Redis version; return (0, 0) on failure."""
    match = re.match(r"(\d+)\.(\d+)", text)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def supports(version: tuple[int, int]) -> bool:
    """Tell whether a server of this version supports the shards' users."""
    return version >= MINIMUM


def user_name(shard: str) -> str:
    """Return the name of a shard's user. All users with this prefix belong to MyCTOBot."""
    return PREFIX + shard


def shard_of(user: str) -> str | None:
    """Return the shard of a user, or None for users without the prefix."""
    return user.removeprefix(PREFIX) if user.startswith(PREFIX) else None


def arguments(access: BrokerAccount, *, version: tuple[int, int], database: int = 0) -> tuple[str, ...]:
    """Return the arguments of ``ACL SETUSER``, which replace all earlier rights of the user.

    Args:
        access: the account.
        version: version of the server.
        database: number of the broker's database, which is part of its channel names.

    Raises:
        ValueError: a name, queue or digest is malformed and could inject another rule.
    """
    _check(access)
    keys = " ".join(f"~{queue}" for queue in sorted(set(access.queues)))
    common = ["+ping", "+unsubscribe", "+punsubscribe"]
    # Both affect only the connection that sends them.
    common += ["+client|setinfo"] if version >= _WITH_CLIENT_SETINFO else []
    common += ["+select"] if database else []
    return (
        user_name(access.name),
        *("reset", "on", f"#{access.password_hash}", "resetchannels", "-@all", *common),
        f"(+brpop {keys})",
        f"(+lpush ~{REPLIES})",
        f"(+psubscribe &/{database}.celery.pidbox)",
        f"(+publish &/{database}.celeryev/worker.* &/{database}.celeryev/task.*)",
    )


def _check(access: BrokerAccount) -> None:
    if not is_slug(access.name):
        raise ValueError(f"{access.name!r} is not the name of a shard")
    if not access.queues:
        raise ValueError(f"{access.name} has no queue")
    for queue in access.queues:
        if not _QUEUE.fullmatch(queue):
            raise ValueError(f"{queue!r} is not a queue of shards")
    if not _DIGEST.fullmatch(access.password_hash):
        raise ValueError(f"the password of {access.name} is not a SHA-256 digest")


def queues_in(selectors: Iterable[Sequence[str]]) -> frozenset[str]:
    """Return the queues that a user may read, from the selectors of ACL GETUSER (alternating names and values)."""
    found: set[str] = set()
    for selector in selectors:
        fields = dict(zip(selector[::2], selector[1::2], strict=False))
        if "+brpop" in fields.get("commands", "").split():
            found |= {key.removeprefix("~") for key in fields.get("keys", "").split()}
    return frozenset(found)
