"""Shapes of public repositories over every way to reach them: a job sees what a clone has, and adds its own file."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.factories.git_jobs import TOKEN, Job, Jobs
from tests.fixtures.git_server import GitServer
from tests.fixtures.repos import ENV, SHAPES, git
from tests.fixtures.ssh_server import serve_ssh
from workers.errors import JobError

pytestmark = pytest.mark.anyio
# Names, modes and objects of the index, and the digest of each file.
SHOW_FILES = """
git ls-files -z --stage
show='for file; do if [ -f "$file" ] && ! [ -L "$file" ]; then sha1sum -- "$file"; fi; done'
git ls-files -z | xargs -0 sh -c "$show" sh
"""
WAYS = ("file", "https", pytest.param("ssh", marks=pytest.mark.needs("sshd")))


@pytest.fixture
def access(request: pytest.FixtureRequest, server: GitServer, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """Return the options of a job for the repository ``shape.git``, over the way that the test names."""
    path = tmp_path / "served" / "shape.git"
    with ExitStack() as opened:
        if request.param == "file":
            yield {"url": f"file://{path}", "token": None, "file_roots": (str(path.parent),)}
        elif request.param == "https":
            yield {"url": server.url("shape.git"), "token": TOKEN}
        else:
            ssh = opened.enter_context(serve_ssh(tmp_path))
            yield {"url": ssh.url(path), "token": ssh.private_key, "known_hosts": ssh.known_hosts}


@pytest.mark.long
@pytest.mark.parametrize("access", WAYS, indirect=True)
@pytest.mark.parametrize("name", SHAPES)
async def test_a_job_works_on_it_or_says_why_not(jobs: Jobs, access: dict[str, Any], tmp_path: Path, name: str) -> None:
    path = tmp_path / "served" / "shape.git"
    await check_shape(jobs, access, path, name)


@pytest.mark.parametrize("access", ["https"], indirect=True)
@pytest.mark.parametrize("name", [name for name in SHAPES if name != "monorepo"])
async def test_a_job_works_on_it_over_https(jobs: Jobs, access: dict[str, Any], tmp_path: Path, name: str) -> None:
    await check_shape(jobs, access, tmp_path / "served" / "shape.git", name)


@pytest.mark.needs("sshd")
@pytest.mark.parametrize("access", ["ssh"], indirect=True)
@pytest.mark.parametrize("name", ["sha256", "sha256 submodule"])
async def test_a_job_works_on_it_over_ssh(jobs: Jobs, access: dict[str, Any], tmp_path: Path, name: str) -> None:
    await check_shape(jobs, access, tmp_path / "served" / "shape.git", name)


async def check_shape(jobs: Jobs, access: dict[str, Any], path: Path, name: str) -> None:
    shape = SHAPES[name]
    shape.make(path)
    job = jobs(base=None, **access)
    if shape.refusal is not None:
        with pytest.raises(JobError) as caught:
            await job.workspace.prepare()
        assert (caught.value.code, caught.value.retryable) == (shape.refusal, False)
        return
    prepared = await job.workspace.prepare()
    assert job.warnings() == list(shape.warnings)
    assert await files_of(job) == cloned_files(path)
    assert (
        await job.agent("git status --porcelain --ignore-submodules=none; git fsck --strict --no-dangling")
    ).stdout == b""
    assert (await job.agent("git tag")).stdout.decode().split() == git(path, "tag").split()
    await job.agent("echo new > new.txt")
    head = await job.finish()
    changed = git(path, "diff", "--raw", "--abbrev=4", "--no-renames", prepared.base_sha, head)
    assert changed.endswith("A\tnew.txt")
    assert "\n" not in changed
    git(path, "fsck", "--strict")


async def files_of(job: Job) -> set[str]:
    """Return the files of the checkout with their content, without those of submodules."""
    return set((await job.agent(SHOW_FILES)).stdout.decode().replace("\n", "\0").split("\0"))


def cloned_files(path: Path) -> set[str]:
    """Return the same for a clone by git itself."""
    clone = path.with_name("clone")
    git(path.parent, "clone", "-q", f"file://{path}", str(clone))
    done = subprocess.run(["sh", "-ec", SHOW_FILES], cwd=clone, env=ENV, capture_output=True, check=True)
    return set(done.stdout.decode().replace("\n", "\0").split("\0"))
