"""Parameters of Proxmox's API for a container; pure."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from myctobot.contract.names import is_slug
from myctobot.errors import InvalidRequest
from shards.providers.base import ContainerSpec
from shards.providers.proxmox.naming import Marker
from shards.providers.proxmox.settings import Settings, egress_of

Parameters = dict[str, str | int | float]

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# Names that Proxmox reserves.
_RESERVED_SNAPSHOTS: Final = frozenset({"current", "vzdump", "pending"})
_SNAPSHOT = re.compile(r"[a-z][a-z0-9-]{1,37}")
_SIZE = re.compile(r"(?:^|,)size=(\d+(?:\.\d+)?)([KMGT]?)(?:,|$)")
_MB: Final = {"": 1 / 1024 / 1024, "K": 1 / 1024, "M": 1, "G": 1024, "T": 1024 * 1024}
# Features and entries that a template may have; others could expose the host.
_HARMLESS_FEATURES: Final = frozenset({"nesting", "keyctl"})
_HARMLESS_LXC: Final = ("lxc.cgroup2.", "lxc.prlimit.", "lxc.idmap", "lxc.environment", "lxc.signal.")


def check_spec(spec: ContainerSpec) -> None:
    """Check a specification before any of it reaches Proxmox or its configuration file.

    Raises:
        InvalidRequest: lists the problems by field.
    """
    fields: dict[str, list[str]] = {}
    if not is_slug(spec.name):
        fields["name"] = ["Use a lower-case slug: a-z, 0-9 and inner dashes, at most 40 characters."]
    if not 0.01 <= spec.cpus <= 8192:
        fields["cpus"] = ["Use a number from 0.01 to 8192."]
    if spec.memory_mb < 16:
        fields["memory_mb"] = ["Use at least 16 MB."]
    if spec.disk_mb < 128:
        fields["disk_mb"] = ["Use at least 128 MB."]
    if wrong := wrong_variables(spec.environment):
        fields["environment"] = wrong
    if fields:
        raise InvalidRequest("The container's specification is not valid.", fields=fields)


def wrong_variables(environment: Mapping[str, str]) -> list[str]:
    """Return the problems of variables, each of which Proxmox writes to one line of a configuration file."""
    return [
        f"{name[:60]!r}: use a name of letters, digits and '_', and a value of one line without control characters."
        for name, value in environment.items()
        if not _VARIABLE.fullmatch(name) or any(ord(char) < 32 or ord(char) == 127 for char in value)
    ]


def create_parameters(settings: Settings, spec: ContainerSpec, marker: Marker, ostemplate: str) -> Parameters:
    """Return the parameters of ``POST /nodes/{node}/lxc``.

    They have no tags: setting tags needs a right on the container, and rights come with the pool, which the container
    joins later.
    """
    keys = {"ssh-public-keys": settings.ssh_public_keys} if settings.ssh_public_keys else {}
    return {
        "vmid": marker.vmid,
        "ostemplate": ostemplate,
        "hostname": spec.name,
        "description": str(marker),
        "pool": settings.pool,
        "unprivileged": 1,
        "features": "nesting=1",
        "storage": settings.storage,
        "rootfs": f"{settings.storage}:{_gib(spec.disk_mb)}",
        **_resources(settings, spec),
        **keys,
    }


def clone_parameters(settings: Settings, spec: ContainerSpec, marker: Marker, *, full: bool) -> Parameters:
    """Return the parameters of ``POST …/{template}/clone``; a linked clone stays on its template's storage."""
    return {
        "newid": marker.vmid,
        "hostname": spec.name,
        "description": str(marker),
        "pool": settings.pool,
        **({"full": 1, "storage": settings.storage} if full else {}),
    }


def clone_changes(settings: Settings, spec: ContainerSpec, config: Mapping[str, Any]) -> Parameters:
    """Return the parameters of ``PUT …/config`` that replace the limits, networks and flags of a clone's template."""
    changes: Parameters = {**_resources(settings, spec), "tags": tag(settings)}
    features = str(config.get("features") or "")
    if "nesting=1" not in features.split(","):
        kept = [part for part in features.split(",") if part and not part.startswith("nesting=")]
        changes["features"] = ",".join([*kept, "nesting=1"])
    unwanted = [name for name in sorted(config) if re.fullmatch(r"net[1-9]\d*|protection|startup", name)]
    return {**changes, **({"delete": ",".join(unwanted)} if unwanted else {})}


