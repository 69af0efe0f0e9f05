"""A shard keeps the objects of a tenant's repository, and the next job fetches only the difference."""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path
from typing import Any

import pytest

from tests.factories.git_jobs import FILES, Job, Jobs
from tests.fixtures.git_server import GitServer
from tests.fixtures.repos import branches, commit, git, make_remote
from workers.sandbox.sandbox import Completed

pytestmark = pytest.mark.anyio


@pytest.fixture
def grown(remote: Path) -> Path:
    """Give the repository a file that is easy to measure, and return it."""
    work = remote.with_name("repo.git.work")
    (work / "noise").write_bytes(b"".join(bytes.fromhex(f"{number:08x}") for number in range(50_000)))
    commit(work, {"x": "1"})
    git(work, "push", "-q", str(remote), "main")
    return remote


def fetched(job: Job) -> int:
    """Return the number of objects that the server sent."""
    found = re.findall(r"Receiving objects: 100% \((\d+)/", job.logged())
    return int(found[0]) if found else 0


def packs(folder: Path) -> list[Path]:
    return list(folder.rglob("*.pack"))


async def run_job(jobs: Jobs, script: str, **options: Any) -> Job:
    job = jobs(**options)
    await job.workspace.prepare()
    await job.agent(script)
    await job.finish()
    await job.workspace.close()
    return job


async def test_the_next_job_fetches_only_the_difference(jobs: Jobs, grown: Path) -> None:
    first = await run_job(jobs, "echo 1 > one", branch="one")
    assert fetched(first) > len(FILES)
    commit(grown.with_name("repo.git.work"), {"more": "new"})
    git(grown.with_name("repo.git.work"), "push", "-q", str(grown), "main")
    second = await run_job(jobs, "test -e more; echo 2 > two", branch="two")
    assert fetched(second) == 3
    assert "are on this shard from earlier jobs" in second.logged()
    assert git(grown, "log", "--format=%an", "main..two") == "MyCTOBot"
    git(grown, "fsck", "--strict")


async def test_the_objects_exist_once(jobs: Jobs, grown: Path) -> None:
    for branch in ("one", "two"):
        job = jobs(branch=branch)
        await job.workspace.prepare()
        assert packs(job.job_dir) == []
        assert len(packs(jobs.object_cache)) == 1
        # The checkout is whole for the agent.
        await job.agent("git fsck --strict; git log -p > /dev/null; git clone -q . /tmp/copy; git -C /tmp/copy fsck")


async def test_a_job_without_a_cache_has_its_own_objects(jobs: Jobs, grown: Path) -> None:
    for options in ({"tenant": None}, {"object_cache_mb": 0}, {"object_cache": None}):
        job = jobs(branch=f"b{len(options)}{next(iter(options))}", **options)
        await job.workspace.prepare()
        assert fetched(job) > len(FILES)
        assert len(packs(job.job_dir)) == 1
        await job.agent("git fsck --strict; echo x > x")
        await job.finish()
    assert packs(jobs.object_cache) == []


async def test_an_agent_without_a_sandbox_gets_copies_and_nothing_is_kept(jobs: Jobs, grown: Path) -> None:
    job = jobs(isolated=False)
    await job.workspace.prepare()
    await job.agent(
        "test ! -e .git/objects/info/alternates; git fsck --strict; rm -f .git/objects/pack/*.rev; echo x > x"
    )
    checkout = job.job_dir / "agent" / "repo" / ".git" / "objects"
    assert {path.stat().st_nlink for path in packs(checkout)} == {1}
    await job.finish()
    assert packs(jobs.object_cache) == []
    assert git(grown, "log", "-1", "--format=%an", "feature/ai") == "MyCTOBot"


async def test_another_tenant_fetches_everything(jobs: Jobs, grown: Path) -> None:
    await run_job(jobs, "echo 1 > one", branch="one")
    other = await run_job(jobs, "ls /run/kept/objects/pack; echo 2 > two", branch="two", tenant="other")
    assert fetched(other) > len(FILES)
    assert "earlier jobs" not in other.logged()


