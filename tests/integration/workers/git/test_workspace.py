from __future__ import annotations

import shutil
from pathlib import Path
from urllib.parse import unquote

import pytest

from myctobot.contract.jobs import EventKind
from myctobot.contract.limits import MAX_EVENT_BYTES
from tests.factories.git_jobs import FILES, TOKEN, Jobs
from tests.fixtures.git_server import GitServer
from tests.fixtures.repos import branches, commit, git, make_remote
from workers.errors import JobError

pytestmark = pytest.mark.anyio


async def test_uncommitted_work_ends_as_a_commit_on_the_remote_branch(jobs: Jobs, remote: Path) -> None:
    job = jobs()
    prepared = await job.workspace.prepare()
    assert (prepared.base_branch, prepared.base_sha) == ("main", branches(remote)["main"])
    await job.agent("echo new > new.txt")
    assert await job.workspace.commit_leftovers("Work of the agent")
    collected = await job.workspace.collect()
    assert collected is not None
    assert (collected.commits, collected.files, collected.insertions, collected.deletions) == (1, 1, 1, 0)
    pushed = await job.workspace.push()
    assert branches(remote)["feature/ai"] == pushed.sha == collected.head_sha
    assert git(remote, "show", "feature/ai:new.txt") == "new"
    assert git(remote, "log", "-1", "--format=%an|%s", "feature/ai") == "MyCTOBot|Work of the agent"


async def test_the_agents_own_commits_keep_their_messages(jobs: Jobs, remote: Path) -> None:
    job = jobs()
    await job.workspace.prepare()
    await job.agent("echo 1 > a; git add a; git commit -qm one; echo 2 > a; git commit -qam two")
    assert not await job.workspace.commit_leftovers("unused")
    await job.finish()
    assert git(remote, "log", "--format=%s", "main..feature/ai").split() == ["two", "one"]


async def test_the_diff_and_the_push_are_events(jobs: Jobs) -> None:
    job = jobs()
    base = (await job.workspace.prepare()).base_sha
    await job.agent("echo more >> README.md")
    head = await job.finish()
    diff = job.event(EventKind.DIFF)
    assert "+more" in diff.pop("patch")
    totals = {"files": 1, "insertions": 1, "deletions": 0, "commits": 1, "truncated": False}
    assert diff == {"base": base, "head": head, **totals}
    assert job.event(EventKind.PUSHED) == {"branch": "feature/ai", "sha": head}


async def test_without_changes_there_is_nothing_to_push(jobs: Jobs, remote: Path) -> None:
    job = jobs()
    await job.workspace.prepare()
    assert not await job.workspace.commit_leftovers("unused")
    assert await job.workspace.collect() is None
    with pytest.raises(JobError, match="no commits"):
        await job.workspace.push()
    assert "changed nothing" in job.logged()
    assert list(branches(remote)) == ["main"]


async def test_the_remotes_default_branch_is_the_base_unless_one_is_given(
    jobs: Jobs, server: GitServer, tmp_path: Path
) -> None:
    make_remote(tmp_path / "served" / "trunk.git", branch="trunk")
    prepared = await jobs(url=server.url("trunk.git"), base=None).workspace.prepare()
    assert prepared.base_branch == "trunk"


async def test_an_existing_branch_is_continued_and_never_overwritten(jobs: Jobs, remote: Path) -> None:
    first = jobs()
    await first.workspace.prepare()
    await first.agent("echo 1 > one")
    earlier = await first.finish()

    second = jobs()
    await second.workspace.prepare()
    await second.agent("test -e one; echo 2 > two")
    head = await second.finish()
    assert "exists already" in second.logged()
    assert git(remote, "log", "--format=%H", "main..feature/ai").split() == [head, earlier]


async def test_a_branch_that_a_lost_attempt_finished_counts_as_the_result(jobs: Jobs, remote: Path) -> None:
    first = jobs()
    await first.workspace.prepare()
    await first.agent("echo 1 > one")
    earlier = await first.finish()

    second = jobs()
    await second.workspace.prepare()
    assert await second.finish() == earlier == branches(remote)["feature/ai"]
    assert "added no commit" in second.logged()


