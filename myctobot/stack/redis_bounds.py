"""Bounds of the embedded Redis on memory and connections, so that no client can take the host's memory.

A full broker refuses messages and deletes none. No job is lost: PostgreSQL has the state, a message that was refused
is sent again at the claim deadline, and unread answers of shards expire within two minutes.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from shards.broker_access.acl_rules import supports

MB: Final = 1024 * 1024
# The broker holds small messages about jobs that a free slot is about to take.
MIN_MEMORY: Final = 64 * MB
MAX_MEMORY: Final = 256 * MB
HOST_SHARE: Final = 16
MAX_CLIENTS: Final = 2000
# The largest message of the product has less than 200 KiB. Redis does not accept a lower limit.
MAX_ARGUMENT: Final = MB
_CGROUP_LIMIT: Final = Path("/sys/fs/cgroup/memory.max")


def available_memory() -> int:
    """Return the memory in bytes that this host or this control group has."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit = _CGROUP_LIMIT.read_text().strip()
    except OSError:
        return memory
    return min(memory, int(limit)) if limit.isdigit() else memory


def memory_share(available: int) -> int:
    """Return the bytes of ``maxmemory`` for a host with so many bytes of memory."""
    return max(MIN_MEMORY, min(MAX_MEMORY, available // HOST_SHARE))


def bound_lines(version: tuple[int, int], memory: int) -> list[tuple[str, str]]:
    """Return names and values of the settings for a server of a version, with ``memory`` bytes for its data."""
    lines = [
        ("maxmemory", str(memory)),
        # Evicting would delete messages.
        ("maxmemory-policy", "noeviction"),
        ("maxclients", str(MAX_CLIENTS)),
        ("client-query-buffer-limit", str(MAX_ARGUMENT)),
        ("proto-max-bulk-len", str(MAX_ARGUMENT)),
        # A client that does not read its answers is disconnected: at the first limit, or after seconds at the second.
        ("client-output-buffer-limit", f"normal {16 * MB} {4 * MB} 30"),
        ("client-output-buffer-limit", f"pubsub {16 * MB} {4 * MB} 30"),
    ]
    if supports(version):
        # Beyond this share for all clients together, those with the largest buffers are disconnected.
        lines.append(("maxmemory-clients", "25%"))
    return lines