async def test_damaged_objects_are_fetched_again(jobs: Jobs, grown: Path) -> None:
    await run_job(jobs, "echo 1 > one", branch="one")
    pack = packs(jobs.object_cache)[0]
    pack.chmod(0o600)
    data = bytearray(pack.read_bytes())
    data[len(data) // 2] ^= 1
    pack.write_bytes(data)
    second = await run_job(jobs, "git fsck --strict; echo 2 > two", branch="two")
    assert "left are damaged" in second.logged()
    assert fetched(second) > len(FILES)
    third = await run_job(jobs, "git fsck --strict; echo 3 > three", branch="three")
    assert fetched(third) == 0


async def test_jobs_at_the_same_time_share_the_objects(jobs: Jobs, grown: Path) -> None:
    first, second = jobs(branch="one"), jobs(branch="two")
    await first.workspace.prepare()
    commit(grown.with_name("repo.git.work"), {"more": "new"})
    git(grown.with_name("repo.git.work"), "push", "-q", str(grown), "main")
    await second.workspace.prepare()
    for job in (first, second):
        await job.agent("git fsck --strict; echo x > x")
        await job.finish()
    assert {"one", "two"} <= branches(grown).keys()


async def test_a_server_that_lost_its_history_is_no_obstacle(jobs: Jobs, server: GitServer, grown: Path) -> None:
    await run_job(jobs, "echo 1 > one", branch="one")
    for path in (grown, grown.with_name("repo.git.work")):
        path.rename(path.with_name(f"old-{path.name}"))
    make_remote(grown, {"other": "1"})
    job = await run_job(jobs, "test -e other; echo 2 > two", branch="two")
    assert git(grown, "log", "--format=%s", "two").split("\n")[1:] == ["first"]
    assert job.warnings() == []


async def test_the_first_job_of_a_branch_that_exists_has_both_histories_and_their_tags(jobs: Jobs, grown: Path) -> None:
    work = grown.with_name("repo.git.work")
    git(work, "tag", "v1")
    git(work, "checkout", "-q", "-b", "feature/one")
    commit(work, {"feature": "1"})
    git(work, "tag", "--annotate", "--message=two", "v2")
    git(work, "push", "-q", str(grown), "feature/one", "v1", "v2")
    first = await run_job(jobs, "git tag > tags; test -e feature", branch="feature/one")
    assert git(grown, "show", "feature/one:tags").split() == ["v1", "v2"]
    commit(work, {"feature": "2"})
    second = await run_job(jobs, "echo 1 > second", branch="feature/one")
    assert fetched(first) > len(FILES)
    # Git sends the object of an annotated tag each time. The others are the first job's commit.
    assert fetched(second) == 4


async def test_objects_are_readable_for_the_agent_under_any_umask(jobs: Jobs, grown: Path) -> None:
    before = os.umask(0o077)
    try:
        # Both the fetched objects and the kept ones are read.
        for branch in ("one", "two"):
            await run_job(jobs, "git log --oneline > log; git fsck --full", branch=branch)
    finally:
        os.umask(before)


async def test_a_job_that_is_cancelled_during_the_checkout_leaves_usable_objects(
    jobs: Jobs, grown: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = jobs(branch="one")
    real, began = job.sandbox.run, asyncio.Event()

    async def run(*args: Any, **options: Any) -> Completed:
        began.set()
        return await real(*args, **options)

    monkeypatch.setattr(job.sandbox, "run", run)
    preparing = asyncio.create_task(job.workspace.prepare())
    await began.wait()
    preparing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await preparing
    await job.workspace.close()
    after = await run_job(jobs, "git fsck --full; echo 2 > two", branch="two")
    assert "are damaged" not in after.logged()


async def test_the_log_accounts_for_every_second(jobs: Jobs) -> None:
    job = jobs()
    await job.workspace.prepare()
    summary = re.sub(r"[\d.]+ s", "…", job.logged().split("\n")[-1])
    steps = ("listing", "checking kept objects", "fetching", "counting", "checking out", "keeping", "recording")
    expected = ", ".join(f"{name} …" for name in (*steps, "submodules and LFS", "other"))
    assert summary == f"The repository was ready after …: {expected}"