async def test_a_branch_with_new_commits_is_not_overwritten(jobs: Jobs, remote: Path, tmp_path: Path) -> None:
    job = jobs()
    await job.workspace.prepare()
    await job.agent("echo mine > file")
    await job.workspace.commit_leftovers("mine")
    await job.workspace.collect()
    git(tmp_path, "clone", "-q", str(remote), "other")
    theirs = commit(tmp_path / "other", {"file": "theirs"})
    git(tmp_path / "other", "push", "-q", "origin", "HEAD:refs/heads/feature/ai")
    with pytest.raises(JobError, match="other commits") as caught:
        await job.workspace.push()
    assert (caught.value.code, caught.value.retryable) == ("push_rejected", False)
    assert branches(remote)["feature/ai"] == theirs


async def test_the_checkout_names_the_remote_and_has_no_path_to_the_runner(jobs: Jobs, server: GitServer) -> None:
    job = jobs()
    await job.workspace.prepare()
    shown = await job.agent(
        "git remote -v; git branch --show-current; git status --porcelain; ls .git/hooks 2>&1 || true"
    )
    lines = shown.stdout.decode().splitlines()
    assert lines[:3] == [f"origin\t{server.url('repo.git')} ({way})" for way in ("fetch", "push")] + ["feature/ai"]
    assert [path.name for path in (job.job_dir / "git").glob("*.bundle")] == []


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        (TOKEN, f"x-access-token:{TOKEN}"),
        (f"deploy@example.com:{TOKEN}", f"deploy@example.com:{TOKEN}"),
        (f"{TOKEN}:x-oauth-basic", f"x-access-token:{TOKEN}"),
        (f"  {TOKEN}\n", f"x-access-token:{TOKEN}"),
    ],
)
async def test_the_token_arrives_as_basic_authorization(
    jobs: Jobs, server: GitServer, token: str, expected: str
) -> None:
    await jobs(token=token).workspace.prepare()
    assert set(server.authorizations) == {expected}


async def test_a_public_repository_needs_no_token(jobs: Jobs, server: GitServer) -> None:
    server.token = None
    assert (await jobs(token=None).workspace.prepare()).notes.text == FILES["CLAUDE.md"]


async def test_a_large_patch_is_cut_and_its_totals_are_not(jobs: Jobs) -> None:
    job = jobs()
    await job.workspace.prepare()
    await job.agent("seq 1 200000 > numbers")
    await job.workspace.commit_leftovers("numbers")
    collected = await job.workspace.collect()
    assert collected is not None
    assert collected.truncated
    assert collected.insertions == 200_000
    assert len(str(job.event(EventKind.DIFF))) < MAX_EVENT_BYTES


async def test_many_files_are_pushed(jobs: Jobs) -> None:
    job = jobs()
    await job.workspace.prepare()
    await job.agent("mkdir many; cd many; seq 1 20000 | split -l 1 -a 4 -")
    await job.workspace.commit_leftovers("many")
    collected = await job.workspace.collect()
    assert collected is not None
    assert collected.files == 20_000


@pytest.mark.parametrize("name", ["repo.git", "repo.git.work", "repo.git.work/.git", "caf\u00e9%20and%20more.git"])
async def test_a_local_repository_below_an_open_folder(jobs: Jobs, remote: Path, name: str) -> None:
    shutil.copytree(remote, remote.with_name("caf\u00e9 and more.git"))
    job = jobs(url=f"file://{remote.parent}/{name}", token=None, file_roots=(str(remote.parent),))
    await job.workspace.prepare()
    await job.agent("echo new > new.txt")
    assert await job.finish() == branches(remote.parent / unquote(name))["feature/ai"]
    assert f"file://{remote.parent}/{name}" in job.logged()
    assert "/proc/" not in job.logged()


async def test_nothing_is_left_after_remove(jobs: Jobs) -> None:
    job = jobs()
    await job.workspace.prepare()
    await job.agent("mkdir -p locked/in; touch locked/in/file; chmod 000 locked/in locked; ln -s / root")
    job.workspace.remove()
    assert not job.job_dir.exists()
    assert Path("/etc/passwd").exists()
