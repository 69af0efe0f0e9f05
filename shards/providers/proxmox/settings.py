"""Settings of the provider and their validation; pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from myctobot.contract.names import is_slug

_TOKEN_ID = re.compile(r"[^\s:/!]+@[A-Za-z][A-Za-z0-9._-]+![A-Za-z][A-Za-z0-9._-]+")
# A valid part of an API path; it excludes '..'.
_PART = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
_VOLUME = re.compile(r"[A-Za-z][A-Za-z0-9._-]*:vztmpl/[A-Za-z0-9][A-Za-z0-9._+~-]*")
_FINGERPRINT = re.compile(r"(?:[0-9A-Fa-f]{2}:){31}[0-9A-Fa-f]{2}|[0-9A-Fa-f]{64}")
_EGRESS = re.compile(r"(?:(?P<proto>tcp|udp)/)?(?P<host>\[[0-9A-Fa-f:]+\](?:/\d+)?|[0-9.]+(?:/\d+)?):(?P<port>\d{1,5})")


@dataclass(frozen=True)
class Settings:
    """Settings of the connection to Proxmox and of the resources to use; ``docs/proxmox.md`` explains them.

    Attributes:
        templates: by name, the VMID of a template container or the volume of an archive (``local:vztmpl/…``).
        owner: marks this control plane's containers in a shared pool.
        egress: targets that shards may reach, ``[tcp/|udp/]address:port``.
        ssh_from: networks that may connect to the shards' SSH.
    """

    url: str = ""
    token_id: str = ""
    token_secret: str = field(default="", repr=False)
    node: str = ""
    storage: str = ""
    bridge: str = ""
    pool: str = ""
    templates: Mapping[str, str] = field(default_factory=dict)
    owner: str = "myctobot"
    ca_file: str = ""
    fingerprint: str = ""
    sdn_zone: str = "localnetwork"
    vlan: int = 0
    ip: str = "dhcp"
    nameserver: str = ""
    egress: tuple[str, ...] = ()
    ssh_from: tuple[str, ...] = ()
    ssh_public_keys: str = ""
    full_clones: bool = False
    call_timeout_s: int = 30
    task_timeout_s: int = 900

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Settings:
        """Convert the setting ``PROXMOX``; lists become tuples."""
        plain: dict[str, Any] = {key: tuple(one) if isinstance(one, list) else one for key, one in values.items()}
        return cls(**plain)


@dataclass(frozen=True)
class Egress:
    """Target that shards may reach."""

    proto: str
    address: str
    port: int


def egress_of(text: str) -> Egress:
    """Parse ``[tcp/|udp/]address[/prefix]:port``.

    Raises:
        ValueError: it has another form, such as a host name, which the firewall does not support.
    """
    found = _EGRESS.fullmatch(text.strip())
    if found is None or not 0 < int(found["port"]) < 65536:
        raise ValueError(text)
    address = found["host"].replace("[", "").replace("]", "")
    ipaddress.ip_network(address, strict=False)
    return Egress(found["proto"] or "tcp", address, int(found["port"]))


def mistakes(settings: Settings) -> list[str]:
    """Return the problems of the settings, each with the name of its variable."""
    return [*_connection(settings), *_names(settings), *_templates(settings.templates), *_network(settings)]


def _connection(settings: Settings) -> Iterator[str]:
    address = urlsplit(settings.url)
    if address.scheme != "https" or not address.hostname:
        yield "PROXMOX_URL must be the API's address, such as https://pve.example:8006."
    if address.username or address.query or address.fragment:
        yield "PROXMOX_URL must not contain a user, query or fragment; the token has its own variables."
    if not _TOKEN_ID.fullmatch(settings.token_id):
        yield "PROXMOX_TOKEN_ID must be a full token id, such as mctb@pve!shards."
    if settings.token_id.startswith("root@pam!"):
        yield "PROXMOX_TOKEN_ID belongs to root@pam; use a separate user with the rights in docs/proxmox.md."
    # A file with the secret may end with a line break, which is removed before use.
    secret = settings.token_secret.strip()
    if not secret or not secret.isprintable():
        yield "PROXMOX_TOKEN_SECRET (or PROXMOX_TOKEN_SECRET_FILE) must contain the token's secret, on one line."
    if settings.fingerprint and not _FINGERPRINT.fullmatch(settings.fingerprint):
        yield "PROXMOX_FINGERPRINT must be the certificate's SHA-256 in hex, as 'pvenode cert info' shows it."
    if settings.fingerprint and settings.ca_file:
        yield "Set PROXMOX_CA_FILE or PROXMOX_FINGERPRINT, not both."


def _names(settings: Settings) -> Iterator[str]:
    for name in ("node", "storage", "bridge", "pool", "sdn_zone"):
        if not _PART.fullmatch(getattr(settings, name)):
            yield f"PROXMOX_{name.upper()} must be a name: letters, digits, '.', '_' and '-'."
    if not is_slug(settings.owner):
        yield "PROXMOX_OWNER must be a lower-case slug."


def _templates(templates: Mapping[str, str]) -> Iterator[str]:
    if not templates:
        yield "PROXMOX_TEMPLATES names no template, such as general=9000 or general=local:vztmpl/debian-12.tar.zst."
    for name, source in templates.items():
        if not is_slug(name):
            yield f"PROXMOX_TEMPLATES: '{name[:60]}' must be a lower-case slug."
        if not source.isascii() or not (_is_vmid(source) or _VOLUME.fullmatch(source)):
            yield f"PROXMOX_TEMPLATES: {name[:60]} must be a VMID or a volume such as local:vztmpl/debian-12.tar.zst."


def _is_vmid(text: str) -> bool:
    return text.isdigit() and 100 <= int(text) <= 999_999_999


def _network(settings: Settings) -> Iterator[str]:
    if not settings.egress:
        yield "PROXMOX_EGRESS is empty, so shards could reach nothing: list control plane, gateway, broker and proxy."
    for text in settings.egress:
        try:
            egress_of(text)
        except ValueError:
            yield f"PROXMOX_EGRESS: '{text[:60]}' must be address:port, such as 10.0.0.2:443 or udp/10.0.0.2:53."
    for text in (*settings.ssh_from, *([settings.nameserver] if settings.nameserver else [])):
        if not _is_network(text):
            yield f"'{text[:60]}' in PROXMOX_SSH_FROM or PROXMOX_NAMESERVER must be an address or a network."
    if settings.ip not in ("dhcp", "manual"):
        yield "PROXMOX_IP must be dhcp or manual."
    if not 0 <= settings.vlan <= 4094:
        yield "PROXMOX_VLAN must be a number from 1 to 4094, or 0 for none."


def _is_network(text: str) -> bool:
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return True
