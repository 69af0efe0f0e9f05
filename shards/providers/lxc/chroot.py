"""Root file system under construction: runs commands with this host's package sources, and allows SSH access."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from shards.providers.errors import ProviderError
from shards.providers.lxc.commands import ENVIRONMENT, run
from shards.providers.lxc.identity import key_pair
from shards.providers.lxc.storage import unmount_below

# A folder in a memory file system, which the finished template does not have.
BORROWED: Final = Path("run/borrowed")
# Variables of the caller that lead to downloads; no others are passed on.
_VARIABLES = (
    *("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"),
    *("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST", "NPM_CONFIG_REGISTRY", "npm_config_registry"),
)
# A build that is cut off is thrown away, so dpkg need not wait for the disk after every file; two are its defaults.
QUICK_DPKG: Final = {"DPKG_FORCE": "security-mac,downgrade,unsafe-io"}
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_SSH_READY_S = 10


@dataclass(frozen=True)
class SshAccess:
    """SSH access as root for Ansible.

    Attributes:
        private_key: file with the private key.
        known_hosts: file with the server's host key.
    """

    host: str
    port: int
    private_key: Path
    known_hosts: Path


@dataclass(frozen=True)
class Chroot:
    """Mounted root file system.

    Attributes:
        environment: variables that lead programs in it to what the build borrows; they may hold passwords.
        downloads: a folder in it that keeps downloads for other builds, or nothing.
    """

    root: Path
    environment: Mapping[str, str] = field(repr=False)
    downloads: str = ""

    def run(self, *command: str, timeout_s: float = 60, text: str | None = None) -> str:
        """Run a program in the root file system, as root.

        Raises:
            ProviderError: the program failed.
        """
        inside = ("chroot", str(self.root), *command)
        return run(*inside, timeout_s=timeout_s, text=text, environment=self.environment)

    @contextmanager
    def reached_by_ssh(self) -> Iterator[SshAccess]:
        """Run the SSH server on this host's loopback until the block ends."""
        with tempfile.TemporaryDirectory(prefix="template-ssh-") as name:
            folder = Path(name)
            access = SshAccess("127.0.0.1", _free_port(), folder / "key", folder / "known_hosts")
            with self._sshd(access) as server:
                _wait_for(access, server)
                yield access

    @contextmanager
    def _sshd(self, access: SshAccess) -> Iterator[subprocess.Popen[bytes]]:
        (private, public), (host_private, host_public) = key_pair(), key_pair()
        access.private_key.touch(mode=0o600)
        access.private_key.write_text(private)
        access.known_hosts.write_text(f"[{access.host}]:{access.port} {host_public}\n")
        borrowed = self.root / BORROWED
        for name, text in (("host_key", host_private), ("authorized_keys", f"{public}\n")):
            (borrowed / name).touch(mode=0o600)
            (borrowed / name).write_text(text)
        (self.root / "run/sshd").mkdir(mode=0o755, exist_ok=True)
        command = ["chroot", str(self.root), "/usr/sbin/sshd", "-D", "-e", "-f", f"/{BORROWED}/sshd_config"]
        (borrowed / "sshd_config").write_text(_sshd_config(access, self.environment))
        with (borrowed / "sshd.log").open("wb") as log:
            server = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**ENVIRONMENT}, start_new_session=True
            )
        try:
            yield server
        finally:
            server.terminate()
            server.wait(10)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _sshd_config(access: SshAccess, environment: Mapping[str, str]) -> str:
    variables = " ".join(f'"{name}={value}"' for name, value in environment.items())
    return (
        f"ListenAddress {access.host}:{access.port}\nHostKey /{BORROWED}/host_key\nPidFile none\nUsePAM no\n"
        f"AuthorizedKeysFile /{BORROWED}/authorized_keys\nStrictModes no\nPermitRootLogin prohibit-password\n"
        "PasswordAuthentication no\nKbdInteractiveAuthentication no\nPrintMotd no\n"
        f"Subsystem sftp internal-sftp\nSetEnv {variables}\n"
    )


