"""A push has exactly the bytes that the agent changed, also where git's attributes ask for other bytes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.factories import git_fixtures
from tests.factories.git_jobs import Jobs
from tests.fixtures.repos import git

pytestmark = pytest.mark.anyio

jobs = git_fixtures.folder_jobs

ATTRIBUTES = "*.txt text\n*.bat text eol=crlf\n*.id ident\n*.u16 text working-tree-encoding=UTF-16LE\n"


@pytest.fixture
def converted(remote: Path) -> Path:
    """Give the repository files whose stored bytes differ from what its attributes ask, and return it."""
    work = remote.with_name("repo.git.work")
    for number in range(40):
        (work / f"win {number}.txt").write_bytes(b"one\r\ntwo\r\n")
    (work / "run.bat").write_bytes(b"echo\n")
    (work / '[odd] "name".txt').write_bytes(b"one\r\n")
    (work / "stored with crlf.u16").write_bytes("hällo\r\n".encode())
    (work / "stored with lf.u16").write_bytes("hällo\n".encode())
    (work / "x.id").write_bytes(b"$Id: stored with a value $\n")
    git(work, "add", ".")
    git(work, "commit", "-qm", "files")
    (work / ".gitattributes").write_text(ATTRIBUTES)
    git(work, "add", ".gitattributes")
    git(work, "commit", "-qm", "attributes")
    git(work, "push", "-q", str(remote), "main")
    return remote


async def changed(jobs: Jobs, remote: Path, script: str, branch: str = "feature/ai") -> list[str]:
    job = jobs(branch=branch)
    await job.workspace.prepare()
    await job.agent(script)
    await job.finish()
    return git(remote, "diff", "--no-renames", "--name-only", "main", branch).split("\n")


@pytest.mark.parametrize(
    "script",
    [
        pytest.param("echo new > new.txt", id="left uncommitted"),
        pytest.param("echo new > new.txt; touch *", id="with other timestamps"),
        pytest.param("echo new > new.txt; git add --all; git commit -qm own", id="committed with add --all"),
        pytest.param("echo new > new.txt; rm .git/index; git reset -q", id="with a new index"),
    ],
)
async def test_untouched_files_are_not_pushed(jobs: Jobs, converted: Path, script: str) -> None:
    assert await changed(jobs, converted, script) == ["new.txt"]


async def test_new_attributes_of_the_agent_rewrite_no_other_file(jobs: Jobs, converted: Path) -> None:
    script = "echo '*.txt -text' > .gitattributes; echo '*.bat text eol=lf' >> .gitattributes; touch *"
    assert await changed(jobs, converted, script) == [".gitattributes"]


async def test_an_edit_changes_its_own_lines_alone(jobs: Jobs, converted: Path) -> None:
    script = "printf 'three\\r\\n' >> 'win 1.txt'; printf 'more\\r\\n' >> run.bat"
    assert await changed(jobs, converted, script) == ["run.bat", "win 1.txt"]
    shown = git(converted, "diff", "--numstat", "main", "feature/ai").split("\n")
    assert shown == ["1\t0\trun.bat", "1\t0\twin 1.txt"]


async def test_the_agent_can_convert_a_file_itself(jobs: Jobs, converted: Path) -> None:
    script = "rm .git/info/attributes; git add --renormalize 'win 1.txt'; git commit -qm own"
    assert await changed(jobs, converted, script) == ["win 1.txt"]


async def test_two_runs_of_one_job_give_the_same_tree(jobs: Jobs, converted: Path) -> None:
    for branch in ("one", "two"):
        await changed(jobs, converted, "echo new > new.txt; cat README.md > copy", branch)
    trees = {git(converted, "rev-parse", f"{branch}^{{tree}}") for branch in ("one", "two")}
    assert len(trees) == 1


async def test_the_log_says_that_files_are_kept_as_they_are(jobs: Jobs, converted: Path) -> None:
    job = jobs()
    await job.workspace.prepare()
    assert "43 files are stored otherwise than .gitattributes asks" in job.logged()
    shown = await job.agent("git status --porcelain")
    assert shown.stdout == b""


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        pytest.param("git sparse-checkout set nothing", "A\tnew.txt", id="cone"),
        pytest.param("git sparse-checkout set --no-cone /README.md", "A\tnew.txt", id="patterns"),
        pytest.param("git update-index --skip-worktree src/app.py; rm src/app.py", "A\tnew.txt", id="a single file"),
        pytest.param(
            "git sparse-checkout set nothing; rm README.md", "D\tREADME.md|A\tnew.txt", id="a removal besides"
        ),
        pytest.param(
            "git sparse-checkout set nothing; echo src > src", "A\tnew.txt|A\tsrc|D\tsrc/app.py", id="a file instead"
        ),
        pytest.param(
            "git clone -q . in; cd in; git sparse-checkout set nothing", "A\tnew.txt", id="a clone inside"
        ),
    ],
)  # fmt: skip
async def test_files_that_a_sparse_checkout_leaves_out_are_not_removed(
    jobs: Jobs, remote: Path, script: str, expected: str
) -> None:
    await changed(jobs, remote, f"{script}; echo new > new.txt")
    assert git(remote, "diff", "--no-renames", "--name-status", "main", "feature/ai").split("\n") == expected.split("|")
