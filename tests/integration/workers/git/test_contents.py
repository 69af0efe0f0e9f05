"""Contents besides plain files: tags, submodules, LFS, by-products, and odd names."""

from __future__ import annotations

from pathlib import Path

import pytest

from myctobot.contract.jobs import EventKind
from tests.factories.git_jobs import Job, Jobs
from tests.fixtures.git_server import GitServer
from tests.fixtures.repos import LFS_ATTRIBUTES, SHAPES, commit, git, lfs_pointer, make_remote
from workers.git import submodules

pytestmark = pytest.mark.anyio


def work_of(remote: Path) -> Path:
    return remote.with_name(f"{remote.name}.work")


def publish(remote: Path, *refs: str) -> None:
    git(work_of(remote), "push", "-q", str(remote), "main", *refs)


def warning(job: Job, code: str) -> str:
    found = [data["message"] for kind, data in job.events if kind is EventKind.WARNING and data["code"] == code]
    assert len(found) == 1, job.warnings()
    return str(found[0])


# --- Tags ----------------------------------------------------------------------------------------------


async def test_the_tags_of_the_history_are_there_and_others_are_not(jobs: Jobs, remote: Path) -> None:
    work = work_of(remote)
    git(work, "tag", "v0.9")
    git(work, "tag", "-a", "-m", "first", "v1.0")
    git(work, "switch", "-q", "-c", "side")
    commit(work, {"side": "1"})
    git(work, "tag", "side-1")
    git(work, "switch", "-q", "main")
    publish(remote, "--tags")
    for branch in ("one", "two"):
        job = jobs(branch=branch)
        await job.workspace.prepare()
        assert (await job.agent("git describe --tags; git tag")).stdout.split() == [b"v1.0", b"v0.9", b"v1.0"]
        await job.agent("echo x > x")
        await job.finish()
        assert job.warnings() == []
    git(work, "tag", "v1.1")
    publish(remote, "--tags")
    later = jobs(branch="three")
    await later.workspace.prepare()
    assert b"v1.1" in (await later.agent("git tag")).stdout


