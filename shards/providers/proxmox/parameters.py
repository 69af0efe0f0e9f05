"""What is asked of Proxmox for a container, as its API spells it. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from myctobot.contract.jobs import is_slug
from myctobot.errors import InvalidRequest
from shards.providers.base import ContainerSpec
from shards.providers.proxmox.naming import Marker
from shards.providers.proxmox.settings import Settings, egress_of

Parameters = dict[str, str | int | float]

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# Names that Proxmox keeps for itself.
_RESERVED_SNAPSHOTS: Final = frozenset({"current", "vzdump", "pending"})
_SNAPSHOT = re.compile(r"[a-z][a-z0-9-]{1,37}")
_SIZE = re.compile(r"(?:^|,)size=(\d+(?:\.\d+)?)([KMGT]?)(?:,|$)")
_MB: Final = {"": 1 / 1024 / 1024, "K": 1 / 1024, "M": 1, "G": 1024, "T": 1024 * 1024}
# What a template may bring along beside nesting; the rest opens the host or belongs to somebody else's plan.
_HARMLESS_FEATURES: Final = frozenset({"nesting", "keyctl"})
_HARMLESS_LXC: Final = ("lxc.cgroup2.", "lxc.prlimit.", "lxc.idmap", "lxc.environment", "lxc.signal.")


def check_spec(spec: ContainerSpec) -> None:
    """Refuse what Proxmox, or its configuration file, must never see.

    Raises:
        InvalidRequest: names each field that is wrong.
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
        raise InvalidRequest("The container cannot be made so.", fields=fields)


def wrong_variables(environment: Mapping[str, str]) -> list[str]:
    """What is wrong with variables, by their names: Proxmox writes each into a line of a configuration file."""
    return [
        f"{name[:60]!r}: use a name of letters, digits and '_', and a value of one line without control characters."
        for name, value in environment.items()
        if not _VARIABLE.fullmatch(name) or any(ord(char) < 32 or ord(char) == 127 for char in value)
    ]


def create_parameters(settings: Settings, spec: ContainerSpec, marker: Marker, ostemplate: str) -> Parameters:
    """For ``POST /nodes/{node}/lxc``.

    Tags are missing: Proxmox asks for the right to set them on the container itself, which has no rights before it is
    in the pool.
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
    """For ``POST /nodes/{node}/lxc/{template}/clone``; a linked clone stays on its template's storage."""
    return {
        "newid": marker.vmid,
        "hostname": spec.name,
        "description": str(marker),
        "pool": settings.pool,
        **({"full": 1, "storage": settings.storage} if full else {}),
    }


def clone_changes(settings: Settings, spec: ContainerSpec, config: Mapping[str, Any]) -> Parameters:
    """For ``PUT …/config`` of a fresh clone: a clone has its template's limits, networks and flags."""
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
    """The one network: on the isolated bridge, with the firewall in between."""
    tag = f",tag={settings.vlan}" if settings.vlan else ""
    return f"name=eth0,bridge={settings.bridge},firewall=1,ip={settings.ip}{tag},type=veth"


def tag(settings: Settings) -> str:
    """Marks our containers in the web interface; what proves them ours is the marker."""
    return f"{settings.owner}-shard"


def firewall_options(settings: Settings) -> Parameters:
    """Nothing goes in or out but what the rules name; its MAC address is its own."""
    dhcp = 1 if settings.ip == "dhcp" else 0
    return {"enable": 1, "policy_in": "DROP", "policy_out": "DROP", "dhcp": dhcp, "macfilter": 1, "radv": 0}


def firewall_rules(settings: Settings) -> list[Parameters]:
    """For ``POST …/firewall/rules``, one each."""
    outwards = [
        {"type": "out", "proto": place.proto, "dest": place.address, "dport": str(place.port)}
        for place in map(egress_of, settings.egress)
    ]
    inwards = [{"type": "in", "proto": "tcp", "source": source, "dport": "22"} for source in settings.ssh_from]
    return [{**rule, "action": "ACCEPT", "enable": 1} for rule in (*outwards, *inwards)]


def env_text(environment: Mapping[str, str]) -> str:
    """The parameter ``env`` of Proxmox 9.1 and later: variables with NUL between them."""
    return "\0".join(f"{name}={value}" for name, value in environment.items())


def read_env(text: object) -> dict[str, str]:
    """The variables of a configuration's ``env``."""
    parts = [part.partition("=") for part in str(text or "").split("\0")]
    return {name: value for name, equals, value in parts if equals}


def snapshot_name(label: str) -> str:
    """Proxmox's name for a snapshot of ours; a digit in front or a reserved word gets a prefix.

    Raises:
        InvalidRequest: the label is no slug of at most 36 characters.
    """
    if not is_slug(label) or len(label) > 36:
        raise InvalidRequest(fields={"label": ["Use a lower-case slug of at most 36 characters."]})
    return label if _SNAPSHOT.fullmatch(label) and label not in _RESERVED_SNAPSHOTS else f"s-{label}"


def disk_mb(rootfs: object) -> int | None:
    """How large a ``rootfs`` is, as its configuration says."""
    found = _SIZE.search(str(rootfs or ""))
    return int(float(found[1]) * _MB[found[2]]) if found else None


def template_dangers(config: Mapping[str, Any]) -> list[str]:
    """What a template would hand to every clone that a hostile agent must not have."""
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
    """Whether a container's number of processes is limited from outside; only root can write that, in a template."""
    entries = config.get("lxc") or []
    return any(isinstance(entry, list) and entry and entry[0] == "lxc.cgroup2.pids.max" for entry in entries)


def has_environment(release: str) -> bool:
    """Whether that release of Proxmox hands variables to containers."""
    parts = [int(part) for part in re.findall(r"\d+", release)[:2]]
    return parts >= [9, 1]


def _gib(disk_mb: int) -> str:
    return f"{disk_mb / 1024:.3f}".rstrip("0").rstrip(".")