def _wait_for(access: SshAccess, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _SSH_READY_S
    while time.monotonic() < deadline and server.poll() is None:
        with suppress(OSError), socket.create_connection((access.host, access.port), timeout=1):
            return
        time.sleep(0.05)
    raise ProviderError("The SSH server of the template did not start. Is openssh-server installed in it?")


@contextmanager
def opened(root: Path, downloads: Path | None = None) -> Iterator[Chroot]:
    """Mount what programs need, lend what this host has, and keep services from starting; undone in the end.

    Args:
        downloads: a folder of this host where apt, pip and npm keep what they download, for other builds.
    """
    policy = root / "usr/sbin/policy-rc.d"
    lent = [root / "etc/resolv.conf", root / "etc/hosts"]
    try:
        _mount(root)
        environment = _lend(root)
        lent_downloads = _lend_downloads(root, downloads) if downloads else ""
        for path in lent:
            path.unlink(missing_ok=True)
            shutil.copyfile(Path("/etc") / path.name, path)
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
        yield Chroot(root, environment, lent_downloads)
    finally:
        kill_inside(root)
        unmount_below(root)
        for path in (policy, *lent):
            path.unlink(missing_ok=True)


def _mount(root: Path) -> None:
    for kind, target, options in (
        ("proc", "proc", "nosuid,nodev,noexec"),
        ("sysfs", "sys", "ro,nosuid,nodev,noexec"),
        ("tmpfs", "dev", "nosuid,mode=755,size=1m"),
        ("tmpfs", "run", "nosuid,nodev,mode=755"),
        ("tmpfs", "tmp", "nosuid,nodev,mode=1777"),
    ):
        (root / target).mkdir(exist_ok=True)
        run("mount", "-t", kind, "-o", options, kind, str(root / target))
    for name in _DEVICES:
        device = os.stat(f"/dev/{name}")  # noqa: PTH116  # os.stat gives the device number
        os.mknod(root / "dev" / name, device.st_mode, device.st_rdev)
        (root / "dev" / name).chmod(0o666)
    for name, leads_to in (("fd", "/proc/self/fd"), ("ptmx", "pts/ptmx"), ("stdin", "/proc/self/fd/0")):
        (root / "dev" / name).symlink_to(leads_to)
    for kind, name, options in (("devpts", "pts", "newinstance,ptmxmode=666,mode=620"), ("tmpfs", "shm", "mode=1777")):
        (root / "dev" / name).mkdir()
        run("mount", "-t", kind, "-o", options, kind, str(root / "dev" / name))


def _lend(root: Path) -> dict[str, str]:
    """Copy this host's package sources into memory, and return the variables that lead there."""
    folder = root / BORROWED
    folder.mkdir(mode=0o755)
    # Use the caller's values; the settings do not change them.
    caller = dict(os.environ)
    environment = {name: caller[name] for name in _VARIABLES if caller.get(name)}
    environment |= {"DEBIAN_FRONTEND": "noninteractive", **QUICK_DPKG}
    shutil.copytree("/etc/apt", folder / "apt", symlinks=True)
    # Pinned packages apply to this host only.
    shutil.rmtree(folder / "apt/preferences.d", ignore_errors=True)
    (folder / "apt/preferences.d").mkdir()
    (folder / "apt.conf").write_text(f'Dir::Etc "/{BORROWED}/apt/";\nAPT::Sandbox::User "root";\n')
    environment["APT_CONFIG"] = f"/{BORROWED}/apt.conf"
    for source, name, variables in (
        (Path("/etc/pip.conf"), "pip.conf", ("PIP_CONFIG_FILE",)),
        (Path.home() / ".npmrc", "npmrc", ("NPM_CONFIG_USERCONFIG",)),
        (Path("/etc/ssl/certs/ca-certificates.crt"), "ca.crt", ("SSL_CERT_FILE", "PIP_CERT", "NODE_EXTRA_CA_CERTS")),
    ):
        if source.is_file():
            shutil.copyfile(source, folder / name)
            environment.update(dict.fromkeys(variables, f"/{BORROWED}/{name}"))
    return environment


def _lend_downloads(root: Path, downloads: Path) -> str:
    """Mount the folder of downloads where apt looks first, and return its path inside."""
    inside = root / BORROWED / "downloads"
    inside.mkdir()
    run("mount", "--bind", str(downloads), str(inside))
    with (root / BORROWED / "apt.conf").open("a") as settings:
        settings.write(f'Dir::Cache::archives "/{BORROWED}/downloads/apt/";\nAPT::Keep-Downloaded-Packages "true";\n')
    return f"/{BORROWED}/downloads"


def kill_inside(root: Path) -> None:
    """Kill every process whose root is in the folder."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                if Path(os.readlink(entry / "root")).is_relative_to(root):  # noqa: PTH115  # the link may be broken
                    os.kill(int(entry.name), signal.SIGKILL)
