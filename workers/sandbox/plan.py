"""What an agent may see: the decision, in bubblewrap's terms. Nothing here touches the machine."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from workers.sandbox.limits import MB, Limits

WORKSPACE: Final = "/workspace"
HOME: Final = "/home/agent"
USER: Final = "agent"
PATH: Final = "/usr/local/bin:/usr/bin:/bin"

# Every process starts with these and what its starter adds, nothing else.
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
# Name resolution, certificates, the loader, Debian's alternatives, time zone; no accounts, no settings of programs.
ETC_FILES: Final = (
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


@dataclass(frozen=True)
class Mount:
    """A file or directory of the shard that the agent sees at ``target``."""

    source: Path
    target: str
    writable: bool = False

    def __post_init__(self) -> None:
        parts = PurePosixPath(self.target).parts
        if not self.target.startswith("/") or ".." in parts or len(parts) < 2:
            raise ValueError(f"the mount target {self.target!r} must be an absolute path below /, without '..'")


@dataclass(frozen=True)
class SandboxConfig:
    """How a shard isolates the agents of one slot.

    Args:
        limits: what one agent may use.
        agent_uid: user and group of the agent, one a slot so that the agents of two jobs differ. As
            an ordinary user the shard cannot change users: the agent then merely sees itself under this number.
        allow_unsandboxed: run without isolation where bubblewrap is missing; for the embedded stack alone.
        read_only: host paths that the agent sees, under the same names.
    """

    limits: Limits
    agent_uid: int
    allow_unsandboxed: bool = False
    read_only: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Host:
    """What the plan needs to know of the machine.

    Args:
        root: whether the shard runs as root.
        links: for each of SYSTEM_DIRS that exists, where it points as a symbolic link, or None.
        bwrap: bubblewrap's program, or None.
        setpriv: the program that drops privileges, needed as root.
    """

    root: bool
    links: Mapping[str, str | None]
    bwrap: str | None
    setpriv: str | None


@dataclass(frozen=True)
class Descriptors:
    """Numbers of the open files that bubblewrap is handed."""

    passwd: int
    group: int
    info: int
    block: int


def passwd(uid: int) -> str:
    return f"root:x:0:0:root:/nonexistent:/usr/sbin/nologin\n{USER}:x:{uid}:{uid}:{USER}:{HOME}:/bin/sh\n"


def group(gid: int) -> str:
    return f"root:x:0:\n{USER}:x:{gid}:\n"


def options(
    config: SandboxConfig,
    host: Host,
    agent_dir: Path,
    mounts: Sequence[Mount],
    env: Mapping[str, str],
    cwd: str,
    fds: Descriptors,
) -> list[str]:
    """Write bubblewrap's options. They hold the environment, so they go over a pipe and never on an argument list."""
    result = ["--die-with-parent", "--new-session", "--clearenv"]
    for name, value in {**BASE_ENV, **env}.items():
        result += ["--setenv", name, value]
    result += ["--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try", "--hostname", USER]
    if not host.root:
        uid = str(config.agent_uid)
        result += ["--unshare-user", "--disable-userns", "--uid", uid, "--gid", uid]
    # Memory behind these is the agent's own, and half of it leaves room for its processes.
    memory = ["--perms", "1777", "--size", str(config.limits.memory_mb * MB // 2), "--tmpfs"]
    # Before what may lie below it: a shard's own programs can be in a checkout under /tmp.
    result += [*memory, "/tmp"]  # noqa: S108 - the sandbox's own
    targets = [*ETC_FILES, *map(str, config.read_only), HOME, *(mount.target for mount in mounts)]
    result += _directories(targets)
    result += _system(host, fds)
    for path in config.read_only:
        result += ["--ro-bind", str(path), str(path)]
    result += [*memory, "/dev/shm"]  # noqa: S108 - the sandbox's own
    result += ["--bind", str(agent_dir / "home"), HOME, "--bind", str(agent_dir / "repo"), WORKSPACE]
    for mount in mounts:
        result += ["--bind" if mount.writable else "--ro-bind", str(mount.source), mount.target]
    result += ["--remount-ro", "/", "--chdir", cwd]
    return [*result, "--info-fd", str(fds.info), "--block-fd", str(fds.block)]


def _directories(targets: Sequence[str]) -> list[str]:
    """Make the directories above mounts; bubblewrap itself would make them for root's eyes only."""
    parents = {str(parent) for target in targets for parent in PurePosixPath(target).parents}
    return [word for parent in sorted(parents - {"/"}) for word in ("--perms", "0755", "--dir", parent)]


def _system(host: Host, fds: Descriptors) -> list[str]:
    result = ["--ro-bind", "/usr", "/usr"]
    for directory, link in host.links.items():
        result += ["--ro-bind", directory, directory] if link is None else ["--symlink", link, directory]
    for path in ETC_FILES:
        result += ["--ro-bind-try", path, path]
    for descriptor, target in ((fds.passwd, "/etc/passwd"), (fds.group, "/etc/group")):
        result += ["--perms", "0644", "--ro-bind-data", str(descriptor), target]
    return [*result, "--proc", "/proc", "--dev", "/dev"]


def command(config: SandboxConfig, host: Host, argv: Sequence[str]) -> list[str]:
    """Give what runs inside: as root, first leave everything that root may do behind."""
    if not host.root:
        return list(argv)
    uid = str(config.agent_uid)
    user = ["--reuid", uid, "--regid", uid, "--clear-groups"]
    powers = ["--no-new-privs", "--bounding-set=-all", "--inh-caps=-all"]
    return [str(host.setpriv), *user, *powers, "--", *argv]


def host_view(text: str, places: Mapping[str, str]) -> str:
    """Replace the sandbox's paths in ``text`` by the host's, for an agent that runs without a sandbox."""
    if not places:
        return text
    # The longest first, so that a mount below another is not taken for it.
    names = "|".join(re.escape(name) for name in sorted(places, key=len, reverse=True))
    return re.sub(rf"(?<![\w./-])({names})(?![\w.-])", lambda match: places[match.group(1)], text)
