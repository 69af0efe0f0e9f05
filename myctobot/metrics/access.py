"""Access to the metrics, which name shards, classes and pools; pure."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address

Network = IPv4Network | IPv6Network


def has_token(sent: str | None, token: str) -> bool:
    """Tell whether a request carries the token; without a token in the settings no request does.

    Args:
        sent: the token of the header ``Authorization: Bearer``.
        token: the token of the settings.
    """
    return bool(token) and sent is not None and hmac.compare_digest(sent.encode(), token.encode())


def comes_from(address: str | None, networks: Sequence[Network], *, was_forwarded: bool) -> bool:
    """Tell whether a request comes from one of some networks.

    Args:
        address: the address of the peer; None if it has none.
        networks: the networks of the settings.
        was_forwarded: whether a proxy forwarded the request, so that the address is the proxy's.
    """
    if address is None or was_forwarded:
        return False
    try:
        found = ip_address(address)
    except ValueError:
        return False
    if isinstance(found, IPv6Address) and found.ipv4_mapped:
        found = found.ipv4_mapped
    return any(found in network for network in networks)
