"""A submodule that the agent adds is pushed as a link only where others can fetch its commit, and no work is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from myctobot.contract.jobs import EventKind
from tests.factories.git_jobs import Job, Jobs
from tests.fixtures.git_server import GitServer
from tests.fixtures.repos import SHAPES, git

pytestmark = pytest.mark.anyio

IDENTITY = "git config --global user.name a; git config --global user.email a@example.com"
ADD = "git -c protocol.file.allow=always submodule --quiet add"
URL = "https://example.com/lib.git"
# The agent's network does not reach the server, so the script itself writes the branch of the server.
ON_SERVER = f"git -C lib remote add origin {URL}; git -C lib update-ref refs/remotes/origin/main HEAD"


def library(folder: str) -> str:
    return f"{IDENTITY}; git init -q {folder}; (cd {folder}; echo a > m.js; git add .; git commit -qm i)"


def messages(job: Job, code: str) -> list[str]:
    return [data["message"] for kind, data in job.events if kind is EventKind.WARNING and data["code"] == code]


@pytest.mark.parametrize("end", ["true", "git add .; git commit -qm own"], ids=["staged", "committed"])
@pytest.mark.parametrize(
    "script",
    [
        pytest.param(f"{library('/tmp/lib')}; {ADD} /tmp/lib lib", id="a path"),
        pytest.param(f"{library('/tmp/lib')}; {ADD} file:///tmp/lib lib", id="a file address"),
        pytest.param(f"{library('lib')}; {ADD} ./lib lib", id="itself"),
        pytest.param(f"{library('lib')}; {ADD} ../nowhere.git lib", id="a relative path"),
        pytest.param(f"{library('lib')}; {ADD} {URL} lib", id="a server that has nothing of it"),
        pytest.param(
            f"{library('lib')}; {ON_SERVER}; (cd lib; echo a > m.js; echo x > x; git add .; git commit -qm x); "
            f"{ADD} {URL} lib",
            id="a server that lacks the last commit",
        ),
        pytest.param(
            f"{library('/tmp/lib')}; git clone -q /tmp/lib lib; {ADD} {URL} lib", id="a server of which it is no clone"
        ),
        pytest.param(
            f"{library('/tmp/lib')}; {ADD} /tmp/lib lib; git rm -q --cached .gitmodules lib; rm .gitmodules",
            id="no declaration any more",
        ),
    ],
)
async def test_a_link_that_no_one_can_follow_becomes_files(jobs: Jobs, remote: Path, script: str, end: str) -> None:
    job = jobs()
    await job.workspace.prepare()
    await job.agent(f"{script}; {end}")
    await job.finish()
    assert git(remote, "show", "feature/ai:lib/m.js") == "a"
    assert "160000" not in git(remote, "ls-tree", "-r", "feature/ai")
    assert job.warnings() == ["embedded_repository"]
    assert messages(job, "embedded_repository")[0].endswith("history is not: lib.")


@pytest.mark.parametrize("address", [URL, "ssh://git@example.com/lib.git", "git@example.com:lib.git", "../lib.git"])
async def test_a_link_that_others_can_follow_stays(jobs: Jobs, remote: Path, address: str) -> None:
    job = jobs()
    await job.workspace.prepare()
    await job.agent(f"{library('lib')}; {ON_SERVER}; {ADD} {address} lib")
    await job.finish()
    assert git(remote, "ls-tree", "feature/ai", "lib").startswith("160000")
    assert "refer to other git repositories" in messages(job, "embedded_repository")[0]


async def test_files_in_a_submodule_that_was_added_are_kept(jobs: Jobs, remote: Path) -> None:
    job = jobs()
    await job.workspace.prepare()
    await job.agent(f"{library('lib')}; {ON_SERVER}; {ADD} {URL} lib; echo y > lib/y; echo b > lib/m.js")
    await job.finish()
    assert git(remote, "ls-tree", "feature/ai", "lib").startswith("160000")
    patches = "".join(data["patch"] for kind, data in job.events if kind is EventKind.DIFF and "left_out" in data)
    assert {"+y", "-a", "+b"} <= set(patches.splitlines())
    assert "files of the submodule lib (" in messages(job, "submodule_left_out")[0]


async def test_a_submodule_that_the_agent_moves_stays_a_link(jobs: Jobs, server: GitServer, remote: Path) -> None:
    SHAPES["submodules"].make(remote.with_name("shape.git"))
    job = jobs(url=server.url("shape.git"))
    await job.workspace.prepare()
    await job.agent("git mv vendor/library moved")
    await job.finish()
    assert git(remote.with_name("shape.git"), "ls-tree", "feature/ai", "moved").startswith("160000")
