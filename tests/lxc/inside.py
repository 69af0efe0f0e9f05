"""Commands that run inside a container as its root, by ``lxc-attach`` or by SSH."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

from shards.providers.lxc.identity import key_pair
from shards.providers.lxc.provider import LxcProvider

KEY = "client_key"
# This command of an agent ends when ``release_jobs`` is called, so that no test has to guess a job's duration.
UNTIL_RELEASED = "until [ -e ~/go ]; do sleep 0.1; done"


def make_key_pair(path: Path) -> str:
    """Write a private key, and return its public half."""
    private, public = key_pair()
    path.touch(mode=0o600)
    path.write_text(private)
    return public + "\n"


def inside(
    maker: LxcProvider, ref: str, *command: str, text: str | None = None, timeout_s: float = 30
) -> subprocess.CompletedProcess[str]:
    where = ("--name", ref, "--lxcpath", str(maker.host.path / "containers"))
    return subprocess.run(
        ["lxc-attach", *where, "--clear-env", "--", *command],
        input=text,
        stdin=None if text is not None else subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
        env={"PATH": os.defpath},
    )


def output(maker: LxcProvider, ref: str, *command: str) -> str:
    done = inside(maker, ref, *command)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def python(maker: LxcProvider, ref: str, program: str, *arguments: str, timeout_s: float = 30) -> str:
    """Run a Python program, and return its output or else its errors."""
    done = inside(maker, ref, "python3", "-c", program, *arguments, timeout_s=timeout_s)
    return done.stdout.strip() or done.stderr.strip()


def release_jobs(maker: LxcProvider, ref: str) -> None:
    """End the command ``UNTIL_RELEASED`` of every job in a container."""
    output(maker, ref, "sh", "-c", "for home in /var/lib/claude-shard/jobs/*/agent/home; do touch $home/go; done")


def wait_booted(maker: LxcProvider, ref: str, timeout_s: float = 20) -> str:
    """Wait until systemd has started everything, and return its state."""
    deadline = time.monotonic() + timeout_s
    while True:
        state = inside(maker, ref, "systemctl", "is-system-running").stdout.strip()
        if state in ("running", "degraded") or time.monotonic() > deadline:
            return state
        time.sleep(0.05)


def wait_active(maker: LxcProvider, ref: str, unit: str, timeout_s: float = 20) -> str:
    """Wait until a unit is active, because a new configuration may restart it, and return its state."""
    deadline = time.monotonic() + timeout_s
    while True:
        state = inside(maker, ref, "systemctl", "is-active", unit).stdout.strip()
        if state == "active" or time.monotonic() > deadline:
            return state
        time.sleep(0.1)


def ssh(maker: LxcProvider, ref: str, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command by SSH as the operator's tools do, and check the host key that the container was created with."""
    place = maker.host.path / "containers" / ref
    public = (place / "disk/upper/etc/ssh/ssh_host_ed25519_key.pub").read_text()
    address = maker.status(ref).address
    known_hosts = place / "known_hosts"
    known_hosts.write_text(f"{address} {public}")
    options = ("-F", "none", "-o", f"UserKnownHostsFile={known_hosts}", "-o", "BatchMode=yes", "-o", "ConnectTimeout=2")
    return subprocess.run(
        ["ssh", *options, "-i", str(maker.host.path / KEY), f"root@{address}", *command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
        env={"PATH": os.defpath},
    )
