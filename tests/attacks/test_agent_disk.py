"""Agents write more than their bound on disk. All tests mount images, which needs root and loop devices."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from myctobot.contract.shards import IsolationKind
from myctobot.stack.plan import CHECKOUT
from tests.factories.executions import make_execution
from tests.fixtures.broker import job_named
from tests.integration.workers.sandbox.test_sandbox import start_ready
from workers.config import parse_config
from workers.errors import JobError
from workers.runner.disk_watchdog import DiskWatchdog
from workers.sandbox import isolation
from workers.sandbox.disk_image import DiskImage, image_mounts, unmount_leftovers
from workers.sandbox.limits import MB, ResourceLimits
from workers.sandbox.sandbox import Completed, Sandbox

pytestmark = [pytest.mark.needs("root"), pytest.mark.needs("loop devices")]

TIMEOUT_S = 120
BOUNDS = {"disk_mb": 64, "disk_files": 2000}
WAIT = "exec sleep 600"
EMPTY_FILES = "import itertools\nfor n in itertools.count(): open(f'{n:09}', 'x').close()\n"


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    """Return the folder of a shard whose jobs have images; the agents' users pass through it."""
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.getuid() and folder.is_relative_to(tmp_path.parents[1]):
            folder.chmod(0o711)
    isolation.store(tmp_path / "run", isolation.Isolation(IsolationKind.SANDBOX, disk_images=True))
    return tmp_path


class Job:
    """Job of a shard, without a control plane."""

    def __init__(self, shard: Path, number: int = 1) -> None:
        config = parse_config(
            {
                **{"shard_id": "probe", "control_url": "http://127.0.0.1:9", "broker_url": "redis://127.0.0.1:9/0"},
                **{"shard_key": "mcts_probe", "capabilities": ["git"], "executor": "scripted", "sandbox": BOUNDS},
                **{"run_path": str(shard / "run"), "cleanup": {"workspace_path": str(shard / "jobs")}},
            }
        )
        answer: Any = {"job_id": job_named(number), "attempt": 1, "capabilities": ["git"]}
        self.directory = config.workspace_path / f"{job_named(number)}.1"
        self.execution = make_execution(config, answer, slot=number)
        self.sandbox: Sandbox = self.execution._prepare_sandbox()
        self.execution._sandbox = self.sandbox
        self.disk = DiskWatchdog(config.workspace_path, 0, self.execution._image)

    async def run(self, script: str) -> Completed:
        """Run the agent as a runner does, up to the push."""
        work = self.sandbox.run(["sh", "-c", script], timeout_s=TIMEOUT_S)
        done = await self.disk.watch(work, self.sandbox.kill_all)
        await self.sandbox.kill_all()
        self.disk.check()
        return done


def attack(shard: Path, script: str) -> JobError:
    """Run an agent that must not complete, and return its error."""

    async def scene() -> JobError:
        job = Job(shard)
        try:
            with pytest.raises(JobError) as caught:
                await job.run(script)
            assert (await job.sandbox.kill_all())["processes_left"] == 0
            return caught.value
        finally:
            await job.execution.close()

    return asyncio.run(scene())


def backing_files() -> list[str]:
    """Return the files of all loop devices of the machine."""
    found = []
    for path in Path("/sys/block").glob("loop*/loop/backing_file"):
        with suppress(OSError):
            found.append(path.read_text())
    return found


def wait_until_removed(shard: Path) -> None:
    """Wait until no loop device has a file of the shard."""
    deadline = time.monotonic() + 60
    while any(str(shard) in name for name in backing_files()):
        assert time.monotonic() < deadline, backing_files()
        time.sleep(0.05)


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(f"head -c 200M /dev/zero > x; {WAIT}", id="one file"),
        pytest.param(f"head -c 200M /dev/zero > ~/x; {WAIT}", id="the home"),
        pytest.param(f"exec 3> x; rm x; head -c 200M /dev/zero >&3; {WAIT}", id="a file without a name"),
        pytest.param(f"for n in 1 2 3 4; do head -c 20M /dev/zero > $n & done; wait; {WAIT}", id="several writers"),
        pytest.param("head -c 200M /dev/zero > x; exit 0", id="an agent that ends at once"),
    ],
)
def test_an_agent_that_writes_more_than_its_bound_is_ended(shard: Path, script: str) -> None:
    error = attack(shard, script)
    assert (error.code, error.retryable) == ("disk_limit", False)
    assert "its bound of 64 MB on disk (sandbox.disk_mb)" in str(error)


def test_an_agent_that_makes_files_without_end_is_ended(shard: Path) -> None:
    error = attack(shard, f'/usr/bin/python3 -c "{EMPTY_FILES}"; {WAIT}')
    assert error.code == "disk_limit"
    assert "its bound of 2,000 files on disk (sandbox.disk_files)" in str(error)