def _resources(settings: Settings, spec: ContainerSpec) -> Parameters:
    return {
        "cores": math.ceil(spec.cpus),
        "cpulimit": spec.cpus,
        "memory": spec.memory_mb,
        "swap": 0,
        "onboot": 1,
        "net0": net0(settings),
        **({"nameserver": settings.nameserver} if settings.nameserver else {}),
    }


def net0(settings: Settings) -> str:
    """Return the only network interface, on the isolated bridge behind the firewall."""
    tag = f",tag={settings.vlan}" if settings.vlan else ""
    return f"name=eth0,bridge={settings.bridge},firewall=1,ip={settings.ip}{tag},type=veth"


def tag(settings: Settings) -> str:
    """Return the tag for the web interface; only the marker proves ownership."""
    return f"{settings.owner}-shard"


def firewall_options(settings: Settings) -> Parameters:
    """Return firewall options that drop all traffic except by rule and pin the MAC and the IP address."""
    dhcp = 1 if settings.ip == "dhcp" else 0
    filters = {"macfilter": 1, "ipfilter": 1, "radv": 0}
    return {"enable": 1, "policy_in": "DROP", "policy_out": "DROP", "dhcp": dhcp, **filters}


def firewall_rules(settings: Settings) -> list[Parameters]:
    """Return the parameters of ``POST …/firewall/rules``, one item for each rule."""
    outbound = [
        {"type": "out", "proto": target.proto, "dest": target.address, "dport": str(target.port)}
        for target in map(egress_of, settings.egress)
    ]
    inbound = [{"type": "in", "proto": "tcp", "source": source, "dport": "22"} for source in settings.ssh_from]
    return [{**rule, "action": "ACCEPT", "enable": 1} for rule in (*outbound, *inbound)]


def env_text(environment: Mapping[str, str]) -> str:
    """Return the parameter ``env`` of Proxmox 9.1 and later: variables separated by NUL."""
    return "\0".join(f"{name}={value}" for name, value in environment.items())


def read_env(text: object) -> dict[str, str]:
    """Return the variables of a configuration's ``env``."""
    parts = [part.partition("=") for part in str(text or "").split("\0")]
    return {name: value for name, equals, value in parts if equals}


def snapshot_name(label: str) -> str:
    """Return Proxmox's name for a snapshot; a leading digit or a reserved word gets a prefix.

    Raises:
        InvalidRequest: the label is not a slug of at most 36 characters.
    """
    if not is_slug(label) or len(label) > 36:
        raise InvalidRequest(fields={"label": ["Use a lower-case slug of at most 36 characters."]})
    return label if _SNAPSHOT.fullmatch(label) and label not in _RESERVED_SNAPSHOTS else f"s-{label}"


def disk_mb(rootfs: object) -> int | None:
    """Return the size of a ``rootfs`` in its configuration."""
    found = _SIZE.search(str(rootfs or ""))
    return int(float(found[1]) * _MB[found[2]]) if found else None


def template_dangers(config: Mapping[str, Any]) -> list[str]:
    """Return the properties of a template that a hostile agent in a clone could abuse."""
    return list(_dangers(config))


def _dangers(config: Mapping[str, Any]) -> Iterator[str]:
    if not int(config.get("unprivileged") or 0):
        yield "it is privileged"
    for part in str(config.get("features") or "").split(","):
        name, _, value = part.partition("=")
        if part and value != "0" and name not in _HARMLESS_FEATURES:
            yield f"it has the feature {part}"
    for name in sorted(config):
        if re.fullmatch(r"dev\d+|mp\d+|hookscript", name):
            yield f"it has {name}"
    for entry in config.get("lxc") or []:
        if isinstance(entry, list) and entry and not str(entry[0]).startswith(_HARMLESS_LXC):
            yield f"it sets {entry[0]}"


def limits_processes(config: Mapping[str, Any]) -> bool:
    """Tell whether the number of processes is limited from outside; only root can set this, in a template."""
    entries = config.get("lxc") or []
    return any(isinstance(entry, list) and entry and entry[0] == "lxc.cgroup2.pids.max" for entry in entries)


def has_environment(release: str) -> bool:
    """Tell whether a release of Proxmox passes variables to containers."""
    parts = [int(part) for part in re.findall(r"\d+", release)[:2]]
    return parts >= [9, 1]


def _gib(disk_mb: int) -> str:
    return f"{disk_mb / 1024:.3f}".rstrip("0").rstrip(".")
