"""Check that a shard's key, its broker password and its jobs' tokens travel only over secure links.

A link is secure with TLS, on loopback, if the shard's provider guarantees it, or in a network of SHARD_PLAIN_NETWORKS.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from django.conf import settings

from myctobot.contract.secure_links import Address, link_problem, plain_address
from shards.errors import InsecureLink
from shards.models import Shard
from shards.providers.registry import provider


def require_secure_links(shard: Shard) -> list[str]:
    """Check the addresses that the shard gets for the control plane, the broker and the gateway.

    Returns:
        The secure addresses without TLS. The shard's configuration states them, because the shard checks links too.

    Raises:
        InsecureLink: one of them would carry a secret in clear text; the sentence names the setting.
        ProviderError: the shard's provider is unknown or not configured.
    """
    names = ("SHARD_CONTROL_URL", "SHARD_BROKER_URL", "GATEWAY_URL")

    def is_guarded(address: Address) -> bool:
        return bool(shard.provider) and provider(shard.provider).guards_link(address)

    return accept_plain_links({name: getattr(settings, name) for name in names}, is_guarded)


def accept_plain_links(urls: Mapping[str, str], is_guarded: Callable[[Address], bool]) -> list[str]:
    """Check addresses by the names of their settings; see ``require_secure_links``.

    Args:
        urls: addresses by the names of their settings.
        is_guarded: tells whether traffic from the shard to an address cannot be read on its way.
    """
    for name, url in urls.items():
        if problem := link_problem(name, url, settings.SHARD_PLAIN_NETWORKS, "SHARD_PLAIN_NETWORKS", is_guarded):
            raise InsecureLink(problem)
    found = (plain_address(url) for url in urls.values())
    return sorted({str(address) for address in found if address is not None})
