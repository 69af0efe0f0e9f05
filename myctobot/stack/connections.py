"""Open connections of a server process, counted in total and by address."""

from __future__ import annotations

import asyncio
import resource
import time
from collections import Counter
from dataclasses import dataclass
from typing import Final

import structlog

from myctobot.lib.addresses import address_key

# Descriptors for everything that is not a connection: databases, brokers, upstreams, files.
RESERVED_FILES: Final = 256
_LOG_EVERY_S: Final = 10.0
log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class ConnectionLimits:
    """Limits of the connections of one process.

    Attributes:
        total: maximum number of open connections.
        per_address: maximum number of them from one address.
        header_timeout_s: time for the headers of a request, and for the first byte of a new connection.
    """

    total: int
    per_address: int
    header_timeout_s: float


@dataclass(frozen=True)
class Refusal:
    """Reason for which a server closes a connection: a status of HTTP, and a sentence for people."""

    status: int
    sentence: str


TOO_MANY: Final = Refusal(503, "This server has too many connections. Try again later.")
TOO_MANY_FROM_ADDRESS: Final = Refusal(429, "Your address has too many connections. Close some of them.")


class Connections:
    """Connections of one process. A connection keeps its transport while its protocol changes to WebSocket.

    Args:
        limits: of this process.
    """

    def __init__(self, limits: ConnectionLimits) -> None:
        self._limits = limits
        self._addresses: dict[asyncio.BaseTransport, str] = {}
        self._count_by_address: Counter[str] = Counter()
        self._refused, self._logged_at = 0, -_LOG_EVERY_S

    def open(self, transport: asyncio.BaseTransport, host: str | None) -> Refusal | None:
        """Count a new connection, or return the reason for refusing it.

        Args:
            transport: of the connection.
            host: address of the client; None for a Unix socket, whose clients have no address.
        """
        address = address_key(host)
        refusal = self._refusal(address)
        if refusal is None:
            self._addresses[transport] = address
            self._count_by_address[address] += 1
        else:
            self._log(refusal, host)
        return refusal

    def close(self, transport: asyncio.BaseTransport) -> None:
        """Stop counting a connection; refused ones were never counted."""
        address = self._addresses.pop(transport, None)
        if address is None:
            return
        self._count_by_address[address] -= 1
        if not self._count_by_address[address]:
            del self._count_by_address[address]

    def count(self) -> int:
        """Return the number of open connections."""
        return len(self._addresses)

    def _refusal(self, address: str) -> Refusal | None:
        if self.count() >= self._limits.total:
            return TOO_MANY
        if address and self._count_by_address[address] >= self._limits.per_address:
            return TOO_MANY_FROM_ADDRESS
        return None

    def _log(self, refusal: Refusal, host: str | None) -> None:
        """Log refusals, but not each one, because an attacker decides on their number."""
        self._refused += 1
        now = time.monotonic()
        if now - self._logged_at >= _LOG_EVERY_S:
            log.warning("connections.refused", count=self._refused, status=refusal.status, last_address=host)
            self._refused, self._logged_at = 0, now


def raise_file_limit() -> int:
    """Raise the limit on open files as far as this process may, and return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def connections_within(files: int, wanted: int) -> int:
    """Return the number of connections that a limit on open files allows, at most ``wanted``."""
    # Half of a very low limit remains, because a server without connections is useless.
    allowed = max(files - RESERVED_FILES, files // 2)
    if files == resource.RLIM_INFINITY or allowed >= wanted:
        return wanted
    log.warning("connections.limited_by_open_files", connections=allowed, wanted=wanted, open_files=files)
    return allowed
