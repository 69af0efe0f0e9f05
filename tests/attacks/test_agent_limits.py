"""Agents use memory that no memory controller counts, because the shard may not create control groups."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from myctobot.contract.runner import CancelProof
from myctobot.contract.shards import IsolationKind
from tests.factories.executions import make_execution
from tests.integration.workers.sandbox.test_sandbox import play, start_ready
from workers.config import parse_config
from workers.errors import JobError
from workers.runner.disk_watchdog import DiskWatchdog
from workers.runner.execution import Execution
from workers.sandbox import isolation, process_tree
from workers.sandbox.limits import MB, Groups, ResourceLimits
from workers.sandbox.memory_use import used_bytes
from workers.sandbox.sandbox import Completed, Sandbox

LIMITS = ResourceLimits(memory_mb=128)
TIMEOUT_S = 120
FILL = "f = {open}\nfor _ in range({mb}): f.write(bytes(2**20))\nf.flush()\n"
MEMFD = "open(__import__('os').memfd_create('x'), 'wb')"
# The first thread ends alone, by the system call exit; the process is then a zombie with a thread.
LATER = """
import ctypes, platform, threading, time
def use():
    time.sleep(1)
    kept = b"x" * (160 * 2**20)
    time.sleep(600)
threading.Thread(target=use).start()
ctypes.CDLL(None).syscall({"x86_64": 60, "aarch64": 93}[platform.machine()], 0)
"""
WAIT = "__import__('time').sleep(600)\n"


@pytest.fixture(autouse=True)
def _no_control_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.sandbox.sandbox.create_groups", lambda limits, started: Groups({}, limits))


def run(tmp_path: Path, program: str) -> Completed:
    async def scene(sandbox: Sandbox) -> Completed:
        return await sandbox.run(["/usr/bin/python3", "-"], stdin=program.encode(), timeout_s=TIMEOUT_S)

    done: Completed = play(tmp_path, scene, LIMITS)
    return done


@pytest.mark.parametrize(
    "program",
    [
        pytest.param(FILL.format(open=MEMFD, mb=160), id="a memory file"),
        pytest.param("fs = [" + MEMFD + " for _ in range(4)]\nfor f in fs: f.write(bytes(40 * 2**20))\n", id="several"),
        pytest.param(
            FILL.format(open="open('/tmp/x', 'wb')", mb=60) + FILL.format(open="open('/dev/shm/x', 'wb')", mb=60)
            + "kept = b'x' * (40 * 2**20)\n",
            id="file systems in memory and a process",
        ),
        pytest.param("import mmap\nm = mmap.mmap(-1, 160 * 2**20)\nm.write(bytes(160 * 2**20))\n", id="shared memory"),
        pytest.param(LATER, id="an ended first thread"),
    ],
)  # fmt: skip
def test_memory_beyond_the_limit_ends_the_agent(tmp_path: Path, program: str) -> None:
    with pytest.raises(JobError) as caught:
        run(tmp_path, program + WAIT)
    assert caught.value.code == "agent_out_of_memory"


def test_a_process_has_a_bound_on_private_memory_even_between_two_checks(tmp_path: Path) -> None:
    done = run(tmp_path, "import mmap\nmmap.mmap(-1, 4 * 2**30, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)")
    assert b"Cannot allocate memory" in done.stderr


def test_memory_below_the_limit_is_measured_once(tmp_path: Path) -> None:
    program = FILL.format(open="open('/tmp/x', 'wb')", mb=20) + FILL.format(open=MEMFD, mb=20)
    program += "import mmap\nm = mmap.mmap(f.fileno(), 20 * 2**20)\nm.read()\nprint('ready', flush=True)\n"

    async def scene(sandbox: Sandbox) -> int:
        process = await start_ready(sandbox, f'exec /usr/bin/python3 -c "{program}{WAIT}"')
        pids = process_tree.descendants(process_tree.snapshot(), process.roots())
        return used_bytes(pids, [process.init or 0])

    assert 40 * MB <= play(tmp_path, scene, LIMITS) < 90 * MB


FORK = "import os, time\nfor _ in range({times}):\n    if os.fork() == 0: time.sleep(600)\n"
BOMB = "try:\n  while True:\n    if os.fork() == 0: time.sleep(600)\nexcept OSError: print('ready', flush=True)\n"


def first_job_of_shard(directory: Path) -> Execution:
    """Return the job in the first slot of a shard."""
    config = parse_config(
        {
            **{"shard_id": "probe", "control_url": "http://127.0.0.1:9", "broker_url": "redis://127.0.0.1:9/0"},
            **{"shard_key": "mcts_probe", "capabilities": ["git"], "executor": "scripted"},
            **{"sandbox": {"processes": 32}, "cleanup": {"workspace_path": str(directory)}},
            "run_path": str(directory / "run"),
        }
    )
    isolation.store(config.run_path, isolation.Isolation(IsolationKind.SANDBOX))
    answer: Any = {"job_id": "job_0123456789abcdefghjk", "attempt": 1, "capabilities": ["git"]}
    return make_execution(config, answer, slot=0)


def test_a_fork_bomb_on_one_shard_leaves_processes_to_another_on_the_host(tmp_path: Path) -> None:
    async def scene() -> Completed:
        jobs = [first_job_of_shard(tmp_path / name) for name in ("one", "two")]
        bombed, other = (job._prepare_sandbox() for job in jobs)
        try:
            await start_ready(bombed, f'exec /usr/bin/python3 -c "{FORK.format(times=0)}{BOMB}{WAIT}"')
            return await other.run(["/usr/bin/python3", "-c", FORK.format(times=10) + "print('done')"])
        finally:
            await bombed.close()
            await other.close()
            for job in jobs:
                await job.close()

    assert asyncio.run(scene()).stdout == b"done\n"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a small disk, which only root may."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200m,mode=0711", "tmpfs", disk], check=True, timeout=60)
    yield disk
    subprocess.run(["umount", disk], check=True, timeout=60)


@pytest.mark.needs("root")
@pytest.mark.parametrize(
    "script",
    [
        "head -c 150M /dev/zero > x; head -c 30M /dev/zero > y; sleep 600",
        "exec 3> x; rm x; head -c 180M /dev/zero >&3; sleep 600",
    ],
)
def test_an_agent_is_ended_before_the_disk_is_full(small_disk: Path, script: str) -> None:
    async def scene(sandbox: Sandbox) -> CancelProof:
        work = sandbox.run(["sh", "-c", script], timeout_s=TIMEOUT_S)
        with pytest.raises(JobError) as caught:
            await DiskWatchdog(small_disk, 1024).watch(work, sandbox.kill_all)
        assert caught.value.code == "disk_limit"
        return await sandbox.kill_all()

    assert play(small_disk / "job", scene, ResourceLimits())["processes_left"] == 0
