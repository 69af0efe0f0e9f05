"""Who may read the metrics; pure. They name shards, classes and pools, so nobody may who was not allowed to."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address

Network = IPv4Network | IPv6Network


def has_token(sent: str | None, token: str) -> bool:
    """Whether a request came with the token; without a token in the settings none is right.

    Args:
        sent: of the header ``Authorization: Bearer``.
        token: of the settings.
    """
    return bool(token) and sent is not None and hmac.compare_digest(sent.encode(), token.encode())


def comes_from(address: str | None, networks: Sequence[Network], *, was_forwarded: bool) -> bool:
    """Whether a request came from one of some networks.

    Args:
        address: whoever is connected; None when that is no address.
        networks: of the settings.
        was_forwarded: a proxy sent it on, so that the address is the proxy's, whoever asked.
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
