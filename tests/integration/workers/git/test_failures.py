from __future__ import annotations

import random
import socket
from pathlib import Path

import pytest

from tests.factories.git_jobs import TOKEN, Jobs
from tests.fixtures.git_faults import Fault, every_push, status
from tests.fixtures.git_server import GitServer, Pause
from tests.fixtures.repos import branches, git
from workers.errors import JobError

pytestmark = pytest.mark.anyio


async def refusal(jobs: Jobs, **settings: object) -> JobError:
    job = jobs(**settings)  # type: ignore[arg-type]  # settings of the policy among them
    with pytest.raises(JobError) as caught:
        await job.workspace.prepare()
    assert TOKEN not in str(caught.value) + job.logged()
    return caught.value


async def test_an_unknown_repository_is_named_as_such(jobs: Jobs, server: GitServer) -> None:
    error = await refusal(jobs, url=server.url("certificate-not-resolved.git"))
    assert (error.code, error.retryable) == ("repo_not_found", False)
    assert "repo_url" in str(error)


@pytest.mark.parametrize(("token", "code"), [("wrong-token-0000", "repo_auth_failed"), (None, "repo_token_missing")])
async def test_a_wrong_or_missing_token_is_named_as_such(jobs: Jobs, token: str | None, code: str) -> None:
    error = await refusal(jobs, token=token)
    assert error.code == code
    assert "repo_token" in str(error)


async def test_an_unknown_base_branch_is_named_as_such(jobs: Jobs) -> None:
    error = await refusal(jobs, base="develop")
    assert error.code == "base_branch_not_found"
    assert "'develop' (base_branch)" in str(error)


async def test_a_branch_may_not_be_the_default_branch(jobs: Jobs) -> None:
    assert (await refusal(jobs, base=None, branch="main")).code == "branch_invalid"


@pytest.mark.parametrize("other", ["feature", "feature/ai/old/one"])
async def test_a_branch_that_git_cannot_create_fails_before_the_agent(jobs: Jobs, remote: Path, other: str) -> None:
    git(remote, "branch", other, "main")
    error = await refusal(jobs)
    assert (error.code, error.retryable) == ("branch_conflict", False)
    assert f"the repository has a branch '{other}'; choose another name." in str(error)


async def test_an_empty_repository_is_named_as_such(jobs: Jobs, server: GitServer, remote: Path) -> None:
    git(remote.parent, "init", "-q", "--bare", "empty.git")
    error = await refusal(jobs, url=server.url("empty.git"), base=None)
    assert error.code == "repo_empty"


async def test_a_server_that_does_not_answer_may_be_retried(jobs: Jobs) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"https://localhost:{unused.getsockname()[1]}/repo.git"
        error = await refusal(jobs, url=url)
    assert (error.code, error.retryable) == ("repo_unreachable", True)


async def test_an_untrusted_certificate_is_refused(jobs: Jobs, server: GitServer) -> None:
    error = await refusal(jobs, ca_file=None)
    assert error.code == "repo_certificate_invalid"
    assert server.requests == []


async def test_a_server_that_never_ends_is_given_up(jobs: Jobs, server: GitServer) -> None:
    pause = Pause(after=3)
    server.held = pause
    error = await refusal(jobs, clone_timeout_s=2)
    pause.release()
    assert (error.code, error.retryable) == ("git_timeout", True)
    assert pause.reached.is_set()


async def test_a_token_without_write_access_is_named_as_such(jobs: Jobs, server: GitServer, remote: Path) -> None:
    server.faults = [Fault(every_push, status(403))]
    job = jobs()
    await job.workspace.prepare()
    await job.agent("echo new > new.txt")
    with pytest.raises(JobError) as caught:
        await job.finish()
    assert caught.value.code == "repo_access_denied"
    assert "repo_token" in str(caught.value)
    assert list(branches(remote)) == ["main"]


async def test_a_protected_branch_is_named_with_the_servers_reason(jobs: Jobs, remote: Path) -> None:
    hook = remote / "hooks" / "pre-receive"
    hook.write_text("#!/bin/sh\necho 'fatal: protected by policy 7' >&2\nexit 1\n")
    hook.chmod(0o755)
    job = jobs()
    await job.workspace.prepare()
    await job.agent("echo new > new.txt")
    with pytest.raises(JobError) as caught:
        await job.finish()
    assert (caught.value.code, caught.value.retryable) == ("push_denied", False)
    assert "pre-receive hook declined" in str(caught.value)
    assert "policy 7" in job.logged() + str(caught.value)


async def test_a_repository_over_the_limit_is_refused(jobs: Jobs, remote: Path) -> None:
    work = remote.with_name("repo.git.work")
    (work / "noise").write_bytes(random.Random(1).randbytes(3 * 2**20))
    git(work, "add", ".")
    git(work, "commit", "-qm", "noise")
    git(work, "push", "-q", str(remote), "main")
    assert (await refusal(jobs, max_repo_mb=2)).code == "repo_too_large"
