"""Grants of gateway tokens. Every call resolves its token again, so that a token ends with its job."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

from asgiref.sync import sync_to_async
from django.db import close_old_connections


class GatewayGrant(Protocol):
    """Rights of a valid token."""

    @property
    def tenant_id(self) -> int: ...

    @property
    def job_id(self) -> str: ...

    @property
    def attempt(self) -> int: ...

    def anthropic_key(self) -> str | None:
        """Decrypt the tenant's provider key; None when the job has none."""


# Public id of a job and number of its attempt.
AttemptKey = tuple[str, int]


def attempt_key(grant: GatewayGrant) -> AttemptKey:
    return (grant.job_id, grant.attempt)


# Returns None for an unknown token, and when the job has ended or has another attempt by now.
GrantSource = Callable[[str], Awaitable[GatewayGrant | None]]
# Returns those attempts whose tokens still grant access.
LiveGrants = Callable[[frozenset[AttemptKey]], Awaitable[frozenset[AttemptKey]]]


class DatabaseGrants:
    """Source of grants in the database. It asks ``find`` or ``live`` and releases the connection immediately.

    Django keeps a connection until the response has ended, and a response may stream for minutes.
    """

    def __init__(self, find: GrantSource, live: LiveGrants) -> None:
        self._find, self._live = find, live

    async def __call__(self, token: str) -> GatewayGrant | None:
        try:
            return await self._find(token)
        finally:
            await sync_to_async(close_old_connections)()

    async def live(self, attempts: frozenset[AttemptKey]) -> frozenset[AttemptKey]:
        try:
            return await self._live(attempts)
        finally:
            await sync_to_async(close_old_connections)()


async def provider_key(grant: GatewayGrant) -> str | None:
    """Decrypt the grant's provider key in a thread, because that may query the database."""
    try:
        return await sync_to_async(grant.anthropic_key)()
    finally:
        await sync_to_async(close_old_connections)()


@dataclass(frozen=True)
class MemoryGrant:
    tenant_id: int
    job_id: str
    attempt: int = 1
    key: str | None = field(default=None, repr=False)

    def anthropic_key(self) -> str | None:
        return self.key


class MemoryGrants:
    """Shipped fake of a source of grants: tokens in a dictionary."""

    def __init__(self, grants: dict[str, MemoryGrant] | None = None) -> None:
        self.grants = dict(grants or {})

    async def __call__(self, token: str) -> GatewayGrant | None:
        return self.grants.get(token)

    async def live(self, attempts: frozenset[AttemptKey]) -> frozenset[AttemptKey]:
        return attempts & {attempt_key(grant) for grant in self.grants.values()}

    def end(self, job_id: str) -> None:
        """Remove every token of a job, like the end of the job does."""
        self.grants = {token: grant for token, grant in self.grants.items() if grant.job_id != job_id}
