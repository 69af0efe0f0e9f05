"""Check of network addresses: only global unicast addresses are public.

The tables are IANA's registries of special-purpose addresses, without the ranges that the module ``ipaddress`` of each
supported Python refuses already. Its own copy of the registries is older than the last entries, and differs by version.

- https://www.iana.org/assignments/iana-ipv4-special-registry
- https://www.iana.org/assignments/iana-ipv6-special-registry
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

_SPECIAL_4: Final = tuple(
    map(
        IPv4Network,
        (
            "0.0.0.0/8",  # RFC 791: this network
            "100.64.0.0/10",  # RFC 6598: shared address space of providers
            "192.0.0.0/24",  # RFC 6890: protocol assignments, also those that are reachable
            "192.31.196.0/24",  # RFC 7535: AS112, answers for private reverse names
            "192.52.193.0/24",  # RFC 7450: multicast relays
            "192.88.99.0/24",  # RFC 7526: 6to4 relays, which lead into 6to4 networks
            "192.175.48.0/24",  # RFC 7534: AS112
            "198.18.0.0/15",  # RFC 2544: benchmarks
            "240.0.0.0/4",  # RFC 1112: reserved
        ),
    )
)
_SPECIAL_6: Final = tuple(
    map(
        IPv6Network,
        (
            "2001::/23",  # RFC 2928: protocol assignments, also those that are reachable; Teredo is unpacked before
            "2001:db8::/32",  # RFC 3849: documentation
            "2620:4f:8000::/48",  # RFC 7534: AS112
            "3fff::/20",  # RFC 9637: documentation
        ),
    )
)
# All allocated addresses are in this range. Python also calls others global, such as site-local fec0::/10.
_GLOBAL_UNICAST_6: Final = IPv6Network("2000::/3")
# RFC 6052: addresses of IPv4 hosts behind NAT64.
_NAT64: Final = IPv6Network("64:ff9b::/96")


def is_public_address(address: str) -> bool:
    """Tell whether an IP address is global unicast.

    Private, loopback, link-local, shared, reserved and special-purpose addresses are not, nor are IPv6 addresses that
    contain such an IPv4 address.

    Args:
        address: IPv4 or IPv6 address, which may have a zone such as ``%eth0``.
    """
    ip = ip_address(address.split("%", 1)[0])
    if isinstance(ip, IPv4Address):
        return ip.is_global and not ip.is_multicast and not any(ip in network for network in _SPECIAL_4)
    if (inner := _inner_address(ip)) is not None:
        return is_public_address(str(inner))
    is_special = ip not in _GLOBAL_UNICAST_6 or any(ip in network for network in _SPECIAL_6)
    return ip.is_global and not is_special


def _inner_address(ip: IPv6Address) -> IPv4Address | None:
    """Return the IPv4 address that an IPv6 address leads to, or None."""
    inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
    return IPv4Address(int(ip) & 0xFFFFFFFF) if inner is None and ip in _NAT64 else inner
