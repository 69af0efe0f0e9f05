"""Agents and git servers make the runner's git use all memory, time or output of the shard."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from tests.factories import git_fixtures
from tests.factories.git_jobs import Job, Jobs
from tests.fixtures.endless_server import serve_endless
from tests.fixtures.git_objects import (
    commit_content,
    expanding_pack,
    write_nested_trees,
    write_object,
    zeros_id,
)
from tests.fixtures.git_server import GitServer, Pause
from tests.fixtures.repos import branches, git
from workers.errors import JobError
from workers.git.command import Git
from workers.git.confinement import MIN_ADDRESS_SPACE_MB, Confinement
from workers.git.pack import import_pack
from workers.sandbox.limits import ResourceLimits

pytestmark = pytest.mark.anyio

# Far below what each attack would need.
LIMITS = ResourceLimits(memory_mb=128)
anyio_backend = git_fixtures.anyio_backend
remote = git_fixtures.remote
server = git_fixtures.server
jobs = git_fixtures.jobs


@pytest.fixture(
    params=[pytest.param("control groups", marks=pytest.mark.needs("a control group")), "limits of each process"]
)
async def confinement(request: pytest.FixtureRequest) -> AsyncIterator[Confinement]:
    made = Confinement.create(LIMITS) if request.param == "control groups" else Confinement(LIMITS)
    yield made
    await made.close()


async def refusal(job: Job) -> JobError:
    with pytest.raises(JobError) as caught:
        await job.workspace.prepare()
    return caught.value


# --- More paths than any machine could hold ----------------------------------------------------------


async def test_a_commit_of_nested_trees_is_refused_before_its_paths_are_walked(jobs: Jobs, remote: Path) -> None:
    job = jobs(limits=LIMITS)
    prepared = await job.workspace.prepare()
    git_dir = job.job_dir / "agent" / "repo" / ".git"
    bomb = write_object(git_dir, "commit", commit_content(write_nested_trees(git_dir), prepared.base_sha))
    await job.agent(f"git checkout -q --detach; git update-ref refs/heads/feature/ai {bomb}")
    with pytest.raises(JobError, match="1,000,000 files and folders") as caught:
        await job.finish()
    assert caught.value.code == "too_many_files"
    assert list(branches(remote)) == ["main"]


async def test_a_base_branch_of_nested_trees_is_refused_before_it_is_checked_out(jobs: Jobs, remote: Path) -> None:
    bomb = write_object(remote, "commit", commit_content(write_nested_trees(remote)))
    git(remote, "update-ref", "refs/heads/main", bomb)
    job = jobs(limits=LIMITS)
    assert (await refusal(job)).code == "too_many_files"
    assert list((job.job_dir / "agent" / "repo").iterdir()) == []


async def test_folders_inside_each_other_without_end_are_refused(jobs: Jobs, remote: Path) -> None:
    bomb = write_object(remote, "commit", commit_content(write_nested_trees(remote, depth=1500, width=1)))
    git(remote, "update-ref", "refs/heads/main", bomb)
    job = jobs(limits=LIMITS)
    assert (await refusal(job)).code == "too_many_files"
    assert list((job.job_dir / "agent" / "repo").iterdir()) == []


# --- More memory than the job has --------------------------------------------------------------------


async def test_a_delta_of_the_agent_that_expands_beyond_the_memory_is_refused(
    confinement: Confinement, tmp_path: Path
) -> None:
    pack, commit = expanding_pack(expanded_mb=2 * MIN_ADDRESS_SPACE_MB)
    (tmp_path / "agent.pack").write_bytes(pack)
    git(tmp_path, "init", "--quiet", "--bare", "clean.git")
    clean = tmp_path / "clean.git"
    with pytest.raises(JobError) as caught:
        await import_pack(Git(tmp_path, confinement=confinement), clean, tmp_path / "agent.pack", [commit], 2**30)
    assert caught.value.code == "git_out_of_memory"
    assert f"{confinement.memory_mb} MB" in str(caught.value)


async def test_a_delta_of_the_server_that_expands_beyond_the_memory_is_refused(jobs: Jobs, remote: Path) -> None:
    pack, commit = expanding_pack(256, zeros_id(256))
    (remote / "bomb.pack").write_bytes(pack)
    git(remote, "index-pack", "-o", "bomb.idx", "bomb.pack")
    for name in ("bomb.pack", "bomb.idx"):
        (remote / name).rename(remote / "objects" / "pack" / f"pack-{commit}{Path(name).suffix}")
    git(remote, "update-ref", "refs/heads/main", commit)
    error = await refusal(jobs(limits=LIMITS))
    assert error.code == "git_out_of_memory"


@pytest.mark.parametrize("version", [0, 2])
async def test_a_server_that_lists_branches_without_end_is_refused(tmp_path: Path, version: int) -> None:
    with serve_endless(tmp_path, version) as endless:
        jobs = Jobs(endless, tmp_path)
        try:
            error = await refusal(jobs(limits=LIMITS))
        finally:
            await jobs.close()
    assert error.code == "repo_too_many_refs"


# --- Processes outside of the limits -----------------------------------------------------------------


def groups_of(pid: int) -> set[str]:
    lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    return {name for line in lines if (name := line.rpartition("/")[2]).startswith("agent-")}


async def test_every_process_of_the_runners_git_is_limited(jobs: Jobs, server: GitServer) -> None:
    pause = Pause(after=3)
    server.held = pause
    job = jobs(limits=LIMITS)
    task = asyncio.create_task(job.workspace.prepare())
    assert await asyncio.to_thread(pause.reached.wait, 60)
    running = [child for child in psutil.Process().children(recursive=True) if child.name().startswith("git")]
    unlimited = [
        child
        for child in running
        if not groups_of(child.pid) and child.rlimit(psutil.RLIMIT_AS)[0] == psutil.RLIM_INFINITY
    ]
    pause.release()
    await task
    assert len(running) > 1
    assert unlimited == []


@pytest.mark.needs("a control group")
async def test_a_process_that_leaves_its_session_ends_with_the_call(tmp_path: Path) -> None:
    confinement = Confinement.create(LIMITS)
    (tmp_path / "escape").write_text(
        f"#!/bin/sh\nsetsid sh -c 'echo $$ > {tmp_path}/pid; exec sleep 600' > /dev/null 2>&1 &\n"
        f"while ! test -s {tmp_path}/pid; do sleep 0.01; done\n"
    )
    (tmp_path / "escape").chmod(0o755)
    escape = ("-c", f"alias.x=!{tmp_path}/escape")
    try:
        await Git(tmp_path, confinement=confinement).run([*escape, "x"], cwd=tmp_path)
        psutil.wait_procs(_existing(int((tmp_path / "pid").read_text())), timeout=30)
        assert not _existing(int((tmp_path / "pid").read_text()))
    finally:
        await confinement.close()


def _existing(pid: int) -> list[psutil.Process]:
    try:
        process = psutil.Process(pid)
    except psutil.NoSuchProcess:
        return []
    return [] if process.status() == psutil.STATUS_ZOMBIE else [process]


@pytest.mark.needs("a control group")
async def test_the_groups_are_removed(tmp_path: Path) -> None:
    confinement = Confinement.create(LIMITS)
    await Git(tmp_path, confinement=confinement).check(["version"], cwd=tmp_path)
    wrapped = confinement.wrap(["true"], timeout_s=1, max_file_mb=1)
    directories = [Path(word) for word in wrapped if f"agent-{os.getpid()}-" in word]
    await confinement.close()
    assert not any(directory.exists() for directory in directories)
