"""Limits on the calls of tenants and strangers, in each web process."""

from __future__ import annotations

from typing import Final

from myctobot.env import whole_number
from myctobot.web.call_limits import AccountLimits, CallLimits

_MB: Final = 1024 * 1024
# All addresses together may use this many times the share of one, because an attacker may have many.
_ADDRESSES: Final = 10


def read_call_limits() -> CallLimits:
    """Read the limits from the environment.

    Raises:
        ImproperlyConfigured: a value is not a whole number of at least one.
    """
    concurrent = whole_number("CONCURRENT_CALLS", 16, minimum=2)
    address = _account("address", 1200, 4, 100, 200, 8 * _MB)
    strangers = AccountLimits(
        name="strangers",
        per_minute=_ADDRESSES * address.per_minute,
        # The other half remains for callers with a key.
        concurrent=concurrent // 2,
        waiting=_ADDRESSES * address.waiting,
        streams=_ADDRESSES * address.streams,
        held_bytes=_ADDRESSES * address.held_bytes,
        is_own=False,
    )
    return CallLimits(
        key=_account("key", 12_000, 12, 1000, 1000, 32 * _MB),
        tenant=_account("tenant", 24_000, 12, 2000, 2000, 64 * _MB),
        address=address,
        strangers=strangers,
        concurrent=concurrent,
        wait_s=whole_number("CALL_WAIT_S", 30, minimum=1),
    )


def _account(name: str, per_minute: int, concurrent: int, waiting: int, streams: int, held_bytes: int) -> AccountLimits:
    """Read the limits of a key, a tenant or an address; the numbers are the defaults."""
    suffix = f"_PER_{name.upper()}"
    return AccountLimits(
        name=name,
        per_minute=whole_number(f"CALLS_PER_MINUTE{suffix}", per_minute, minimum=1),
        concurrent=whole_number(f"CONCURRENT_CALLS{suffix}", concurrent, minimum=1),
        waiting=whole_number(f"WAITING_CALLS{suffix}", waiting, minimum=1),
        streams=whole_number(f"OPEN_STREAMS{suffix}", streams, minimum=1),
        held_bytes=held_bytes,
    )
