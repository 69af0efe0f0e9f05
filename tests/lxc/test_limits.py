"""Limits of a container, which protect its neighbours and the host."""

from __future__ import annotations

from pathlib import Path

import pytest

from shards.providers.lxc.provider import LxcProvider

from .conftest import running
from .inside import inside, output, python, wait_booted

_FORK = """
import os, signal
children = []
try:
    while len(children) < 2000:
        pid = os.fork()
        if pid == 0:
            signal.pause()
        children.append(pid)
    print("no limit")
except BlockingIOError as error:
    print(len(children))
for pid in children:
    os.kill(pid, signal.SIGKILL)
"""
_BUSY = """
import time
began = time.monotonic()
while time.monotonic() - began < 3:
    pass
print(time.process_time())
"""


@pytest.fixture
def other(maker: LxcProvider) -> str:
    """Start a neighbour, which must stay healthy."""
    return running(maker, "beta")


def is_healthy(maker: LxcProvider, ref: str) -> bool:
    """Return True if a container can still allocate memory, start a process and write a file."""
    program = "import os, subprocess; bytearray(50 << 20); subprocess.run(['sync']); open('/root/x', 'w').write('x')"
    return inside(maker, ref, "python3", "-c", program).returncode == 0


def test_a_process_over_the_memory_limit_is_killed(maker: LxcProvider, other: str) -> None:
    ref = running(maker, "alpha", memory_mb=128)
    greedy = inside(maker, ref, "python3", "-c", "x = bytearray(400 << 20); print('had it')")
    assert (greedy.returncode, greedy.stdout) == (137, "")
    assert inside(maker, ref, "python3", "-c", "x = bytearray(40 << 20)").returncode == 0
    assert is_healthy(maker, other)


@pytest.mark.parametrize("folder", ["/dev/shm", "/run", "/dev"])
def test_files_in_memory_are_limited_below_the_memory_limit(maker: LxcProvider, folder: str) -> None:
    ref = running(maker, "alpha", memory_mb=128)
    assert wait_booted(maker, ref) == "running"
    filled = inside(maker, ref, "dd", "if=/dev/zero", f"of={folder}/x", "bs=1M", "count=400")
    assert "No space left on device" in filled.stderr
    assert output(maker, ref, "echo", "alive") == "alive"


def test_fork_fails_at_the_process_limit(maker: LxcProvider, other: str) -> None:
    ref = running(maker, "alpha", processes=64)
    started = int(python(maker, ref, _FORK))
    assert 20 < started < 64
    assert is_healthy(maker, other)
    assert is_healthy(maker, ref)


def test_a_write_fails_at_the_disk_limit_and_deletion_frees_space(maker: LxcProvider, other: str) -> None:
    ref = running(maker, "alpha", disk_mb=100)
    done = inside(maker, ref, "dd", "if=/dev/urandom", "of=/root/full", "bs=1M", "count=300")
    assert "No space left on device" in done.stderr
    image = maker.host.path / "containers" / ref / "disk.img"
    assert 60 < image.stat().st_blocks * 512 >> 20 <= 100
    assert is_healthy(maker, other)
    # Deleted files must free space again.
    output(maker, ref, "sh", "-c", "rm /root/full; sync; fstrim / 2>/dev/null; true")
    assert inside(maker, ref, "dd", "if=/dev/urandom", "of=/root/again", "bs=1M", "count=50").returncode == 0


def test_the_number_of_empty_files_is_limited(maker: LxcProvider) -> None:
    ref = running(maker, "alpha", disk_mb=64)
    program = "import os\nos.mkdir('/root/d')\nfor n in range(10**6): open(f'/root/d/{n}', 'w').close()"
    assert "No space left on device" in python(maker, ref, program, timeout_s=60)


def test_processor_time_is_limited(maker: LxcProvider) -> None:
    ref = running(maker, "alpha", cpus=0.2)
    used = float(python(maker, ref, _BUSY))
    # The limit is a fifth of three seconds; the first period may be used at once.
    assert used < 0.2 * 3 + 0.3


@pytest.mark.parametrize("name", ["memory/memory.limit_in_bytes", "pids/pids.max", "cpu/cpu.cfs_quota_us"])
def test_root_of_a_container_cannot_raise_its_limits(maker: LxcProvider, name: str) -> None:
    ref = running(maker, "alpha")
    # While systemd mounts the controllers, the name is that of an ordinary new file.
    wait_booted(maker, ref)
    controller, _, file = name.partition("/")
    outside = Path("/sys/fs/cgroup", controller, f"lxc.payload.{ref}", file)
    before = outside.read_text()
    assert inside(maker, ref, "sh", "-c", f"echo -1 >/sys/fs/cgroup/{name}").returncode != 0
    assert outside.read_text() == before
