"""Limits on the calls of a key, a tenant or an address, and their headers; pure."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

MINUTE_S: Final = 60


@dataclass(frozen=True)
class AccountLimits:
    """Limits of one key, tenant or address in one process.

    Attributes:
        name: name of the limits in headers and sentences: key, tenant or address.
        per_minute: calls in a minute, all of which may come at once.
        concurrent: calls that are carried out at the same time.
        waiting: further calls that wait for their turn, send their body, or have not read their response.
        streams: open event streams and WebSockets.
        held_bytes: size of the bodies and responses of all its calls, above which new calls are refused.
        is_own: false if many callers share the account, so that one must not learn how much the others use.
    """

    name: str
    per_minute: int
    concurrent: int
    waiting: int
    streams: int
    held_bytes: int
    is_own: bool = True


@dataclass(frozen=True)
class CallLimits:
    """Limits of the calls of one process.

    Attributes:
        key: of each API key, and of each logged-in user.
        tenant: of all keys and users of a tenant.
        address: of each address whose calls carry no known key.
        strangers: of all such addresses.
        concurrent: calls that are carried out at the same time.
        wait_s: longest wait for a turn, in seconds.
    """

    key: AccountLimits
    tenant: AccountLimits
    address: AccountLimits
    strangers: AccountLimits
    concurrent: int
    wait_s: float


class Account(NamedTuple):
    """Key, tenant, user or address whose calls are counted."""

    id: str
    limits: AccountLimits


class CallSource(NamedTuple):
    """Accounts of a call: a member of a group. Groups take turns, and so do the members of a group."""

    member: Account
    group: Account


class Quota(NamedTuple):
    """Remaining calls of an account.

    Attributes:
        remaining: calls that may come now.
        reset_s: seconds until all calls of a minute may come.
    """

    limits: AccountLimits
    remaining: int
    reset_s: int


def quota_headers(quotas: Iterable[Quota]) -> list[tuple[bytes, bytes]]:
    """Return the headers of draft-ietf-httpapi-ratelimit-headers-10."""
    policies, states = [], []
    for limits, remaining, reset_s in quotas:
        policies.append(f'"{limits.name}";q={limits.per_minute};w={MINUTE_S}')
        policies.append(f'"{limits.name}-concurrent";q={limits.concurrent};qu="concurrent-requests"')
        states.append(f'"{limits.name}";r={remaining};t={reset_s}')
    return [(b"ratelimit-policy", ", ".join(policies).encode()), (b"ratelimit", ", ".join(states).encode())]


class TokenBucket:
    """Number of calls that an account may make now. It refills evenly, and is full after a minute without a call."""

    __slots__ = ("_at", "_size", "_tokens")

    def __init__(self, per_minute: int, now: float) -> None:
        self._size = self._tokens = float(per_minute)
        self._at = now

    def remaining(self, now: float) -> float:
        """Return the number of calls, with a fraction."""
        # Two threads of a clock may disagree by a little.
        passed = max(0.0, now - self._at)
        self._tokens, self._at = min(self._size, self._tokens + passed * self._size / MINUTE_S), max(now, self._at)
        return self._tokens

    def take(self) -> None:
        """Count one call."""
        self._tokens -= 1

    def seconds_until(self, calls: float, now: float) -> int:
        """Return the whole seconds until so many calls are possible."""
        return max(0, math.ceil((calls - self.remaining(now)) * MINUTE_S / self._size))

    def reset_s(self, now: float) -> int:
        """Return the whole seconds until the bucket is full."""
        return self.seconds_until(self._size, now)
