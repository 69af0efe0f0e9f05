"""Work of an agent that a limit of its sandbox ended, with control groups and without them, is kept."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from myctobot.contract.jobs import EventKind
from myctobot.contract.work import WorkFile, WorkManifest
from tests.factories import git_fixtures
from tests.factories.git_jobs import Job, Jobs
from workers.errors import JobError
from workers.runner.work_keeper import KEPT, WorkKeeper
from workers.sandbox.limits import Groups, ResourceLimits

pytestmark = pytest.mark.anyio

jobs = git_fixtures.folder_jobs

WORK = "echo w > n; git add n; git commit -qm w; echo later > later"
MEMORY = "kept = b'x' * (400 * 2**20)\n__import__('time').sleep(60)"
# It stays for a while, because without groups a watchdog counts the processes from time to time.
PROCESSES = """
import os, time
try:
    while True:
        if os.fork() == 0: time.sleep(600)
except OSError:
    time.sleep(3)
    raise
"""


class Control:
    """Control plane and log of an attempt."""

    def __init__(self) -> None:
        self.patches: list[str] = []
        self.warnings: list[str] = []

    async def store_work(self, files: Mapping[WorkFile, Path], manifest: WorkManifest) -> None:
        self.patches.append(files[WorkFile.PATCH].read_text())

    async def emit(self, kind: EventKind, data: dict[str, Any]) -> None:
        self.warnings.append(data["message"])


@pytest.fixture(params=[True, False], ids=["groups", "no groups"])
def groups(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the machine have control groups, as far as it has any, or none."""
    if not request.param:
        monkeypatch.setattr("workers.sandbox.sandbox.create_groups", lambda limits, started: Groups({}, limits))


async def salvage(job: Job) -> Control:
    """Keep the work as a runner does after a failure."""
    assert (await job.sandbox.kill_all())["processes_left"] == 0
    control = Control()
    keeper = WorkKeeper(job.workspace, cast(Any, control), cast(Any, control), job.job_dir / "git", 8)
    assert await keeper.salvage("Work of the agent") == KEPT
    return control


def check(control: Control) -> None:
    assert {"+w", "+later"} <= set(control.patches[0].splitlines())
    assert control.warnings == []


@pytest.mark.usefixtures("groups")
async def test_an_agent_that_the_memory_limit_ended(jobs: Jobs) -> None:
    job = jobs(limits=ResourceLimits(memory_mb=256))
    await job.workspace.prepare()
    with pytest.raises(JobError) as caught:
        await job.sandbox.run(["sh", "-ec", f'{WORK}; exec /usr/bin/python3 -c "{MEMORY}"'])
    assert caught.value.code == "agent_out_of_memory"
    check(await salvage(job))


@pytest.mark.usefixtures("groups")
async def test_an_agent_that_the_process_limit_ended(jobs: Jobs) -> None:
    job = jobs(limits=ResourceLimits(processes=64))
    await job.workspace.prepare()
    done = await job.sandbox.run(["sh", "-ec", f'{WORK}; exec /usr/bin/python3 -c "{PROCESSES}"'])
    problem = job.sandbox.process_error(done.returncode)
    assert problem is not None
    assert problem.code == "agent_process_limit"
    check(await salvage(job))
