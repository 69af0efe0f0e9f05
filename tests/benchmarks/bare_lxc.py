"""The peer of ``provision_time``: what somebody does who has LXC's own tools and a root file system."""

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
# Some service of the root file system may have nothing to do without a control plane; systemd is through all the same.
_UP = ("running", "degraded")
_LOOK_EVERY_S = 0.02


@dataclass(frozen=True)
class BareStart:
    """Seconds of one container's life."""

    copy_s: float
    start_s: float
    boot_s: float
    destroy_s: float
    systemd: str

    @property
    def running_s(self) -> float:
        return self.copy_s + self.start_s + self.boot_s


class BareLxc:
    """Containers that are overlays of one root file system, the quickest that ``lxc-copy`` makes."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def live(self, name: str) -> BareStart:
        """Make a container, start it, wait until systemd has started everything, and remove it."""
        began = time.monotonic()
        # --name is the original's, --newname the copy's.
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
            said = self._run("lxc-attach", name, "--clear-env", "--", "systemctl", "is-system-running").stdout.strip()
            if said in _UP:
                return said
            if time.monotonic() > deadline:
                raise TimeoutError(f"systemd says '{said}' after {_TIMEOUT_S} s")
            time.sleep(_LOOK_EVERY_S)

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
    """Have a root file system to make containers of; it is mounted read-only, so that nothing can harm it.

    Args:
        path: a new folder for them.
        bridge: that they are joined to.
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
