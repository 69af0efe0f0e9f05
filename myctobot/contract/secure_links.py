"""Rule for links that carry keys, passwords and tokens of a shard.

A link is secure with TLS, on loopback, or in a network without other machines: one that an operator lists, or one that
the shard's provider guarantees. The control plane checks this before it issues a key, and each shard checks it again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final
from urllib.parse import urlsplit

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_TLS: Final = {"http": "https", "redis": "rediss"}


def plain_address(url: str) -> Address | str | None:
    """Return the host of a URL without TLS that leads to another machine; a name stays a text.

    Returns:
        None for a URL with TLS or on loopback.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme in _TLS.values() or host == "localhost":
        return None
    try:
        address = ip_address(host)
    except ValueError:
        return host
    # Linux connects to its own machine for 0.0.0.0, the address of a program that listens on all of them.
    return None if address.is_loopback or address.is_unspecified else address


def link_problem(
    name: str,
    url: str,
    networks: Iterable[Network],
    networks_name: str,
    is_guarded: Callable[[Address], bool] = lambda address: False,
) -> str | None:
    """Return why a link is not secure, as a sentence with the remedy, or None.

    Args:
        name: name of the setting that holds the URL.
        url: address of the other end; its user and password are not repeated.
        networks: networks in which links without TLS are secure.
        networks_name: name of the setting that lists them.
        is_guarded: tells whether something else guarantees that no one can read the traffic to an address.
    """
    address = plain_address(url)
    if address is None:
        return None
    is_name = isinstance(address, str)
    if not isinstance(address, str) and (any(address in network for network in networks) or is_guarded(address)):
        return None
    scheme = urlsplit(url).scheme
    # A name can resolve to another address later.
    listed = "write the host's address and list its network" if is_name else "list the network"
    return (
        f"{name} is {scheme}://{address}, so keys would travel in clear text. Use {_TLS.get(scheme, 'https')}://, or "
        f"{listed} in {networks_name} if it has no other machines."
    )


def parse_networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """Return networks from texts such as ``10.0.0.0/24`` or ``fd00::1``.

    Raises:
        ValueError: a text is neither a network nor an address; the message contains it.
    """
    return tuple(ip_network(text.strip()) for text in texts)
