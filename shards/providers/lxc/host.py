"""Resources of this host for containers, from the settings: folders, user ids and addresses."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv4Network
from pathlib import Path
from urllib.parse import urlsplit

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

# User and group ids of one container, including systemd's highest one and a user for each agent.
IDS_PER_CONTAINER = 65536
_MAX_CONTAINERS = 250
# A veth is named by bridge and slot, and the kernel allows 15 characters.
_BRIDGE = re.compile(r"[a-z][a-z0-9]{0,9}")
_PORT = re.compile(r"[1-9][0-9]{0,4}")
_MAX_PORT = 65535
# Paths appear in mount options and LXC's configuration, which do not support quoting.
_PATH = re.compile(r"/[A-Za-z0-9._/-]+")


@dataclass(frozen=True)
class Slot:
    """Slot of one container: its address, network device and user ids."""

    number: int
    address: IPv4Address
    mac: str
    veth: str
    first_id: int


@dataclass(frozen=True)
class LxcHost:
    """Configuration of containers on this host.

    Args:
        path: folder of all data.
        owner: owner of the containers; containers of other owners in the folder are never touched.
        network: network of the containers; the bridge has its first address.
        allowed: addresses and TCP ports on this host that containers may reach besides the proxy.
        egress_port: port of the filtering proxy on the bridge's address.
        first_id: first user id outside for containers.
        authorized_keys: public keys for SSH as root, one per line.
        private_networks: private networks that the proxy may reach for allowed names.
    """

    path: Path
    owner: str
    bridge: str
    network: IPv4Network
    allowed: tuple[tuple[IPv4Address, int], ...] = ()
    egress_port: int = 8888
    first_id: int = 1_000_000_000
    authorized_keys: str = ""
    private_networks: tuple[IPv4Network, ...] = ()

    @property
    def address(self) -> IPv4Address:
        return self.network.network_address + 1

    @property
    def slots(self) -> list[Slot]:
        """Return all slots, one per address except those of the network, the bridge and the broadcast."""
        return [self.slot(number) for number in range(2, min(self.network.num_addresses - 1, _MAX_CONTAINERS + 2))]

    def slot(self, number: int) -> Slot:
        address = self.network.network_address + number
        mac = ":".join(f"{byte:02x}" for byte in (0x02, 0x6D, *address.packed))
        return Slot(number, address, mac, f"{self.bridge}-{number}", self.first_id + number * IDS_PER_CONTAINER)


def host_from_settings() -> LxcHost:
    """Return the configuration from the settings ``LXC_*``.

    Raises:
        ImproperlyConfigured: a setting is not valid; the message names it.
    """
    path, bridge = Path(settings.LXC_PATH), settings.LXC_BRIDGE
    if not _PATH.fullmatch(str(path)):
        raise ImproperlyConfigured(
            f"LXC_PATH is '{path}'; it must be absolute and consist of letters, digits and . _ - /"
        )
    if not _BRIDGE.fullmatch(bridge):
        raise ImproperlyConfigured(f"LXC_BRIDGE is {bridge!r}; use at most 10 lower-case letters and digits")
    network = _network("LXC_NETWORK", settings.LXC_NETWORK)
    if not 16 <= network.prefixlen <= 29:
        raise ImproperlyConfigured(f"LXC_NETWORK is '{network}'; use a prefix from /16 to /29")
    return LxcHost(
        path=path,
        owner=settings.LXC_OWNER,
        bridge=bridge,
        network=network,
        allowed=(*_own_services(network.network_address + 1), *_allowed(settings.LXC_ALLOWED)),
        egress_port=settings.EGRESS_PORT,
        first_id=settings.LXC_FIRST_ID,
        authorized_keys=_keys(settings.LXC_AUTHORIZED_KEYS_FILE),
        private_networks=tuple(_network("EGRESS_PRIVATE_NETWORKS", one) for one in settings.EGRESS_PRIVATE_NETWORKS),
    )


def _network(setting: str, text: str) -> IPv4Network:
    try:
        network = IPv4Network(text)
    except ValueError:
        network = None
    if network is None or not network.is_private:
        raise ImproperlyConfigured(f"{setting} contains {text!r}; use a private IPv4 network, such as 10.213.0.0/24")
    return network


def _allowed(endpoints: Iterable[str]) -> tuple[tuple[IPv4Address, int], ...]:
    found = []
    for endpoint in endpoints:
        address, _, port = endpoint.rpartition(":")
        try:
            known = IPv4Address(address)
        except AddressValueError:
            known = None
        if known is None or not _PORT.fullmatch(port) or int(port) > _MAX_PORT:
            raise ImproperlyConfigured(
                f"LXC_ALLOWED contains {endpoint!r}; use an IPv4 address of this host and a port: 10.213.0.1:8000"
            )
        found.append((known, int(port)))
    return tuple(found)


def _own_services(address: IPv4Address) -> tuple[tuple[IPv4Address, int], ...]:
    """Return the control plane's own services on the bridge's address."""
    urls = [urlsplit(url) for url in (settings.SHARD_CONTROL_URL, settings.GATEWAY_URL, settings.SHARD_BROKER_URL)]
    standard = {"http": 80, "https": 443, "redis": 6379, "rediss": 6379}
    return tuple((address, url.port or standard[url.scheme]) for url in urls if url.hostname == str(address))


def _keys(file: str) -> str:
    return Path(file).read_text(encoding="utf-8") if file else ""
