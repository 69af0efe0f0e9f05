"""Check that a shard's key and broker password travel only over secure links.

A link is secure with TLS, on loopback, if the shard's provider guarantees it, or in a network of SHARD_PLAIN_NETWORKS.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final
from urllib.parse import urlsplit

from django.conf import settings

from shards.errors import InsecureLink
from shards.models import Shard
from shards.providers.registry import provider

_TLS: Final = frozenset({"https", "rediss"})


def require_secure_links(shard: Shard) -> None:
    """Check the addresses that the shard gets for the control plane and the broker.

    Raises:
        InsecureLink: one of them would carry a secret in clear text; the sentence names the setting.
        ProviderError: the shard's provider is unknown or not configured.
    """
    urls = {"SHARD_CONTROL_URL": settings.SHARD_CONTROL_URL, "SHARD_BROKER_URL": settings.SHARD_BROKER_URL}
    for name, url in urls.items():
        address = plain_address(url)
        if address is None or _is_in(address, settings.SHARD_PLAIN_NETWORKS):
            continue
        if isinstance(address, str) or not shard.provider or not provider(shard.provider).guards_link(address):
            scheme = urlsplit(url).scheme
            raise InsecureLink(
                f"{name} is {scheme}://{address}, so the key of the shard {shard.name} would travel in clear text. Use "
                f"{'https' if scheme == 'http' else 'rediss'}://, or list the network in SHARD_PLAIN_NETWORKS if "
                "it has no other machines."
            )


def plain_address(url: str) -> IPv4Address | IPv6Address | str | None:
    """Return the host of a URL without TLS that leads to another machine; a name stays a text.

    Returns:
        None for a URL with TLS or on loopback.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme in _TLS or host == "localhost":
        return None
    try:
        address = ip_address(host)
    except ValueError:
        return host
    return None if address.is_loopback else address


def _is_in(address: IPv4Address | IPv6Address | str, networks: Iterable[IPv4Network | IPv6Network]) -> bool:
    return not isinstance(address, str) and any(address in network for network in networks)
