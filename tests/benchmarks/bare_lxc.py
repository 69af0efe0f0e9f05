"""Containers made with LXC's own tools from a root file system: the peer of ``provision_time``."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_BASE = "base"
_CONFIG = """\
lxc.include = /usr/share/lxc/config/common.conf
lxc.uts.name = base
lxc.rootfs.path = dir:{rootfs}
lxc.net.0.type = veth
lxc.net.0.link = {bridge}
lxc.net.0.flags = up
lxc.net.0.name = eth0
"""
_TIMEOUT_S = 60
# A service may fail without a control plane, but systemd has started all of them in that state too.
_BOOTED = ("running", "degraded")
_POLL_INTERVAL_S = 0.02


@dataclass(frozen=True)
class BareStart:
    """Durations of the steps of one container, in seconds."""

    copy_s: float
    start_s: float
    boot_s: float
    destroy_s: float
    systemd: str

    @property
    def running_s(self) -> float:
        return self.copy_s + self.start_s + self.boot_s


class BareLxc:
    """Containers that are overlays of one root file system, the fastest kind that ``lxc-copy`` makes."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def live(self, name: str) -> BareStart:
        """Create a container, start it, wait until systemd has started everything, and remove it."""
        began = time.monotonic()
        # The option --name names the original, and --newname names the copy.
        self._tool("lxc-copy", _BASE, "--newname", name, "--snapshot", "--backingstorage", "overlayfs")
        copied = time.monotonic()
        try:
            self._tool("lxc-start", name, "--daemon")
            started = time.monotonic()
            systemd = self._wait_booted(name)
            booted = time.monotonic()
        finally:
            ends = time.monotonic()
            self._tool("lxc-destroy", name, "--force")
        gone = time.monotonic() - ends
        return BareStart(copied - began, started - copied, booted - started, gone, systemd)

    def _wait_booted(self, name: str) -> str:
        deadline = time.monotonic() + _TIMEOUT_S
        while True:
            state = self._run("lxc-attach", name, "--clear-env", "--", "systemctl", "is-system-running").stdout.strip()
            if state in _BOOTED:
                return state
            if time.monotonic() > deadline:
                raise TimeoutError(f"systemd reports the state '{state}' after {_TIMEOUT_S} s")
            time.sleep(_POLL_INTERVAL_S)

    def _tool(self, program: str, name: str, *options: str) -> None:
        done = self._run(program, name, *options)
        if done.returncode:
            raise RuntimeError(f"{program} failed: {done.stderr.strip() or done.stdout.strip()}")

    def _run(self, program: str, name: str, *options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [program, "--name", name, "--lxcpath", str(self._path), *options],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
            env={"PATH": f"/usr/sbin:/sbin:{os.defpath}"},
        )


@contextmanager
def bare_lxc(path: Path, rootfs: Path, bridge: str) -> Iterator[BareLxc]:
    """Mount a root file system read-only as the base of containers, so that no container can change it.

    Args:
        path: a new folder for the containers.
        bridge: the bridge that the containers are connected to.
    """
    base = path / _BASE / "rootfs"
    base.mkdir(parents=True)
    (path / _BASE / "config").write_text(_CONFIG.format(rootfs=base, bridge=bridge))
    _run_host("mount", "--bind", str(rootfs), str(base))
    try:
        _run_host("mount", "-o", "remount,bind,ro", str(base))
        yield BareLxc(path)
    finally:
        _run_host("umount", str(base))


def _run_host(*command: str) -> None:
    subprocess.run(command, check=True, timeout=_TIMEOUT_S, stdin=subprocess.DEVNULL)
