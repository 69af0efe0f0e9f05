"""Links of a shard to the control plane, the broker and the gateway, which carry its keys and tokens."""

from __future__ import annotations

from dataclasses import dataclass

from myctobot.contract.secure_links import Network, link_problem

# Name of the setting that lists the networks.
PLAIN_NETWORKS = "plain_networks"


@dataclass(frozen=True)
class LinkPolicy:
    """Networks in which links without TLS are secure.

    Attributes:
        networks: as the configuration states them.
        any_address: the shard enrolled with a release whose configurations do not state them. The control plane checked
            the addresses then, and it never accepted a name.
    """

    networks: tuple[Network, ...] = ()
    any_address: bool = False

    def problem(self, name: str, url: str) -> str | None:
        """Return why a link is not secure, as a sentence with the remedy, or None.

        Args:
            name: name of the setting that holds the URL.
            url: address of the other end.
        """
        return link_problem(name, url, self.networks, PLAIN_NETWORKS, lambda address: self.any_address)
