"""Addresses of this machine, for providers whose containers run on it."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import psutil


def is_own_address(address: IPv4Address | IPv6Address) -> bool:
    """Tell whether an address belongs to this machine, so that traffic from its containers does not leave it."""
    own = (one.address for interface in psutil.net_if_addrs().values() for one in interface)
    # A link-local address has its interface after '%'.
    return str(address) in {text.partition("%")[0] for text in own}
