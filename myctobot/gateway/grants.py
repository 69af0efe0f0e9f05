"""Whose call it is: a job's token is resolved anew for every call, so it ends when the job does."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

from asgiref.sync import sync_to_async
from django.db import close_old_connections


class Grant(Protocol):
    """What a live token stands for."""

    @property
    def tenant_id(self) -> int: ...

    @property
    def job_id(self) -> str: ...

    @property
    def attempt(self) -> int: ...

    def anthropic_key(self) -> str | None:
        """Decrypt the tenant's provider key; None when the job has none."""


# Answers None for a token that is unknown, or whose job has ended or moved on to another attempt.
GrantSource = Callable[[str], Awaitable[Grant | None]]


class DatabaseGrants:
    """The real source: asks ``find``, and gives the database connection back at once.

    Django keeps a connection until the response has ended, and an answer may stream for minutes.
    """

    def __init__(self, find: GrantSource) -> None:
        self._find = find

    async def __call__(self, token: str) -> Grant | None:
        try:
            return await self._find(token)
        finally:
            await sync_to_async(close_old_connections)()


async def provider_key(grant: Grant) -> str | None:
    """Decrypt the grant's provider key, in a thread since that may ask the database."""
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
    """The shipped fake: tokens in a dictionary."""

    def __init__(self, grants: dict[str, MemoryGrant] | None = None) -> None:
        self.grants = dict(grants or {})

    async def __call__(self, token: str) -> Grant | None:
        return self.grants.get(token)

    def end(self, job_id: str) -> None:
        """Forget every token of a job, as its end does."""
        self.grants = {token: grant for token, grant in self.grants.items() if grant.job_id != job_id}
