"""Git LFS where the shard has git-lfs: the agent has the contents, and new ones are on the server before the push."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from myctobot.contract.jobs import EventKind
from myctobot.contract.work import WorkFile
from tests.factories.git_jobs import TOKEN, Job, Jobs
from tests.fixtures.git_server import GitServer
from tests.fixtures.lfs_server import LfsServer, find_lfs
from tests.fixtures.repos import LFS_ATTRIBUTES, branches, commit, git, lfs_pointer
from tests.integration.workers.git.test_kept_work import manifest_of
from workers.errors import JobError

pytestmark = [pytest.mark.anyio, pytest.mark.needs("git-lfs")]

CONTENTS = [b"first content\n", b"second\x00content"]


@pytest.fixture
def lfs(server: GitServer, remote: Path) -> LfsServer:
    """Give the repository two files of LFS, and the server their contents."""
    work = remote.with_name("repo.git.work")
    files = {f"data/{number}.bin": lfs_pointer(content) for number, content in enumerate(CONTENTS)}
    commit(work, {".gitattributes": LFS_ATTRIBUTES, **files})
    git(work, "push", "-q", str(remote), "main")
    made = LfsServer(server.url("")[:-1], {hashlib.sha256(content).hexdigest(): content for content in CONTENTS})
    server.extension = made
    return made


def make_job(jobs: Jobs, **options: Any) -> Job:
    return jobs(lfs_program=find_lfs(), **options)


async def test_the_agent_has_the_contents_and_new_ones_reach_the_server(
    jobs: Jobs, lfs: LfsServer, remote: Path
) -> None:
    job = make_job(jobs)
    await job.workspace.prepare()
    assert (await job.agent("cat data/*.bin")).stdout == b"".join(CONTENTS)
    assert (await job.agent("git status --porcelain")).stdout == b""
    await job.agent("echo own > own.bin; git add own.bin; git commit -qm own; echo left > data/0.bin; echo x > x.txt")
    await job.finish()
    assert job.warnings() == []
    for name, content in (("own.bin", b"own\n"), ("data/0.bin", b"left\n")):
        assert git(remote, "show", f"feature/ai:{name}") == lfs_pointer(content).strip()
        digest = hashlib.sha256(content).hexdigest()
        assert lfs.contents[digest] == content
        assert digest in lfs.verified
    changed = git(remote, "diff", "--name-only", "main", "feature/ai").split()
    assert changed == ["data/0.bin", "own.bin", "x.txt"]


async def test_contents_that_the_server_does_not_give_are_named(jobs: Jobs, lfs: LfsServer) -> None:
    lfs.refuse = 403
    job = make_job(jobs)
    await job.workspace.prepare()
    (message,) = [data["message"] for kind, data in job.events if kind is EventKind.WARNING]
    assert message.startswith("2 files are pointers of Git LFS")
    assert "status 403" in message


async def test_a_content_other_than_its_pointer_says_is_refused(jobs: Jobs, lfs: LfsServer) -> None:
    for digest in lfs.contents:
        lfs.contents[digest] = b"evil"
    job = make_job(jobs)
    await job.workspace.prepare()
    assert job.warnings() == ["lfs_missing"]
    assert b"git-lfs" in (await job.agent("cat data/0.bin")).stdout


@pytest.mark.parametrize("host", ["https://127.0.0.1:1", "https://10.0.0.1", "http://localhost:1", "file:///etc"])
async def test_an_address_that_is_not_allowed_is_not_reached(jobs: Jobs, lfs: LfsServer, host: str) -> None:
    lfs.host = host
    job = make_job(jobs)
    await job.workspace.prepare()
    assert job.warnings() == ["lfs_missing"]


async def test_without_the_upload_nothing_is_pushed(jobs: Jobs, lfs: LfsServer, remote: Path) -> None:
    job = make_job(jobs)
    await job.workspace.prepare()
    await job.agent("echo new > new.bin")
    lfs.refuse = 500
    with pytest.raises(JobError) as caught:
        await job.finish()
    assert (caught.value.code, caught.value.retryable) == ("lfs_upload_failed", True)
    assert list(branches(remote)) == ["main"]


async def test_an_upload_that_fails_for_a_moment_is_tried_again(jobs: Jobs, lfs: LfsServer, remote: Path) -> None:
    job = make_job(jobs, push_retry_s=2)
    await job.workspace.prepare()
    await job.agent("echo new > new.bin")
    lfs.refuse, lfs.refusals = 503, 1
    assert await job.finish() == branches(remote)["feature/ai"]
    assert lfs.contents[hashlib.sha256(b"new\n").hexdigest()] == b"new\n"


@pytest.mark.parametrize("uploaded", [True, False])
async def test_kept_work_is_pushed_only_with_its_contents(
    jobs: Jobs, lfs: LfsServer, remote: Path, uploaded: bool
) -> None:
    first = make_job(jobs)
    await first.workspace.prepare()
    await first.agent("echo new > new.bin")
    await first.workspace.commit_leftovers("Work of the agent")
    await first.workspace.collect()
    files = await first.workspace.write_work(first.job_dir, 8)
    if uploaded:
        lfs.contents[hashlib.sha256(b"new\n").hexdigest()] = b"new\n"
    second = make_job(jobs)
    await second.workspace.restore(manifest_of(first), files[WorkFile.BUNDLE])
    if uploaded:
        assert (await second.workspace.push()).sha == branches(remote)["feature/ai"]
        return
    with pytest.raises(JobError, match="contents of Git LFS were not uploaded"):
        await second.workspace.push()
    assert list(branches(remote)) == ["main"]


async def test_a_pointer_that_an_agent_forged_takes_nothing_along(jobs: Jobs, lfs: LfsServer, remote: Path) -> None:
    job = make_job(jobs)
    await job.workspace.prepare()
    oid = "ab" * 32
    pointer = lfs_pointer(b"x").replace(hashlib.sha256(b"x").hexdigest(), oid)
    place = f".git/lfs/objects/{oid[:2]}/{oid[2:4]}"
    await job.agent(f"printf '%s' '{pointer}' > forged.bin; mkdir -p {place}; ln -s /etc/passwd {place}/{oid}")
    await job.finish()
    assert job.warnings() == ["lfs_contents_missing"]
    assert oid not in lfs.contents


async def test_only_the_repositorys_own_server_gets_the_token(jobs: Jobs, server: GitServer, lfs: LfsServer) -> None:
    job = make_job(jobs)
    await job.workspace.prepare()
    assert {text.partition(":")[2] for text in server.authorizations} == {TOKEN}
    assert all(request.authorization for request in server.requests if "/info/lfs/" in request.path)
