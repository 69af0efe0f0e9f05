"""Preflight checks of the provider against Proxmox."""

from __future__ import annotations

from collections.abc import Iterator

from shards.providers.errors import ProviderError, ProviderRefused
from shards.providers.proxmox import parameters, permissions
from shards.providers.proxmox.client import Client
from shards.providers.proxmox.settings import Settings

# Earlier versions have other responses of ``/pools`` and ``/access/permissions``.
_MIN_VERSION = [8, 1]
_WITHOUT_SNAPSHOTS = frozenset({"cephfs", "cifs", "dir", "glusterfs", "iscsi", "lvm", "nfs"})


def problems_of(client: Client, settings: Settings) -> list[str]:
    """Return problems as sentences with their remedy; raise ``ProviderError`` if Proxmox cannot be reached."""
    found = [*_version(client), *_rights(client, settings)]
    # Without rights or node, every list below is empty, so that everything would be reported as missing.
    return (
        found
        or list(_node(client, settings))
        or [
            *_storage(client, settings),
            *_bridge(client, settings),
            *_pool(client, settings),
            *_templates(client, settings),
            *_firewall(client),
        ]
    )


def _version(client: Client) -> Iterator[str]:
    release = str(client.record("version").get("release") or "")
    parts = [int(part) for part in release.split(".")[:2] if part.isdigit()]
    if parts < _MIN_VERSION:
        yield f"Proxmox VE is {release or 'unknown'}; 8.1 or later is required, 9.1 for enrolment by variables."


def _rights(client: Client, settings: Settings) -> Iterator[str]:
    wanted = permissions.required(settings)
    granted = permissions.granted(client, wanted)
    yield from permissions.missing(wanted, granted)
    yield from permissions.excessive(
        {**granted, "/": permissions.granted(client, [permissions.RequiredPrivileges("/", frozenset())])["/"]}
    )


def _node(client: Client, settings: Settings) -> Iterator[str]:
    nodes = {str(row.get("node")): str(row.get("status")) for row in client.rows("nodes")}
    if settings.node not in nodes:
        yield f"PROXMOX_NODE: there is no node {settings.node}; there are: {', '.join(sorted(nodes))}."
    elif nodes[settings.node] == "offline":
        yield f"The node {settings.node} is offline."


def _storage(client: Client, settings: Settings) -> Iterator[str]:
    rows = client.rows("nodes", settings.node, "storage", storage=settings.storage)
    found = next((row for row in rows if row.get("storage") == settings.storage), None)
    if found is None:
        yield f"PROXMOX_STORAGE: the node {settings.node} has no storage {settings.storage}."
    elif "rootdir" not in str(found.get("content") or "").split(","):
        yield f"The storage {settings.storage} does not accept containers: add the content 'rootdir' to it."
    elif str(found.get("type")) in _WITHOUT_SNAPSHOTS:
        yield f"The storage {settings.storage} ({found['type']}) does not support snapshots: use ZFS, LVM-thin or Ceph."
    elif not found.get("enabled", 1) or not found.get("active", 1):
        yield f"The storage {settings.storage} is disabled or not available."


def _bridge(client: Client, settings: Settings) -> Iterator[str]:
    if settings.sdn_zone != "localnetwork":
        return
    bridges = {str(row.get("iface")) for row in client.rows("nodes", settings.node, "network", type="any_bridge")}
    if settings.bridge not in bridges:
        yield f"PROXMOX_BRIDGE: the node {settings.node} has no bridge {settings.bridge}."


def _pool(client: Client, settings: Settings) -> Iterator[str]:
    if not client.rows("pools", poolid=settings.pool):
        yield f"PROXMOX_POOL: there is no pool {settings.pool}: create it with 'pvesh create /pools'."


def _templates(client: Client, settings: Settings) -> Iterator[str]:
    for name, source in sorted(settings.templates.items()):
        try:
            yield from (
                _container(client, settings, name, source)
                if source.isdigit()
                else _archive(client, settings, name, source)
            )
        except ProviderRefused:
            raise
        except ProviderError as error:
            yield f"The template {name} ({source}) cannot be used: {error}"


def _container(client: Client, settings: Settings, name: str, source: str) -> Iterator[str]:
    config = client.record("nodes", settings.node, "lxc", source, "config")
    if dangers := parameters.template_dangers(config):
        yield f"The template {name} ({source}) is not safe to clone: {', '.join(dangers)}."
    storage = str(config.get("rootfs") or "").partition(":")[0]
    if storage and storage != settings.storage and not settings.full_clones:
        # A linked clone stays on its template's storage.
        wanted = [permissions.RequiredPrivileges(f"/storage/{storage}", frozenset({"Datastore.AllocateSpace"}))]
        yield from permissions.missing(wanted, permissions.granted(client, wanted))


def _archive(client: Client, settings: Settings, name: str, source: str) -> Iterator[str]:
    storage = source.partition(":")[0]
    rows = client.rows("nodes", settings.node, "storage", storage, "content", content="vztmpl")
    if source not in {str(row.get("volid")) for row in rows}:
        yield f"The template {name} is missing: download {source} to {settings.node} ('pveam download')."


def _firewall(client: Client) -> Iterator[str]:
    """Check the datacenter's firewall if the token has Sys.Audit on /, which is not required; see docs/proxmox.md."""
    try:
        options = client.record("cluster", "firewall", "options")
    except ProviderRefused:
        return
    if not int(options.get("enable") or 0):
        yield "The datacenter's firewall is off, so shards are not confined: switch it on (Datacenter > Firewall)."
