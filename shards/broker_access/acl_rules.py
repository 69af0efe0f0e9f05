"""What a shard's own user may do in the broker, as the arguments of ACL SETUSER.

A shard takes from its queues, hears control commands, answers them, and says Celery's events; ``workers/broker.py``
needs nothing else. Each right is a selector of its own: with one list of commands and one of keys, a shard that may
answer could also write into the queues that it may take from.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from myctobot.contract.jobs import is_slug

# Selectors came with Redis 7.0; Valkey, which began as 7.2, has had them always.
MINIMUM: Final = (7, 0)
_WITH_CLIENT_SETINFO: Final = (7, 2)
PREFIX: Final = "shard-"
# Of keys that hold answers to control commands: kombu calls them <asker's id>.reply.celery.pidbox.
REPLIES: Final = "*.reply.celery.pidbox"

# Of what ``myctobot.contract.jobs`` makes: no character of a pattern, and no space, which would begin another rule.
_QUEUE = re.compile(r"(?:cap|shard)\.[a-z0-9@+-]+")
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Access:
    """Who takes from which queues, and the SHA-256 digest (hexadecimal) of its password."""

    name: str
    queues: Sequence[str]
    password_hash: str = field(repr=False)


@dataclass(frozen=True)
class Known:
    """A user as the broker has it."""

    queues: frozenset[str]
    password_hashes: frozenset[str] = field(repr=False)


def parse_version(text: str) -> tuple[int, int]:
    """Read what INFO calls ``redis_version``; Valkey says there which Redis it is like. (0, 0) is none."""
    match = re.match(r"(\d+)\.(\d+)", text)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def supports(version: tuple[int, int]) -> bool:
    """Whether a server of that version can have users of shards."""
    return version >= MINIMUM


def user_name(shard: str) -> str:
    """Name a shard's user. All users of that prefix are MyCTOBot's."""
    return PREFIX + shard


def shard_of(user: str) -> str | None:
    """The inverse of ``user_name``; None for somebody else's user."""
    return user.removeprefix(PREFIX) if user.startswith(PREFIX) else None


def arguments(access: Access, *, version: tuple[int, int], database: int = 0) -> tuple[str, ...]:
    """What follows ``ACL SETUSER``, from the user's name on; all that it was before has ended.

    Args:
        access: whose, and to what.
        version: of the server.
        database: the broker's, which is part of the names of its channels.

    Raises:
        ValueError: a name, queue or digest is not what it should be, so that it could mean another rule.
    """
    _check(access)
    keys = " ".join(f"~{queue}" for queue in sorted(set(access.queues)))
    common = ["+ping", "+unsubscribe", "+punsubscribe"]
    # Both change nothing but the connection that says them.
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


def _check(access: Access) -> None:
    if not is_slug(access.name):
        raise ValueError(f"{access.name!r} is no shard's name")
    if not access.queues:
        raise ValueError(f"{access.name} has no queue")
    for queue in access.queues:
        if not _QUEUE.fullmatch(queue):
            raise ValueError(f"{queue!r} is no queue of shards")
    if not _DIGEST.fullmatch(access.password_hash):
        raise ValueError(f"the password of {access.name} is not given by its SHA-256 digest")


def queues_in(selectors: Iterable[Sequence[str]]) -> frozenset[str]:
    """Which queues a user may take from, by the selectors that ACL GETUSER answers (names and values in turn)."""
    found: set[str] = set()
    for selector in selectors:
        fields = dict(zip(selector[::2], selector[1::2], strict=False))
        if "+brpop" in fields.get("commands", "").split():
            found |= {key.removeprefix("~") for key in fields.get("keys", "").split()}
    return frozenset(found)
