"""Very long texts and lists that come from the repository itself, or that its agent makes, are no damage."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.factories import git_fixtures
from tests.factories.git_jobs import Jobs
from tests.fixtures.repos import ENV, branches, git

pytestmark = pytest.mark.anyio

jobs = git_fixtures.folder_jobs

NAME = "a" * 100_000


def feed(work: Path, text: str, *args: str) -> str:
    """Run git with a text as its input, and return its output."""
    done = subprocess.run(["git", *args], cwd=work, env=ENV, input=text, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def tag_with_a_long_message(work: Path) -> None:
    feed(work, "word " * 1_000_000, "tag", "-a", "-F", "-", "v1")


def commit_with_a_long_author(work: Path) -> None:
    git(work, "commit", "-q", "--allow-empty", "-m", "w", env={"GIT_AUTHOR_NAME": NAME})


def commit_with_many_parents(work: Path) -> None:
    tree = git(work, "rev-parse", "HEAD^{tree}")
    start = feed(work, "", "rev-parse", "HEAD")
    stream = "".join(
        f"commit refs/heads/side-{number}\ncommitter Ada <ada@example.com> {number} +0000\ndata 1\nx\nfrom {start}\n\n"
        for number in range(2000)
    )
    feed(work, stream, "fast-import", "--quiet")
    sides = git(work, "for-each-ref", "--format=%(objectname)", "refs/heads/side-*").splitlines()
    parents = [word for side in sides for word in ("-p", side)]
    git(work, "reset", "-q", "--hard", git(work, "commit-tree", tree, *parents, "-m", "octopus"))


def many_tags(work: Path) -> None:
    feed(
        work,
        "".join(f"create refs/tags/{number}-{'t' * 150} HEAD\n" for number in range(5000)),
        "update-ref",
        "--stdin",
    )


@pytest.mark.parametrize(
    "make", [tag_with_a_long_message, commit_with_a_long_author, commit_with_many_parents, many_tags]
)
async def test_a_job_works_on_a_repository_with_long_things(
    jobs: Jobs, remote: Path, make: Callable[[Path], None]
) -> None:
    work = remote.with_name("repo.git.work")
    make(work)
    git(work, "push", "-q", "--tags", str(remote), "main")
    job = jobs()
    await job.workspace.prepare()
    await job.agent("echo new > new.txt")
    assert await job.finish() == branches(remote)["feature/ai"]
    assert git(remote, "diff", "--name-only", "main", "feature/ai") == "new.txt"
    assert job.warnings() == []


@pytest.mark.parametrize(
    ("script", "warnings"),
    [
        pytest.param(
            f"echo new > new.txt; git add .; GIT_AUTHOR_NAME={NAME} git commit -qm w", [], id="a long author"
        ),
        pytest.param(
            "echo new > new.txt; git add .; git commit -qm w; yes word | head -n 1000000 | git tag -a -F - v1",
            ["tags_left_out"], id="a long tag",
        ),
        pytest.param(
            "echo new > new.txt; git add .; git commit -qm w; for n in $(seq 3000); do "
            "echo \"create refs/tags/$n-$(printf %0150d 0) HEAD\"; done | git update-ref --stdin",
            ["tags_left_out"], id="many tags",
        ),
    ],
)  # fmt: skip
async def test_what_an_agent_makes_long_is_pushed(jobs: Jobs, remote: Path, script: str, warnings: list[str]) -> None:
    job = jobs()
    await job.workspace.prepare()
    await job.agent(script)
    assert await job.finish() == branches(remote)["feature/ai"]
    assert git(remote, "show", "feature/ai:new.txt") == "new"
    assert job.warnings() == warnings
    assert all(len(str(data)) < 10_000 for kind, data in job.events if kind == "job.warning")
