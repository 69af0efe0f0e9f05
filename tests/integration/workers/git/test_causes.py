"""Causes of failures, from the evidence of real servers."""

from __future__ import annotations

import random
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest

from tests.factories.git_jobs import AGENT_UID, TOKEN, Job, Jobs
from tests.fixtures.git_faults import (
    Act,
    Exchange,
    Fault,
    corrupt,
    cut_before,
    cut_within,
    lose_object,
    make_shallow,
    pack_of_fetch,
    pack_of_push,
    page,
    refs_of_read,
    status,
    write_hook,
)
from tests.fixtures.git_server import GitServer, serve
from tests.fixtures.repos import branches, commit, git
from workers.errors import JobError
from workers.sandbox.limits import ResourceLimits

pytestmark = pytest.mark.anyio


async def refusal(jobs: Jobs, **settings: object) -> JobError:
    job = jobs(**settings)  # type: ignore[arg-type]  # settings of the policy among them
    with pytest.raises(JobError) as caught:
        await job.workspace.prepare()
    assert TOKEN not in str(caught.value) + job.logged()
    return caught.value


@pytest.mark.parametrize(
    ("fault", "code", "retryable", "words"),
    [
        (status(429, "Slow down, tenant 7."), "repo_unreachable", True, "(HTTP status 429)"),
        (status(503, "We are at lunch."), "repo_unreachable", True, "The server said: We are at lunch."),
        (status(403, "IP not on the list"), "repo_access_denied", False, "The server said: IP not on the list"),
        (status(451, "Not here"), "repo_refused", False, "(HTTP status 451)"),
        (page, "repo_not_git", False, "not as a git server"),
        (cut_before, "repo_unreachable", True, ""),
    ],
)
async def test_a_server_that_refuses_has_a_code_by_its_status(
    jobs: Jobs, server: GitServer, fault: Act, code: str, retryable: bool, words: str
) -> None:
    server.faults.append(Fault(refs_of_read, fault))
    error = await refusal(jobs)
    assert (error.code, error.retryable) == (code, retryable)
    assert words in str(error)


async def test_a_page_of_one_line_is_no_empty_repository(jobs: Jobs, server: GitServer) -> None:
    def one_line(exchange: Exchange) -> None:
        exchange.reply(200, {"Content-Type": "text/html"}, b"<p>Sign in</p>")

    server.faults.append(Fault(refs_of_read, one_line))
    assert (await refusal(jobs, base=None)).code == "repo_not_git"


async def test_a_fetch_that_breaks_off_may_be_retried(jobs: Jobs, server: GitServer) -> None:
    server.faults.append(Fault(pack_of_fetch, cut_within, after=2))
    error = await refusal(jobs)
    assert (error.code, error.retryable) == ("repo_unreachable", True)


def corrupt_listing(exchange: Exchange) -> None:
    answer = exchange.run_backend()
    exchange.reply(answer.status, answer.headers, answer.content.replace(b" HEAD", b"\0HEAD", 1))


@pytest.mark.parametrize(("act", "after"), [(corrupt, 2), (corrupt_listing, 0)])
async def test_an_answer_that_was_damaged_on_its_way_may_be_retried(
    jobs: Jobs, server: GitServer, act: Act, after: int
) -> None:
    server.faults.append(Fault(pack_of_fetch, act, after=after))
    error = await refusal(jobs)
    assert (error.code, error.retryable) == ("repo_answer_damaged", True)


async def test_an_object_that_the_server_lost_is_named_as_its_fault(jobs: Jobs, remote: Path) -> None:
    lose_object(remote, git(remote, "rev-parse", "main:README.md"))
    error = await refusal(jobs)
    assert (error.code, error.retryable) == ("repo_corrupt", False)
    assert "The server says that its copy of the repository is corrupt" in str(error)


async def test_a_shallow_copy_on_the_server_is_named(jobs: Jobs, remote: Path) -> None:
    work = remote.with_name("repo.git.work")
    commit(work, {"second": "2"})
    git(work, "push", "-q", str(remote), "main")
    make_shallow(remote)
    error = await refusal(jobs)
    assert (error.code, error.retryable) == ("repo_shallow", False)


async def test_an_expired_certificate_is_not_an_unknown_authority(jobs: Jobs, remote: Path, tmp_path: Path) -> None:
    directory = tmp_path / "expired"
    directory.mkdir()
    with serve(remote.parent, directory, TOKEN, valid=timedelta(hours=-1)) as server:
        error = await refusal(jobs, url=server.url("repo.git"), ca_file=server.ca_file)
    assert error.code == "repo_certificate_expired"
    assert "administrator of that server renew it" in str(error)


