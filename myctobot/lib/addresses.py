"""Addresses of clients."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address


def client_address(peer: str | None, forwarded_for: str | None, *, behind_proxy: bool) -> str:
    """Return the address of the client of a request; empty if the connection has none, as a Unix socket.

    Args:
        peer: address of the other end of the connection.
        forwarded_for: value of ``X-Forwarded-For``; several headers are joined with commas. A client can send any
            entries, and the proxy appends the last.
        behind_proxy: all connections come from a proxy that appends to this header.
    """
    if behind_proxy and forwarded_for and (found := _parsed(forwarded_for.rpartition(",")[2])):
        return found
    return _parsed(peer or "")


def address_key(host: str | None) -> str:
    """Return the part of an address that one client controls: an IPv4 address, or the first half of an IPv6 one."""
    address = _parsed(host or "")
    if ":" not in address:
        return address or host or ""
    return str(IPv6Address(int(IPv6Address(address)) >> 64 << 64))


def _parsed(text: str) -> str:
    try:
        found = ip_address(text.strip())
    except ValueError:
        return ""
    if isinstance(found, IPv6Address):
        # A zone is a name of an interface. A socket for both versions shows IPv4 addresses as mapped ones.
        found = found.ipv4_mapped or IPv6Address(int(found))
    return str(found)
