"""Address of the client of a request."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address, ip_network

UNKNOWN = "unknown"


def client_address(peer: str | None, forwarded_for: str | None, *, behind_proxy: bool) -> str:
    """Return the address of a client; ``unknown`` if the connection has none.

    Args:
        peer: address of the connection.
        forwarded_for: value of ``X-Forwarded-For``. A client can send any entries, and the proxy appends the last.
        behind_proxy: whether all connections come from a proxy that appends to this header.
    """
    if behind_proxy and forwarded_for and (found := _parsed(forwarded_for.rpartition(",")[2])):
        return found
    return _parsed(peer or "") or UNKNOWN


def network_of(address: str) -> str:
    """Return what one client controls: an IPv4 address, or the /64 network of an IPv6 address."""
    try:
        found = ip_address(address)
    except ValueError:
        return address
    return str(ip_network(f"{found}/64", strict=False)) if isinstance(found, IPv6Address) else str(found)


def _parsed(text: str) -> str:
    try:
        found = ip_address(text.strip())
    except ValueError:
        return ""
    if isinstance(found, IPv6Address):
        # A zone is a name of an interface. A socket for both versions shows IPv4 addresses as mapped ones.
        found = found.ipv4_mapped or IPv6Address(int(found))
    return str(found)