async def test_a_certificate_of_the_future_is_a_matter_of_clocks(jobs: Jobs, remote: Path, tmp_path: Path) -> None:
    directory = tmp_path / "early"
    directory.mkdir()
    with serve(remote.parent, directory, TOKEN, since=timedelta(hours=1), valid=timedelta(hours=2)) as server:
        error = await refusal(jobs, url=server.url("repo.git"), ca_file=server.ca_file)
    assert (error.code, error.retryable) == ("repo_certificate_expired", False)
    assert "is not valid yet" in str(error)
    assert "or the operator of the shard its clock" in str(error)
    assert "renew" not in str(error)


async def test_a_certificate_for_another_host_says_so(jobs: Jobs, server: GitServer) -> None:
    async def here(host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    allowed = frozenset({"git.example.org"})
    url = server.url("repo.git", "git.example.org")
    error = await refusal(jobs, url=url, resolver=here, allowed_private_hosts=allowed)
    assert error.code == "repo_certificate_invalid"
    assert "is for another host" in str(error)


async def test_a_default_branch_may_have_any_name_that_git_allows(jobs: Jobs, remote: Path) -> None:
    git(remote, "branch", "-m", "main", "wide\u3000space\u2028x")
    job = jobs(base=None)
    assert (await job.workspace.prepare()).base_branch == "wide\u3000space\u2028x"
    await job.agent("echo new > new.txt")
    assert await job.finish() == git(remote, "rev-parse", "refs/heads/feature/ai")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (".gitattributes", "*.txt " + "x" * 3000),
        (".gitattributes", "# " + "x" * 200 + "\n" + "a b\n" * 300_000),
        (".gitmodules", "[submodule\n"),
    ],
)
async def test_what_git_tolerates_is_tolerated(jobs: Jobs, remote: Path, name: str, text: str) -> None:
    work = remote.with_name("repo.git.work")
    commit(work, {name: text})
    git(work, "push", "-q", str(remote), "main")
    job = jobs()
    await job.workspace.prepare()
    await job.agent("echo new > new.txt")
    assert await job.finish() == branches(remote)["feature/ai"]


# --- Limits of the checkout ---------------------------------------------------------------------------


def add_noise(remote: Path, size: int) -> None:
    work = remote.with_name("repo.git.work")
    (work / "noise").write_bytes(random.Random(1).randbytes(size))
    commit(work, {})
    git(work, "push", "-q", str(remote), "main")


async def test_a_checkout_over_the_limit_of_a_file_names_it(jobs: Jobs, remote: Path) -> None:
    add_noise(remote, 3 * 2**20)
    error = await refusal(jobs, limits=ResourceLimits(file_size_mb=2))
    assert (error.code, error.retryable) == ("repo_too_large", False)
    assert "the 2 MB that this shard allows (sandbox.file_size_mb)" in str(error)


@pytest.mark.needs("root")
async def test_a_disk_that_is_full_during_the_checkout_has_its_code(jobs: Jobs, remote: Path) -> None:
    add_noise(remote, 6 * 2**20)
    job = jobs()
    home = job.sandbox.agent_dir / "repo"
    options = f"size=4m,uid={AGENT_UID}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(home)], check=True)
    try:
        with pytest.raises(JobError) as caught:
            await job.workspace.prepare()
    finally:
        subprocess.run(["umount", str(home)], check=True)
    assert (caught.value.code, caught.value.retryable) == ("disk_full", True)


# --- Pushes --------------------------------------------------------------------------------------------


async def push_refusal(job: Job) -> JobError:
    await job.workspace.prepare()
    await job.agent("echo new > new.txt")
    with pytest.raises(JobError) as caught:
        await job.finish()
    assert TOKEN not in str(caught.value)
    return caught.value


async def test_the_words_of_a_hook_are_in_the_message(jobs: Jobs, remote: Path) -> None:
    write_hook(remote, ["GL-HOOK-ERR: branch is protected", f"token {TOKEN}", *["more"] * 9000], refuse=True)
    error = await push_refusal(jobs())
    assert (error.code, error.retryable) == ("push_denied", False)
    assert "pre-receive hook declined. The server said: GL-HOOK-ERR: branch is protected / token [redacted]" in str(
        error
    )
    assert len(str(error)) < 2000


async def test_a_hook_that_prints_gits_own_messages_changes_no_cause(jobs: Jobs, remote: Path) -> None:
    lines = ["fatal: write error: No space left on device", "error: RPC failed; HTTP 401 curl 22", '{"event":"error"}']
    write_hook(remote, lines, refuse=True)
    assert (await push_refusal(jobs())).code == "push_denied"


@pytest.mark.parametrize(
    ("number", "code", "retryable"),
    [
        (413, "push_too_large", False),
        (401, "repo_auth_failed", False),
        (403, "repo_access_denied", False),
        (429, "repo_unreachable", True),
        (503, "repo_unreachable", True),
    ],
)
async def test_a_push_that_is_refused_late_has_a_code_by_its_status(
    jobs: Jobs, server: GitServer, number: int, code: str, retryable: bool
) -> None:
    server.faults.append(Fault(pack_of_push, status(number, "The reason of this server.")))
    error = await push_refusal(jobs())
    assert (error.code, error.retryable) == (code, retryable)
