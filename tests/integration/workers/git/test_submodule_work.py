"""Work inside submodules is never pushed, and it is named and kept in the log and in the bundle."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from myctobot.contract.jobs import EventKind
from myctobot.contract.work import WorkFile
from tests.factories.git_jobs import Job, Jobs
from tests.fixtures.git_server import GitServer
from tests.fixtures.repos import SHAPES, commit, git

pytestmark = pytest.mark.anyio

IDENTITY = "git config user.name a; git config user.email a@example.com"
COMMIT = f"cd vendor/library; {IDENTITY}; echo y > y; git add y; git commit -qm inside"


@pytest.fixture
def shape(remote: Path) -> Path:
    path = remote.with_name("shape.git")
    SHAPES["submodules"].make(path)
    return path


async def end(job: Job, script: str) -> None:
    await job.workspace.prepare()
    await job.agent(script)
    await job.workspace.commit_leftovers("Work of the agent")
    assert await job.workspace.collect() is None


def messages(job: Job, code: str) -> list[str]:
    return [data["message"] for kind, data in job.events if kind is EventKind.WARNING and data["code"] == code]


def left_lines(job: Job) -> set[str]:
    """Return the added and removed lines of what was left out, each with its file."""
    found = set()
    for kind, data in job.events:
        if kind is EventKind.DIFF and "left_out" in data:
            name = ""
            for line in data["patch"].splitlines():
                if line.startswith("diff --git"):
                    name = re.split('[ "]b/', line)[1].removesuffix('"')
                elif line.startswith(("+", "-")) and not line.startswith(("+++ ", "--- ")):
                    found.add(f"{name}: {line}")
    return found


async def bundled(job: Job, path: Path) -> str:
    """Return the changes in the bundle of kept work, as a clone of the repository gets them."""
    directory = job.job_dir / "kept"
    directory.mkdir()
    files = await job.workspace.write_work(directory, 16)
    git(path, "fetch", "-q", str(files[WorkFile.BUNDLE]), "refs/heads/*:refs/kept/*")
    return git(path, "log", "-p", "--format=%B", "--glob=refs/kept/*", "--not", "main")


@pytest.mark.parametrize(
    ("script", "lines"),
    [
        pytest.param("echo y > vendor/library/y", {"y: +y"}, id="a new file"),
        pytest.param("echo y > vendor/library/lib/code.txt", {"lib/code.txt: -library", "lib/code.txt: +y"}, id="edit"),
        pytest.param("rm vendor/library/lib/code.txt", {"lib/code.txt: -library"}, id="a removal"),
        pytest.param(COMMIT, {"y: +y"}, id="a commit"),
        pytest.param(f"{COMMIT}; echo z > y", {"y: +z"}, id="a commit with files that differ"),
        pytest.param(f"{COMMIT}; rm -rf .git ../../.git/modules/0/HEAD", {"y: +y"}, id="a commit without its .git"),
        pytest.param(
            f"git -C vendor/library switch -qc own; {COMMIT}; git switch -qd HEAD~1", {"y: +y"}, id="a branch"
        ),
        pytest.param(f"{COMMIT}; git checkout -q HEAD~1", {"y: +y"}, id="a detached commit that was left"),
        pytest.param(
            f"cd vendor/library; {IDENTITY}; echo y > y; git add y; git stash -q", {"y: +y"}, id="a stash"
        ),
        pytest.param(
            "rm -rf vendor/library; mkdir vendor/library; echo z > vendor/library/z",
            {"lib/code.txt: -library", "z: +z"}, id="another folder",
        ),
        pytest.param(
            "rm vendor/library/.git; cd vendor/library; git init -q; echo y > y", {"y: +y"}, id="another repository"
        ),
        pytest.param(
            "cd vendor/library; mkdir -- ' \n-x'; echo y > \" \n-x/'y\"", {" \\n-x/'y: +y"}, id="an odd name"
        ),
        pytest.param(
            "mkdir vendor/library/in; cd vendor/library/in; git init -q; echo y > y", {"in/y: +y"}, id="a deeper one"
        ),
    ],
)  # fmt: skip
async def test_work_in_a_submodule_is_kept_and_named(
    jobs: Jobs, server: GitServer, shape: Path, script: str, lines: set[str]
) -> None:
    job = jobs(url=server.url("shape.git"))
    await end(job, script)
    assert {line.replace("vendor/library/", "") for line in left_lines(job)} == lines
    assert "submodule vendor/library (" in "".join(messages(job, "submodule_left_out"))
    assert job.workspace.has_work
    assert job.workspace.note == "The agent's work is inside submodules, and it is not pushed"
    assert "changed nothing" not in job.logged()
    kept = await bundled(job, shape)
    assert all(line.partition(": ")[2] in kept for line in lines)


async def test_files_in_the_folder_of_a_submodule_that_is_not_there_are_kept(
    jobs: Jobs, server: GitServer, shape: Path
) -> None:
    job = jobs(url=server.url("shape.git"))
    await end(job, "echo y > vendor/elsewhere/y")
    assert left_lines(job) == {"vendor/elsewhere/y: +y"}
    assert "files of the submodule vendor/elsewhere (" in messages(job, "submodule_left_out")[0]
    assert "+y" in await bundled(job, shape)


async def test_other_work_is_pushed_besides(jobs: Jobs, server: GitServer, shape: Path) -> None:
    job = jobs(url=server.url("shape.git"))
    await job.workspace.prepare()
    await job.agent("git switch -qc other; echo x > x; git add x; git commit -qm own; git switch -q -")
    await job.agent("echo y > vendor/library/y; echo z > vendor/elsewhere/z")
    await job.finish()
    assert git(shape, "diff", "--name-only", "main", "feature/ai") == "x"
    assert left_lines(job) == {"vendor/library/y: +y", "vendor/elsewhere/z: +z"}
    assert "commits_left_out" not in job.warnings()


async def test_another_commit_of_a_submodule_is_named(jobs: Jobs, server: GitServer, shape: Path) -> None:
    library = shape.with_name("shape.git-library.git")
    work = library.with_name(f"{library.name}.work")
    commit(work, {"later": "later\n"})
    git(work, "push", "-q", str(library), "main")
    main = shape.with_name("shape.git.work")
    git(main, "update-index", "--cacheinfo", f"160000,{git(library, 'rev-parse', 'main')},vendor/library")
    git(main, "commit", "-qm", "later")
    git(main, "push", "-q", str(shape), "main")
    job = jobs(url=server.url("shape.git"))
    await end(job, "git -C vendor/library checkout -q HEAD~1")
    assert messages(job, "submodule_left_out")[0].endswith(": vendor/library (at another commit).")
    assert left_lines(job) == set()
    assert job.workspace.note != "The agent changed nothing"


@pytest.mark.parametrize("script", ["touch vendor/library/*", "git submodule status", "git -C vendor/library status"])
async def test_an_untouched_submodule_is_no_work(jobs: Jobs, server: GitServer, shape: Path, script: str) -> None:
    library = shape.with_name("shape.git-library.git")
    work = library.with_name(f"{library.name}.work")
    (work / "win.txt").write_bytes(b"one\r\ntwo\r\n")
    commit(work, {})
    commit(work, {".gitattributes": "*.txt text\n"})
    git(work, "push", "-q", str(library), "main")
    main = shape.with_name("shape.git.work")
    git(main, "update-index", "--cacheinfo", f"160000,{git(library, 'rev-parse', 'main')},vendor/library")
    git(main, "commit", "-qm", "later")
    git(main, "push", "-q", str(shape), "main")
    job = jobs(url=server.url("shape.git"))
    await end(job, script)
    assert job.warnings() == ["submodules_missing"]
    assert job.workspace.note == "The agent changed nothing"
    assert not job.workspace.has_work


async def test_an_emptied_submodule_is_named(jobs: Jobs, server: GitServer, shape: Path) -> None:
    job = jobs(url=server.url("shape.git"))
    await end(job, "git submodule deinit -qf vendor/library || rm -rf vendor/library/* vendor/library/.git")
    assert messages(job, "submodule_left_out")[0].endswith(": vendor/library (its folder is empty now).")
    assert job.workspace.note != "The agent changed nothing"


async def test_work_that_is_too_large_to_keep_is_named_and_stops_no_push(
    jobs: Jobs, server: GitServer, shape: Path
) -> None:
    job = jobs(url=server.url("shape.git"), max_bundle_mb=1)
    await job.workspace.prepare()
    await job.agent("head -c 900000 /dev/urandom > x; head -c 2000000 /dev/urandom > vendor/library/y")
    await job.finish()
    assert git(shape, "diff", "--name-only", "main", "feature/ai") == "x"
    assert "files of the submodule vendor/library (too large to keep)" in messages(job, "submodule_left_out")[0]
