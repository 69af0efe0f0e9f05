"""Writes a container's LXC configuration: who it is outside, what it may use, what its first process is told."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from myctobot.contract.jobs import is_slug
from myctobot.errors import InvalidRequest
from shards.providers.base import ContainerSpec
from shards.providers.lxc.host import IDS_PER_CONTAINER, Host, Slot

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_CPU_PERIOD_US = 100_000
_LEAST_CPU_US = 1_000
_MB = 1024 * 1024
_LEAST = {"memory_mb": 64, "disk_mb": 64, "processes": 32}
_LEAST_CPUS = 0.01

# The same for every container. Root in it is nobody outside; what it could still harm as root of its own user
# namespace is dropped. It may nest, because agents run in sandboxes there: the kernel lets them mount a /proc only
# where there is one that nothing covers.
_FIXED = """\
lxc.apparmor.profile = generated
lxc.apparmor.allow_nesting = 1
lxc.seccomp.profile = /usr/share/lxc/config/common.seccomp
lxc.cap.drop = mac_admin mac_override sys_time sys_module sys_rawio
lxc.mount.auto = proc:mixed sys:mixed cgroup:mixed
lxc.mount.entry = proc dev/.lxc/proc proc create=dir,optional 0 0
lxc.mount.entry = sys dev/.lxc/sys sysfs create=dir,optional 0 0
lxc.autodev = 1
lxc.pty.max = 1024
lxc.tty.max = 0
lxc.console.path = none
lxc.signal.halt = SIGRTMIN+3
"""


@dataclass(frozen=True)
class ControlGroups:
    """What the host's control groups are: version 1 or 2, and whether they count swap."""

    version: int
    swap: bool


def check_spec(spec: ContainerSpec) -> None:
    """Refuse what no container can be.

    Raises:
        InvalidRequest: the fields that will not do.
    """
    fields: dict[str, list[str]] = {}
    if not is_slug(spec.name):
        fields["name"] = ["Give a lower-case slug: a-z, 0-9, inner dashes, at most 40 characters."]
    # This way round, because nothing compares with what is no number.
    if not spec.cpus >= _LEAST_CPUS:
        fields["cpus"] = [f"Give at least {_LEAST_CPUS}."]
    for name, least in _LEAST.items():
        if getattr(spec, name) < least:
            fields[name] = [f"Give at least {least}."]
    fields.update(wrong_environment(spec.environment))
    if fields:
        raise InvalidRequest("A container cannot be made like that.", fields=fields)


def wrong_environment(environment: Mapping[str, str]) -> dict[str, list[str]]:
    """What is wrong with variables, by field; no value is repeated, because they are secrets."""
    wrong = []
    for name, value in environment.items():
        if not _VARIABLE.fullmatch(name):
            wrong.append(f"{name[:60]!r} is no name of a variable.")
        elif any(sign in value for sign in "\n\r\0"):
            wrong.append(f"{name} holds a line break or a zero byte, which LXC's configuration cannot carry.")
    return {"environment": wrong} if wrong else {}


def render(
    host: Host, slot: Slot, spec: ContainerSpec, rootfs: str, groups: ControlGroups, environment: Mapping[str, str]
) -> str:
    """The configuration's text."""
    lines = [
        f"lxc.uts.name = {spec.name}",
        f"lxc.rootfs.path = dir:{rootfs}",
        *(f"lxc.idmap = {kind} 0 {slot.first_id} {IDS_PER_CONTAINER}" for kind in "ug"),
        *_network(host, slot),
        *_limits(spec, groups),
        *_memory_file_systems(spec),
        # LXC strips one pair of quotes and blanks outside them, so quotes keep a value as it is.
        *(f'lxc.environment = "{name}={value}"' for name, value in sorted(environment.items())),
    ]
    return _FIXED + "".join(f"{line}\n" for line in lines)


def _network(host: Host, slot: Slot) -> list[str]:
    return [
        "lxc.net.0.type = veth",
        "lxc.net.0.flags = up",
        "lxc.net.0.name = eth0",
        f"lxc.net.0.link = {host.bridge}",
        f"lxc.net.0.veth.pair = {slot.veth}",
        f"lxc.net.0.hwaddr = {slot.mac}",
        f"lxc.net.0.ipv4.address = {slot.address}/{host.network.prefixlen}",
        f"lxc.net.0.ipv4.gateway = {host.address}",
    ]


def _limits(spec: ContainerSpec, groups: ControlGroups) -> list[str]:
    memory, quota = spec.memory_mb * _MB, max(int(spec.cpus * _CPU_PERIOD_US), _LEAST_CPU_US)
    if groups.version == 1:
        values = {
            "memory.limit_in_bytes": memory,
            # Memory and swap together, so that there is no swap.
            **({"memory.memsw.limit_in_bytes": memory} if groups.swap else {}),
            "cpu.cfs_period_us": _CPU_PERIOD_US,
            "cpu.cfs_quota_us": quota,
            "pids.max": spec.processes,
        }
        return [f"lxc.cgroup.{key} = {value}" for key, value in values.items()]
    unified: dict[str, object] = {
        "memory.max": memory,
        **({"memory.swap.max": 0} if groups.swap else {}),
        "cpu.max": f"{quota} {_CPU_PERIOD_US}",
        "pids.max": spec.processes,
    }
    return [f"lxc.cgroup2.{key} = {value}" for key, value in unified.items()]


def _memory_file_systems(spec: ContainerSpec) -> list[str]:
    """Bound those that systemd would make as large as half of the host: what fills them kills every process inside.

    They count as memory, and ending a process gives none of that back.
    """
    sizes = {"dev/shm": spec.memory_mb // 4, "run": max(spec.memory_mb // 8, 8)}
    return [
        f"lxc.mount.entry = tmpfs {target} tmpfs nosuid,nodev,mode={1777 if target == 'dev/shm' else 755},size={size}m"
        ",create=dir 0 0"
        for target, size in sizes.items()
    ]
