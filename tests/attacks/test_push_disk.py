"""Agents leave work whose push needs more disk space than the job has. The tests need root and loop devices."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.factories import git_fixtures
from tests.factories.git_jobs import Jobs
from tests.fixtures.repos import branches
from workers.errors import JobError
from workers.runner.disk_watchdog import DiskWatchdog
from workers.sandbox.limits import ResourceLimits

pytestmark = [pytest.mark.anyio, pytest.mark.needs("root"), pytest.mark.needs("loop devices")]

LIMITS = ResourceLimits(disk_mb=64, disk_files=2000)
COMMIT = "head -c {size} /dev/urandom > x; git add x; git -c user.name=a -c user.email=a@example.com commit -qm x"


anyio_backend = git_fixtures.anyio_backend
remote = git_fixtures.remote
server = git_fixtures.server
jobs = git_fixtures.jobs


@pytest.mark.parametrize(
    "script",
    [
        pytest.param("head -c 40M /dev/urandom > x", id="the commit of what the agent left"),
        pytest.param(COMMIT.format(size="22M"), id="the bundle of the commits"),
        pytest.param(COMMIT.format(size="16M"), id="the pack in the runner's repository"),
    ],
)
async def test_a_push_that_needs_more_than_the_bound_ends_the_job(
    jobs: Jobs, remote: Path, tmp_path: Path, script: str
) -> None:
    job = jobs(limits=LIMITS, has_image=True)
    await job.workspace.prepare()
    await job.agent(script)
    with pytest.raises(JobError, match="64 MB") as caught:
        await DiskWatchdog(tmp_path, 0, job.image).watch(job.finish(), job.sandbox.kill_all)
    assert (caught.value.code, caught.value.retryable) == ("disk_limit", False)
    # No part of the work was pushed.
    assert list(branches(remote)) == ["main"]


async def test_work_within_the_bound_is_pushed(jobs: Jobs, remote: Path, tmp_path: Path) -> None:
    job = jobs(limits=LIMITS, has_image=True)
    await job.workspace.prepare()
    await job.agent("head -c 8M /dev/urandom > x")
    await DiskWatchdog(tmp_path, 0, job.image).watch(job.finish(), job.sandbox.kill_all)
    assert "feature/ai" in branches(remote)
