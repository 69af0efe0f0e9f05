"""LXC configuration of a container: user ids, limits, network and environment."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from myctobot.contract.names import is_slug
from myctobot.errors import InvalidRequest
from shards.providers.base import ContainerSpec
from shards.providers.lxc.host import IDS_PER_CONTAINER, LxcHost, Slot

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_CPU_PERIOD_US = 100_000
_MIN_CPU_US = 1_000
_MB = 1024 * 1024
_MINIMUMS = {"memory_mb": 64, "disk_mb": 64, "processes": 32}
_MIN_CPUS = 0.01

# The same for every container. Root inside is unprivileged outside, and capabilities that could still harm are dropped.
#
# Nesting is allowed, because agents run in sandboxes. The kernel lets a sandbox mount /proc only if an uncovered one
# exists.
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
    """Control groups of the host: version 1 or 2, and support for counting swap."""

    version: int
    swap: bool


def check_spec(spec: ContainerSpec) -> None:
    """Check a specification.

    Raises:
        InvalidRequest: lists the problems by field.
    """
    fields: dict[str, list[str]] = {}
    if not is_slug(spec.name):
        fields["name"] = ["Use a lower-case slug: a-z, 0-9, inner dashes, at most 40 characters."]
    # The negation also rejects NaN, which compares as False.
    if not spec.cpus >= _MIN_CPUS:
        fields["cpus"] = [f"Use at least {_MIN_CPUS}."]
    for name, minimum in _MINIMUMS.items():
        if getattr(spec, name) < minimum:
            fields[name] = [f"Use at least {minimum}."]
    fields.update(wrong_environment(spec.environment))
    if fields:
        raise InvalidRequest("The container's specification is not valid.", fields=fields)


def wrong_environment(environment: Mapping[str, str]) -> dict[str, list[str]]:
    """Return the problems of variables by field, without their values, which are secrets."""
    wrong = []
    for name, value in environment.items():
        if not _VARIABLE.fullmatch(name):
            wrong.append(f"{name[:60]!r} is not a valid name of a variable.")
        elif any(sign in value for sign in "\n\r\0"):
            wrong.append(f"{name} contains a line break or a zero byte, which LXC's configuration does not support.")
    return {"environment": wrong} if wrong else {}


def render(
    host: LxcHost, slot: Slot, spec: ContainerSpec, rootfs: str, groups: ControlGroups, environment: Mapping[str, str]
) -> str:
    """Return the text of the configuration."""
    lines = [
        f"lxc.uts.name = {spec.name}",
        f"lxc.rootfs.path = dir:{rootfs}",
        *(f"lxc.idmap = {kind} 0 {slot.first_id} {IDS_PER_CONTAINER}" for kind in "ug"),
        *_network(host, slot),
        *_limits(spec, groups),
        *_memory_file_systems(spec),
        # LXC strips one pair of quotes and the blanks around it, so quotes preserve a value.
        *(f'lxc.environment = "{name}={value}"' for name, value in sorted(environment.items())),
    ]
    return _FIXED + "".join(f"{line}\n" for line in lines)


def _network(host: LxcHost, slot: Slot) -> list[str]:
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
    memory, quota = spec.memory_mb * _MB, max(int(spec.cpus * _CPU_PERIOD_US), _MIN_CPU_US)
    if groups.version == 1:
        values = {
            "memory.limit_in_bytes": memory,
            # The limit of memory plus swap equals the memory limit, which excludes swap.
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
    """Return mounts that limit memory file systems, which systemd would make as large as half of the host.

    Files in them count as memory that no killed process frees, so a full one would kill every process inside.
    """
    sizes = {"dev/shm": spec.memory_mb // 4, "run": max(spec.memory_mb // 8, 8)}
    return [
        f"lxc.mount.entry = tmpfs {target} tmpfs nosuid,nodev,mode={1777 if target == 'dev/shm' else 755},size={size}m"
        ",create=dir 0 0"
        for target, size in sizes.items()
    ]