async def test_more_tags_than_refs_that_are_read_hide_no_branch(
    jobs: Jobs, remote: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.git.agent_state.MAX_REFS", 10)
    for number in range(20):
        git(remote, "tag", f"v{number}", "main")
    job = jobs()
    await job.workspace.prepare()
    await job.agent("git switch -q -c other; echo x > x; git add x; git commit -qm own; git switch -q main")
    await job.agent("git pack-refs --all")
    await job.finish()
    assert git(remote, "log", "-1", "--format=%s", "feature/ai") == "own"


# --- Submodules ----------------------------------------------------------------------------------------


async def test_a_submodule_of_the_same_host_is_there_and_another_is_named(
    jobs: Jobs, server: GitServer, tmp_path: Path
) -> None:
    path = tmp_path / "served" / "shape.git"
    SHAPES["submodules"].make(path)
    job = jobs(url=server.url("shape.git"))
    await job.workspace.prepare()
    await job.agent('test -z "$(git status --short)"')
    shown = await job.agent("cat vendor/library/lib/code.txt; git -C vendor/library log --format=%s")
    assert shown.stdout.decode().split() == ["library", "first"]
    message = warning(job, "submodules_missing")
    assert "vendor/elsewhere (it is on another host" in message
    assert "vendor/library" not in message
    await job.agent("echo x > x; echo y > vendor/library/y")
    await job.finish()
    assert git(path, "diff", "--name-only", "main", "feature/ai") == "x"


async def test_a_shard_can_fetch_no_submodules(jobs: Jobs, server: GitServer, tmp_path: Path) -> None:
    SHAPES["submodules"].make(tmp_path / "served" / "shape.git")
    job = jobs(url=server.url("shape.git"), submodules=False)
    await job.workspace.prepare()
    assert "vendor/library (this shard fetches no submodules)" in warning(job, "submodules_missing")
    assert (await job.agent("ls vendor/library")).stdout == b""


async def test_submodules_beyond_the_bound_are_named(
    jobs: Jobs, server: GitServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submodules, "MAX_SUBMODULES", 0)
    SHAPES["submodules"].make(tmp_path / "served" / "shape.git")
    job = jobs(url=server.url("shape.git"))
    await job.workspace.prepare()
    message = warning(job, "submodules_missing")
    assert all(f"{path} (beyond the first 0)" in message for path in ("vendor/library", "vendor/elsewhere"))


async def test_a_submodule_that_is_gone_is_named(jobs: Jobs, server: GitServer, tmp_path: Path) -> None:
    path = tmp_path / "served" / "shape.git"
    SHAPES["submodules"].make(path)
    path.with_name("shape.git-library.git").rename(path.with_name("moved.git"))
    job = jobs(url=server.url("shape.git"))
    await job.workspace.prepare()
    assert "vendor/library (repo_not_found)" in warning(job, "submodules_missing")


# --- Git LFS -------------------------------------------------------------------------------------------


@pytest.fixture
def with_lfs(remote: Path) -> Path:
    pointers = {f"data/{number}.bin": lfs_pointer(b"%d" % number) for number in range(3)}
    commit(work_of(remote), {".gitattributes": LFS_ATTRIBUTES, **pointers})
    publish(remote)
    return remote


async def test_pointers_are_named_before_the_agent_starts(jobs: Jobs, with_lfs: Path) -> None:
    job = jobs()
    await job.workspace.prepare()
    assert warning(job, "lfs_missing").startswith("3 files are pointers")
    await job.agent("echo x > x; git mv data/1.bin data/moved.bin")
    await job.finish()
    assert job.warnings() == ["lfs_missing"]


@pytest.mark.parametrize("script", ["", "git add .; git commit -qm own"])
async def test_contents_in_place_of_pointers_are_named(jobs: Jobs, with_lfs: Path, script: str) -> None:
    job = jobs()
    await job.workspace.prepare()
    await job.agent(f"head -c 100000 /dev/urandom > data/1.bin; echo small > new.bin; echo x > x; {script}")
    await job.finish()
    assert warning(job, "lfs_plain_contents").endswith("have their contents: data/1.bin, new.bin.")


# --- By-products ---------------------------------------------------------------------------------------


async def test_by_products_are_left_out_and_named(jobs: Jobs, remote: Path) -> None:
    job = jobs()
    await job.workspace.prepare()
    await job.agent(
        "mkdir -p .venv/bin web/node_modules/a docs; touch .venv/pyvenv.cfg .venv/bin/python web/node_modules/a/x.js"
        "; echo page > docs/core.1; echo app > web/app.js; head -c 2000000 /dev/zero > core.123"
    )
    await job.finish()
    assert git(remote, "diff", "--name-only", "main", "feature/ai").split() == ["docs/core.1", "web/app.js"]
    expected = ".venv/ (2 files), core.123, web/node_modules/ (1 files)"
    assert warning(job, "by_products_left_out").endswith(f"{expected}.")


async def test_by_products_that_the_agent_committed_stay(jobs: Jobs, remote: Path) -> None:
    job = jobs()
    await job.workspace.prepare()
    await job.agent("mkdir node_modules; echo x > node_modules/x; git add .; git commit -qm own; echo y > y")
    await job.finish()
    assert git(remote, "diff", "--name-only", "main", "feature/ai").split() == ["node_modules/x", "y"]
    assert job.warnings() == []


async def test_large_files_and_folders_of_many_are_named(jobs: Jobs, remote: Path) -> None:
    job = jobs()
    await job.workspace.prepare()
    await job.agent(
        "mkdir many; cd many; seq 1000 | split -l 1 -a 4 -; cd ..; head -c 11000000 /dev/urandom > src/noise"
    )
    await job.finish()
    assert warning(job, "large_changes").endswith("src/noise (10 MB), many/ (1,000 files).")


# --- Names ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["wide\u3000space", "line\u2028break", "next\u0085line", "d\u00e9v/\U0001f40d", "a'b\"c$(x)", "-x"]
)
async def test_a_default_branch_with_any_name_works(jobs: Jobs, server: GitServer, tmp_path: Path, name: str) -> None:
    path = make_remote(tmp_path / "served" / "odd.git")
    git(path, "update-ref", f"refs/heads/{name}", "main")
    git(path, "symbolic-ref", "HEAD", f"refs/heads/{name}")
    job = jobs(url=server.url("odd.git"), base=None)
    assert (await job.workspace.prepare()).base_branch == name
    await job.agent("git log --oneline HEAD; echo x > x")
    await job.finish()
    assert git(path, "diff", "--name-only", f"refs/heads/{name}", "feature/ai") == "x"
