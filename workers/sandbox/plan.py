"""Decision what an agent may see, as options of bubblewrap; nothing here touches the machine."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from myctobot.contract.direct_addresses import DirectAddress
from workers.sandbox.limits import MB, ResourceLimits

WORKSPACE: Final = "/workspace"
HOME: Final = "/home/agent"
USER: Final = "agent"
PATH: Final = "/usr/local/bin:/usr/bin:/bin"

# Every process starts with only these variables and those that its caller adds.
BASE_ENV: Final[Mapping[str, str]] = {
    "PATH": PATH,
    "HOME": HOME,
    "USER": USER,
    "LOGNAME": USER,
    "SHELL": "/bin/sh",
    "LANG": "C.UTF-8",
    "TERM": "dumb",
    "TMPDIR": "/tmp",  # noqa: S108 - the sandbox's own
}

SYSTEM_DIRS: Final = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
# Folder next to the agent's with the files of its /etc.
ETC: Final = "etc"
# Name resolution, certificates, loader, alternatives, time zone, fonts; no accounts and no settings of programs.
ETC_PATHS: Final = (
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/host.conf",
    "/etc/gai.conf",
    "/etc/nsswitch.conf",
    "/etc/services",
    "/etc/protocols",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/alternatives",
    "/etc/localtime",
    "/etc/mime.types",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
    "/etc/ca-certificates",
    "/etc/pki/tls/certs",
    "/etc/pki/ca-trust",
    "/etc/fonts",
)

# Addresses, memory, keys and controls of the kernel; the agent sees an empty file.
MASKED_FILES: Final = (
    "/proc/kallsyms",
    "/proc/kcore",
    "/proc/key-users",
    "/proc/keys",
    "/proc/sysrq-trigger",
    "/proc/timer_list",
)


@dataclass(frozen=True)
class Mount:
    """File or directory of the shard that the agent sees at ``target``."""

    source: Path
    target: str
    writable: bool = False

    def __post_init__(self) -> None:
        parts = PurePosixPath(self.target).parts
        if not self.target.startswith("/") or ".." in parts or len(parts) < 2:
            raise ValueError(f"the mount target {self.target!r} must be an absolute path below /, without '..'")


@dataclass(frozen=True)
class SandboxConfig:
    """Isolation of the agents of one slot.

    Args:
        limits: limits of one agent.
        agent_uid: user and group of the agent, different for each slot so that the agents of two jobs differ. A shard
            that does not run as root cannot change users; then the number is only what the agent sees.
        isolated: run the agent in bubblewrap. Nothing but this decides it; see ``workers.sandbox.isolation``.
        groups: what control groups must do for the agent; without one of these, the sandbox fails.
        read_only: host paths that the agent sees under the same names.
        own_network: give each process of ``Sandbox.start`` a network of its own.
        proxy_url: filtering proxy through which an agent with its own network may reach hosts.
        addresses: servers that an agent with its own network may reach directly.
    """

    limits: ResourceLimits
    agent_uid: int
    isolated: bool = True
    groups: frozenset[str] = frozenset()
    read_only: tuple[Path, ...] = ()
    own_network: bool = True
    proxy_url: str | None = None
    addresses: tuple[DirectAddress, ...] = ()


@dataclass(frozen=True)
class SandboxHost:
    """Facts about the machine that the plan needs.

    Args:
        root: whether the shard runs as root.
        links: target of each existing directory of SYSTEM_DIRS that is a symbolic link, else None.
        bwrap: program of bubblewrap, or None.
        setpriv: program that drops privileges, which root needs.
        cgroup_namespaces: whether the kernel has them.
        masked: existing files of MASKED_FILES.
        etc_directories: existing directories of ETC_PATHS.
        system_calls: filter of the agent's system calls; None if there is none for this machine.
    """

    root: bool
    links: Mapping[str, str | None]
    bwrap: str | None
    setpriv: str | None
    cgroup_namespaces: bool = True
    masked: tuple[str, ...] = ()
    etc_directories: tuple[str, ...] = ()
    system_calls: bytes | None = None


def missing_protection(host: SandboxHost) -> str | None:
    """Return why a machine cannot isolate an agent, with the remedy, or None."""
    if host.bwrap is None:
        return (
            "bubblewrap is not installed on this shard, so an agent cannot be isolated; ask an operator to install the "
            "package 'bubblewrap'."
        )
    if host.root and host.setpriv is None:
        return "setpriv is missing on this shard; ask an operator to install the package 'util-linux'."
    if host.system_calls is None:
        return "This shard's processor has no filter of system calls; use a machine with x86_64 or aarch64."
    return None


@dataclass(frozen=True)
class Descriptors:
    """Numbers of the open files that bubblewrap inherits."""

    status: int
    block: int
    seccomp: int


def options(
    config: SandboxConfig,
    host: SandboxHost,
    agent_dir: Path,
    mounts: Sequence[Mount],
    env: Mapping[str, str],
    cwd: str,
    fds: Descriptors,
) -> list[str]:
    """Return bubblewrap's options; ``folders`` has prepared ``agent_dir`` and its neighbour.

    They contain the environment, so they must go through a file descriptor and never into an argument list.
    """
    result = ["--die-with-parent", "--new-session", "--clearenv"]
    for name, value in {**BASE_ENV, **env}.items():
        result += ["--setenv", name, value]
    result += ["--unshare-pid", "--unshare-ipc", "--unshare-uts", "--hostname", USER]
    if config.own_network:
        result += ["--unshare-net"]
    if host.cgroup_namespaces:
        result += ["--unshare-cgroup"]
    if not host.root:
        uid = str(config.agent_uid)
        result += ["--unshare-user", "--disable-userns", "--uid", uid, "--gid", uid]
    # These file systems use the agent's own memory. Half of it leaves the rest for its processes.
    memory = ["--perms", "1777", "--size", str(config.limits.memory_mb * MB // 2), "--tmpfs"]
    # Mount /tmp before the paths below it, because a shard's own programs can be in a checkout under /tmp.
    result += [*memory, "/tmp"]  # noqa: S108 - the sandbox's own
    targets = [*map(str, config.read_only), HOME, *(mount.target for mount in mounts)]
    result += _directories(targets)
    result += _system(host, agent_dir.with_name(ETC))
    for path in config.read_only:
        result += ["--ro-bind", str(path), str(path)]
    result += [*memory, "/dev/shm"]  # noqa: S108 - the sandbox's own
    result += ["--bind", str(agent_dir / "home"), HOME, "--bind", str(agent_dir / "repo"), WORKSPACE]
    for mount in mounts:
        result += ["--bind" if mount.writable else "--ro-bind", str(mount.source), mount.target]
    # bubblewrap's /dev is a file system in memory without a bound. Devices and the mounts below it stay writable.
    result += ["--remount-ro", "/dev", "--remount-ro", "/", "--chdir", cwd]
    result += ["--seccomp", str(fds.seccomp)]
    return [*result, "--json-status-fd", str(fds.status), "--block-fd", str(fds.block)]


def _directories(targets: Sequence[str]) -> list[str]:
    """Return the options for the directories above mounts, because bubblewrap would make them readable by root only."""
    parents = {str(parent) for target in targets for parent in PurePosixPath(target).parents}
    return [word for parent in sorted(parents - {"/"}) for word in ("--perms", "0755", "--dir", parent)]


def _system(host: SandboxHost, etc: Path) -> list[str]:
    result = ["--ro-bind", "/usr", "/usr"]
    for directory, link in host.links.items():
        result += ["--ro-bind", directory, directory] if link is None else ["--symlink", link, directory]
    result += ["--ro-bind", str(etc), "/etc"]
    for path in host.etc_directories:
        # An upgrade of the host may replace one during a job.
        result += ["--ro-bind-try", path, path]
    result += ["--proc", "/proc", "--dev", "/dev"]
    for path in host.masked:
        result += ["--ro-bind", "/dev/null", path]
    return result


def command(config: SandboxConfig, host: SandboxHost, argv: Sequence[str]) -> list[str]:
    """Return the command that runs inside; as root, it first drops the user, the groups and all capabilities."""
    if not host.root:
        return list(argv)
    uid = str(config.agent_uid)
    user = ["--reuid", uid, "--regid", uid, "--clear-groups"]
    powers = ["--no-new-privs", "--bounding-set=-all", "--inh-caps=-all"]
    return [str(host.setpriv), *user, *powers, "--", *argv]


def to_host_paths(text: str, host_paths: Mapping[str, str]) -> str:
    """Replace the sandbox's paths in a text by the host's, for an agent that runs without a sandbox."""
    if not host_paths:
        return text
    # Match the longest path first, because a mount may be below another one.
    names = "|".join(re.escape(name) for name in sorted(host_paths, key=len, reverse=True))
    return re.sub(rf"(?<![\w./-])({names})(?![\w.-])", lambda match: host_paths[match.group(1)], text)
