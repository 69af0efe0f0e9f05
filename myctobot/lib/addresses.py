"""Addresses of clients."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv6Address, ip_address


def address_key(host: str | None) -> str:
    """Return the part of an address that one client controls: an IPv4 address, or the first half of an IPv6 one."""
    if not host:
        return ""
    try:
        address = ip_address(host)
    except ValueError:
        return host
    if not isinstance(address, IPv6Address):
        return str(address)
    return str(address.ipv4_mapped or IPv6Address(int(address) >> 64 << 64))


def client_of(peer: str | None, headers: Iterable[tuple[bytes, bytes]], *, behind_proxy: bool) -> str | None:
    """Return the address of the client of a request.

    Args:
        peer: the other end of the connection; None for a Unix socket.
        headers: of the request.
        behind_proxy: the other end is a reverse proxy, whose entry is the last one in ``X-Forwarded-For``. The
            entries before it come from the client, who can write anything there.
    """
    if not behind_proxy:
        return peer
    given = [value for name, value in headers if name == b"x-forwarded-for"]
    last = given[-1].decode("latin-1").rpartition(",")[2].strip() if given else ""
    try:
        return str(ip_address(last))
    except ValueError:
        return peer
