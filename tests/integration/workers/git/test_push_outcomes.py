"""Pushes to a real TLS server that fails late, in each way that servers do."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from myctobot.contract.jobs import EventKind
from tests.factories.git_jobs import TOKEN, Job, Jobs
from tests.fixtures.git_faults import (
    Act,
    Fault,
    Silent,
    Slow,
    cut_after,
    cut_before,
    cut_within,
    every_push,
    every_read,
    pack_of_push,
    status,
    write_hook,
)
from tests.fixtures.git_server import GitServer
from tests.fixtures.repos import branches, git
from workers.errors import JobError

pytestmark = pytest.mark.anyio

NEW_TOKEN = "canary-8b1e60d5c4f7a392"


async def ready_to_push(jobs: Jobs, **policy: object) -> tuple[Job, str]:
    """Return a job whose agent has ended, and the commit to push."""
    job = jobs(**{"push_retry_s": 2, **policy})  # type: ignore[arg-type]  # settings of the policy
    await job.workspace.prepare()
    await job.agent("echo new > new.txt")
    await job.workspace.commit_leftovers("Work of the agent")
    collected = await job.workspace.collect()
    assert collected is not None
    return job, collected.head_sha


@pytest.mark.parametrize("act", [cut_after, cut_before, cut_within, status(429), status(503), status(401), status(403)])
async def test_a_fault_of_one_push_costs_no_more_than_another_push(
    jobs: Jobs, server: GitServer, remote: Path, act: Act
) -> None:
    job, head = await ready_to_push(jobs)
    server.faults = [fault := Fault(pack_of_push, act, times=1)]
    await job.workspace.push()
    assert (fault.used, branches(remote)["feature/ai"]) == (1, head)
    assert job.event(EventKind.PUSHED) == {"branch": "feature/ai", "sha": head}


async def test_a_push_whose_answer_is_lost_each_time_has_succeeded(jobs: Jobs, server: GitServer, remote: Path) -> None:
    job, head = await ready_to_push(jobs)
    server.faults = [Fault(pack_of_push, cut_after)]
    await job.workspace.push()
    assert branches(remote)["feature/ai"] == head
    assert f"the server has feature/ai at {head[:10]}" in job.logged()
    # The agent's commit arrived once, and nothing was written over it.
    assert git(remote, "rev-list", "--count", "main..feature/ai") == "1"


@pytest.mark.parametrize(
    ("act", "retryable"),
    [(status(429), True), (status(503), True), (cut_before, True), (status(401), False), (status(403), False)],
)
async def test_a_fault_that_stays_fails_the_push_and_leaves_no_branch(
    jobs: Jobs, server: GitServer, remote: Path, act: Act, retryable: bool
) -> None:
    job, _ = await ready_to_push(jobs, push_retry_s=1)
    server.faults = [fault := Fault(every_push, act)]
    with pytest.raises(JobError) as caught:
        await job.workspace.push()
    assert caught.value.retryable is retryable
    assert fault.used >= 2
    assert list(branches(remote)) == ["main"]
    assert TOKEN not in str(caught.value) + job.logged()


async def test_a_server_that_vanishes_during_the_push_leaves_an_unknown_outcome(jobs: Jobs, server: GitServer) -> None:
    job, _ = await ready_to_push(jobs, push_retry_s=1)
    # The check of the default branch passes once.
    server.faults = [Fault(pack_of_push, cut_after), Fault(every_read, cut_before, after=2)]
    with pytest.raises(JobError) as caught:
        await job.workspace.push()
    assert (caught.value.code, caught.value.retryable) == ("push_unconfirmed", True)


async def test_a_token_that_expires_after_the_clone_is_read_again(jobs: Jobs, server: GitServer, remote: Path) -> None:
    job, head = await ready_to_push(jobs)
    server.token = NEW_TOKEN
    asked = 0

    async def authorize() -> str:
        nonlocal asked
        asked += 1
        return NEW_TOKEN

    await job.workspace.push(authorize)
    assert (asked >= 1, branches(remote)["feature/ai"]) == (True, head)
    assert TOKEN not in job.logged()
    assert NEW_TOKEN not in job.logged()


async def test_a_slow_server_is_waited_for(jobs: Jobs, server: GitServer, remote: Path) -> None:
    job, head = await ready_to_push(jobs)
    server.faults = [Fault(every_push, Slow(piece=20))]
    await job.workspace.push()
    assert branches(remote)["feature/ai"] == head


async def test_a_hook_that_refuses_is_final_and_asked_once(jobs: Jobs, server: GitServer, remote: Path) -> None:
    write_hook(remote, ["GL-HOOK-ERR: branch is protected"], refuse=True)
    job, _ = await ready_to_push(jobs)
    with pytest.raises(JobError) as caught:
        await job.workspace.push()
    assert (caught.value.code, caught.value.retryable) == ("push_denied", False)
    assert sum(pack_of_push(request.method, request.path) for request in server.requests) == 1


async def test_a_cancel_ends_the_tries(jobs: Jobs, server: GitServer) -> None:
    job, _ = await ready_to_push(jobs, push_retry_s=600)
    silent = Silent()
    server.faults = [Fault(every_push, silent)]
    pushing = asyncio.create_task(job.workspace.push())
    assert await asyncio.to_thread(silent.reached.wait, 30)
    pushing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pushing
    silent.release()
