"""Agents and members change what CI servers run, or push to the default branch."""

from __future__ import annotations

from pathlib import Path

import pytest

from myctobot.contract.jobs import EventKind
from tests.factories import git_fixtures
from tests.factories.git_jobs import Job, Jobs
from tests.fixtures.repos import branches, commit, git
from workers.errors import JobError

pytestmark = pytest.mark.anyio

FILES = {
    "README.md": "# Example\n",
    ".github/workflows/ci.yml": "on: push\n",
    ".github/CODEOWNERS": "* @ada\n",
    "ci/real.yml": "on: push\n",
    "src/app.py": "",
}
anyio_backend = git_fixtures.anyio_backend
server = git_fixtures.server
jobs = git_fixtures.jobs


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    made = git_fixtures.make_served(tmp_path, FILES)
    work = made.with_name("repo.git.work")
    (work / ".gitlab-ci.yml").symlink_to("ci/real.yml")
    commit(work, {})
    git(work, "push", "-q", str(made), "main")
    return made


async def refusal(job: Job) -> JobError:
    with pytest.raises(JobError) as caught:
        await job.finish()
    return caught.value


def submodule(path: str) -> str:
    return f"mkdir -p {path}; git update-index --add --cacheinfo 160000,{'1' * 40},{path}; git commit -qm x"


AUTHOR = "git config user.name a; git config user.email a@b; "
CHANGES = [
    pytest.param("echo evil >> .github/workflows/ci.yml", ".github/workflows/ci.yml", id="changed"),
    pytest.param("mkdir -p .circleci; echo x > .circleci/config.yml", ".circleci/config.yml", id="added"),
    pytest.param("rm .github/workflows/ci.yml", ".github/workflows/ci.yml", id="removed"),
    pytest.param("git mv src/app.py Jenkinsfile", "Jenkinsfile", id="renamed to"),
    pytest.param("git mv .github/workflows/ci.yml x.yml", ".github/workflows/ci.yml", id="renamed from"),
    pytest.param("chmod +x .github/workflows/ci.yml", ".github/workflows/ci.yml", id="mode"),
    pytest.param("ln -sf ../../src/app.py .github/workflows/ci.yml", ".github/workflows/ci.yml", id="link"),
    pytest.param("mv .github x; ln -s x .github", ".github", id="link for a folder"),
    pytest.param("echo evil >> ci/real.yml", "ci/real.yml", id="target of a link"),
    pytest.param("rm -r ci; ln -s src ci", "ci", id="link before the target of a link"),
    pytest.param("mkdir -p .GitHub/Workflows; echo x > .GitHub/Workflows/x", ".GitHub/Workflows/x", id="case"),
    pytest.param("mkdir -p a/b; echo x > a/b/JENKINSFILE.prod", "a/b/JENKINSFILE.prod", id="case in a folder"),
    pytest.param(submodule(".woodpecker"), ".woodpecker", id="submodule"),
    pytest.param(f"git rm -qr .github; {submodule('.github')}", ".github", id="submodule for a folder"),
    pytest.param(
        "echo x > .drone.yml; git add .; git commit -qm x; git rm -q .drone.yml; echo y > y",
        ".drone.yml",
        id="commit before the last",
    ),
]


@pytest.mark.parametrize(("script", "path"), CHANGES)
async def test_no_change_of_a_ci_file_is_pushed(jobs: Jobs, remote: Path, script: str, path: str) -> None:
    job = jobs()
    await job.workspace.prepare()
    await job.agent(AUTHOR + script)
    error = await refusal(job)
    assert error.code == "ci_files_refused"
    assert path in str(error)
    assert list(branches(remote)) == ["main"]


async def test_a_refusal_names_the_remedy_and_shows_the_change(jobs: Jobs) -> None:
    job = jobs()
    await job.workspace.prepare()
    await job.agent("echo evil >> .github/workflows/ci.yml")
    assert "allow_ci_files for localhost:" in str(await refusal(job))
    assert "evil" in job.event(EventKind.DIFF)["patch"]


async def test_the_agents_checkout_has_no_say_in_the_comparison(jobs: Jobs, remote: Path) -> None:
    job = jobs()
    await job.workspace.prepare()
    script = "echo evil >> .github/workflows/ci.yml; git commit -qam x; git update-ref refs/remotes/origin/main HEAD"
    await job.agent(AUTHOR + script)
    assert (await refusal(job)).code == "ci_files_refused"


async def test_other_files_are_pushed(jobs: Jobs, remote: Path) -> None:
    job = jobs()
    await job.workspace.prepare()
    await job.agent("echo x > src/jenkins.py; echo x > .github/CODEOWNERS; mkdir ci/docs; echo x > ci/docs/a")
    await job.finish()
    assert set(branches(remote)) == {"main", "feature/ai"}


async def test_changes_of_the_base_branch_may_be_merged(jobs: Jobs, remote: Path) -> None:
    work = remote.with_name("repo.git.work")
    git(work, "push", "-q", str(remote), "main:feature/ai")
    commit(work, {".github/workflows/ci.yml": "on: pull_request\n"})
    git(work, "push", "-q", str(remote), "main")
    job = jobs()
    await job.workspace.prepare()
    await job.agent(AUTHOR + "git merge -q --no-ff -m merge origin/main")
    assert branches(remote)["feature/ai"] != await job.finish()


async def test_the_policy_of_the_tenant_allows_ci_files(jobs: Jobs, remote: Path) -> None:
    job = jobs(allow_ci_files=True)
    await job.workspace.prepare()
    await job.agent("echo good >> .github/workflows/ci.yml")
    await job.finish()
    assert "good" in git(remote, "show", "feature/ai:.github/workflows/ci.yml")


@pytest.mark.parametrize("branch", ["main", "MAIN"])
async def test_a_push_to_the_default_branch_is_refused(jobs: Jobs, remote: Path, branch: str) -> None:
    git(remote, "branch", "develop", "main")
    with pytest.raises(JobError) as caught:
        await jobs(branch=branch, base="develop").workspace.prepare()
    assert caught.value.code == "default_branch_refused"


async def test_a_branch_that_becomes_the_default_during_the_job_is_refused(jobs: Jobs, remote: Path) -> None:
    git(remote, "branch", "feature/ai", "main")
    job = jobs()
    await job.workspace.prepare()
    await job.agent("echo x > x")
    git(remote, "symbolic-ref", "HEAD", "refs/heads/feature/ai")
    assert (await refusal(job)).code == "default_branch_refused"
    assert branches(remote)["feature/ai"] == branches(remote)["main"]


async def test_a_server_that_hides_its_default_branch_is_refused(jobs: Jobs, remote: Path) -> None:
    git(remote, "symbolic-ref", "HEAD", "refs/heads/not-there")
    with pytest.raises(JobError) as caught:
        await jobs().workspace.prepare()
    assert caught.value.code == "default_branch_unknown"


async def test_the_policy_of_the_tenant_allows_the_default_branch(jobs: Jobs, remote: Path) -> None:
    git(remote, "branch", "develop", "main")
    job = jobs(branch="main", base="develop", allow_default_branch=True)
    await job.workspace.prepare()
    await job.agent("echo x > x")
    assert await job.finish() == branches(remote)["main"]