def test_a_job_at_its_bound_takes_nothing_from_another(shard: Path) -> None:
    async def scene() -> Completed:
        filling, other = Job(shard, 1), Job(shard, 2)
        try:
            waiting = await start_ready(other.sandbox, "echo ready; read -r line; head -c 30M /dev/zero > x && echo ok")
            with pytest.raises(JobError) as caught:
                await filling.run(f"head -c 200M /dev/zero > x; {WAIT}")
            assert caught.value.code == "disk_limit"
            waiting.stdin.write(b"go\n")
            assert await asyncio.wait_for(waiting.stdout.readline(), TIMEOUT_S) == b"ok\n"
            return await other.run("ls -s x && : > y && echo done")
        finally:
            for job in (filling, other):
                await job.execution.close()

    assert asyncio.run(scene()).stdout.endswith(b"done\n")


def test_everything_of_a_job_is_in_its_image_and_ends_with_it(shard: Path) -> None:
    async def scene() -> None:
        job = Job(shard)
        try:
            # The runner's repository is in the same folder as the agent's.
            inside = job.directory.stat().st_dev
            assert inside != shard.stat().st_dev
            assert {(job.directory / "agent" / name).stat().st_dev for name in ("repo", "home")} == {inside}
            # The image has no name, so there is no path to it.
            assert [path.name for path in (shard / "jobs").iterdir()] == [f"{job_named(1)}.1"]
        finally:
            await job.execution.close()

    asyncio.run(scene())
    assert list((shard / "jobs").iterdir()) == []
    wait_until_removed(shard)


def test_an_agent_reaches_neither_the_device_nor_privileges_in_the_image(shard: Path) -> None:
    async def scene() -> bytes:
        job = Job(shard)
        try:
            done = await job.run("ls /dev; mknod d b 7 0; grep -o ' /workspace [^ ]*' /proc/self/mountinfo")
            return done.stdout + done.stderr
        finally:
            await job.execution.close()

    seen = asyncio.run(scene()).decode()
    assert "loop" not in seen
    assert "mknod: d: Operation not permitted" in seen
    assert {"nosuid", "nodev"} <= set(seen.split(" /workspace ")[1].split()[0].split(","))


RUNNER = """
import sys, time
from pathlib import Path
from workers.sandbox.disk_image import DiskImage, enter_private_mounts
from workers.sandbox.limits import ResourceLimits
if sys.argv[2] == "private":
    enter_private_mounts()
image = DiskImage(Path(sys.argv[1]), ResourceLimits(disk_mb=64, disk_files=2000))
(Path(sys.argv[1]) / "x").write_bytes(bytes(20 * 2**20))
print("ready", flush=True)
time.sleep(600)
"""


@pytest.fixture
def workspace(shard: Path) -> Iterator[Path]:
    """Return the folder of a job in a shard, and unmount what a failed test leaves."""
    directory = shard / "jobs/job_killed.1"
    directory.mkdir(parents=True)
    yield directory
    unmount_leftovers(shard / "jobs", shard / "run")


def visible_mounts(workspaces: Path) -> list[str]:
    return image_mounts(Path("/proc/self/mountinfo").read_text(), str(workspaces))


def kill_runner(directory: Path, mounts: str) -> None:
    """Start a process that mounts an image like a runner, and kill it."""
    command = [sys.executable, "-c", RUNNER, str(directory), mounts]
    with subprocess.Popen(command, cwd=CHECKOUT, stdout=subprocess.PIPE) as runner:
        try:
            assert runner.stdout is not None
            assert runner.stdout.readline() == b"ready\n"
            assert any(str(directory.parent) in name for name in backing_files())
            assert visible_mounts(directory.parent) == ([] if mounts == "private" else [str(directory)])
        finally:
            runner.kill()


def test_nothing_is_left_of_the_image_of_a_killed_runner(shard: Path, workspace: Path) -> None:
    kill_runner(workspace, "private")
    wait_until_removed(shard)
    assert list(workspace.iterdir()) == []


def test_a_starting_worker_unmounts_what_an_earlier_life_left(shard: Path, workspace: Path) -> None:
    kill_runner(workspace, "shared")
    jobs = shard / "jobs"
    assert visible_mounts(jobs) == [str(workspace)]
    assert unmount_leftovers(jobs, shard / "run") == 1
    wait_until_removed(shard)
    assert list(workspace.iterdir()) == []


def test_what_waits_in_memory_counts_against_the_shards_disk(shard: Path, workspace: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200m,mode=0711", "none", shard / "jobs"], check=True)
    try:
        workspace.mkdir()
        image = DiskImage(workspace, ResourceLimits(disk_mb=400, disk_files=2000))
        try:

            async def write() -> None:
                (workspace / "x").write_bytes(bytes(170 * MB))
                # The kernel itself writes the data after half a minute.
                await asyncio.sleep(20)

            async def kill() -> None:
                pass

            with pytest.raises(JobError, match="the shard's disk has") as caught:
                asyncio.run(DiskWatchdog(shard / "jobs", 1024, image).watch(write(), kill))
            assert (caught.value.code, caught.value.retryable) == ("disk_limit", True)
        finally:
            image.close()
    finally:
        # The kernel may close the file of a removed device a moment later.
        subprocess.run(["umount", "--lazy", shard / "jobs"], check=True)
    wait_until_removed(shard)
