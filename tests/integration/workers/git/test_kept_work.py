"""Files of an agent's work, and pushes from them without the agent."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from myctobot.contract.jobs import EventKind
from myctobot.contract.work import WorkFile, WorkManifest
from tests.factories import git_fixtures
from tests.factories.git_jobs import Job, Jobs
from tests.fixtures.repos import branches, commit, git
from workers.errors import JobError
from workers.runner.reserved_room import ReservedRoom
from workers.runner.work_keeper import KEPT, WorkKeeper
from workers.sandbox.limits import ResourceLimits

pytestmark = pytest.mark.anyio

jobs = git_fixtures.folder_jobs

AGENT = "printf 'caf\\351\\000' > binary; echo more >> README.md; git add .; git commit -qm 'two words'"


def manifest_of(job: Job) -> WorkManifest:
    base, start, head, branch = job.workspace.work_commits
    return WorkManifest(base=base, start=start, head=head, branch=branch, ready=True, files={}, result={})


async def kept(jobs: Jobs, script: str = AGENT, max_mb: int = 8) -> tuple[Job, dict[WorkFile, Path]]:
    """Return a job whose agent has run a script, and the files of its work."""
    job = jobs()
    await job.workspace.prepare()
    await job.agent(script)
    await job.workspace.commit_leftovers("Work of the agent")
    await job.workspace.collect()
    return job, await job.workspace.write_work(job.job_dir, max_mb)


async def test_the_bundle_and_the_patch_hold_what_the_agent_changed(jobs: Jobs, remote: Path, tmp_path: Path) -> None:
    job, files = await kept(jobs)
    for number in range(2):
        git(tmp_path, "clone", "-q", str(remote), f"reader-{number}")
    git(tmp_path / "reader-0", "fetch", "-q", str(files[WorkFile.BUNDLE]), "feature/ai")
    assert git(tmp_path / "reader-0", "log", "-1", "--format=%H %s", "FETCH_HEAD") == (
        f"{job.workspace.work_commits[2]} two words"
    )
    git(tmp_path / "reader-1", "apply", str(files[WorkFile.PATCH]))
    assert (tmp_path / "reader-1" / "binary").read_bytes() == b"caf\xe9\0"
    assert (tmp_path / "reader-1" / "README.md").read_text() == "# Example\nmore\n"


async def test_another_attempt_pushes_the_same_commit_without_the_agent(jobs: Jobs, remote: Path) -> None:
    first, files = await kept(jobs)
    # The base branch moves on between the attempts.
    work = remote.with_name("repo.git.work")
    commit(work, {"later.txt": "later\n"})
    git(work, "push", "-q", str(remote), "main")
    second = jobs()
    collected = await second.workspace.restore(manifest_of(first), files[WorkFile.BUNDLE])
    pushed = await second.workspace.push()
    assert pushed.sha == collected.head_sha == first.workspace.work_commits[2] == branches(remote)["feature/ai"]
    assert (collected.commits, collected.files) == (1, 2)
    assert "+more" in second.event(EventKind.DIFF)["patch"]
    assert "no agent runs" in second.logged()


async def test_work_that_an_earlier_attempt_pushed_is_a_success(jobs: Jobs, remote: Path) -> None:
    first, files = await kept(jobs)
    await first.workspace.push()
    second = jobs()
    await second.workspace.restore(manifest_of(first), files[WorkFile.BUNDLE])
    await second.workspace.push()
    assert branches(remote)["feature/ai"] == first.workspace.work_commits[2]


async def test_lines_that_are_not_pushed_are_in_the_bundle(jobs: Jobs, remote: Path, tmp_path: Path) -> None:
    script = "for n in 1 2; do git checkout -q -b side-$n main; echo $n > s$n; git add .; git commit -qm s$n; done"
    _, files = await kept(jobs, f"{script}; git checkout -q feature/ai; echo x > x; git add .; git commit -qm x")
    git(tmp_path, "clone", "-q", str(remote), "reader")
    listing = git(tmp_path / "reader", "bundle", "list-heads", str(files[WorkFile.BUNDLE]))
    assert {line.split("/", 2)[2] for line in listing.splitlines()} == {
        *("feature/ai", "feature/ai-left-1", "feature/ai-left-2")
    }


@pytest.mark.parametrize(
    "script",
    [
        pytest.param("echo x > x; git add .; git commit -q --amend -m own", id="an amended base commit"),
        pytest.param("git checkout -q --orphan other; echo x > x; git add .; git commit -qm x", id="another root"),
        pytest.param("rm -rf .git; git init -q; echo x > x; git add .; git commit -qm x", id="another repository"),
        pytest.param(
            "export GIT_EDITOR=true GIT_SEQUENCE_EDITOR='sed -i s/^pick/edit/'; git rebase -qi --root; echo x > x; "
            "git add .; git commit -q --amend -m own; git rebase --continue",
            id="a rebase of the base",
        ),
    ],
)
async def test_a_rewritten_history_is_kept_as_a_commit_for_a_person(
    jobs: Jobs, remote: Path, tmp_path: Path, script: str
) -> None:
    job = jobs()
    await job.workspace.prepare()
    await job.agent(f"git config --global user.name a; git config --global user.email a@example.com; {script}")
    await job.workspace.commit_leftovers("Work of the agent")
    with pytest.raises(JobError, match="check its changes in the log, then push it") as caught:
        await job.workspace.collect()
    assert caught.value.code == "history_rewritten"
    assert list(branches(remote)) == ["main"]
    assert "+x" in job.event(EventKind.DIFF)["patch"].splitlines()
    files = await job.workspace.write_work(job.job_dir, 8)
    git(tmp_path, "clone", "-q", str(remote), "reader")
    git(tmp_path / "reader", "apply", str(files[WorkFile.PATCH]))
    assert git(tmp_path / "reader", "status", "--short") == "?? x"
    heads = git(tmp_path / "reader", "bundle", "list-heads", str(files[WorkFile.BUNDLE]))
    assert {"refs/heads/feature/ai", "refs/heads/feature/ai-left-1"} == {line.split()[1] for line in heads.splitlines()}
    second = jobs()
    await second.workspace.restore(manifest_of(job), files[WorkFile.BUNDLE])
    await second.workspace.push()
    assert git(remote, "log", "--format=%an %s", "main..feature/ai") == "MyCTOBot Work of the agent"
    assert git(remote, "diff", "--name-status", "main", "feature/ai") == "A\tx"


async def test_a_rewritten_history_with_the_same_files_is_kept_as_it_is(jobs: Jobs) -> None:
    job = jobs()
    await job.workspace.prepare()
    await job.agent("git commit -q --amend -m own")
    await job.workspace.commit_leftovers("Work of the agent")
    with pytest.raises(JobError, match="rewrote commits"):
        await job.workspace.collect()
    assert job.workspace.has_work
    assert set(await job.workspace.write_work(job.job_dir, 8)) == {WorkFile.BUNDLE}


async def test_work_over_the_bound_is_left_out(jobs: Jobs) -> None:
    _, files = await kept(jobs, "head -c 3000000 /dev/urandom > noise", max_mb=1)
    assert files == {}


class Control:
    """Control plane and log of an attempt."""

    def __init__(self) -> None:
        self.patches: list[str] = []
        self.warnings: list[str] = []

    async def store_work(self, files: Mapping[WorkFile, Path], manifest: WorkManifest) -> None:
        assert files[WorkFile.BUNDLE].stat().st_size
        self.patches.append(files[WorkFile.PATCH].read_text())

    async def emit(self, kind: EventKind, data: dict[str, Any]) -> None:
        self.warnings.append(data["message"])


FLOOD = "head -c 200M /dev/urandom > flood || :; [ -s flood ]"
EMPTY_FILES = "mkdir flood; n=0; while true > flood/$n; do n=$((n + 1)); done; [ $n -gt 1000 ]"


@pytest.mark.needs("root")
@pytest.mark.parametrize(
    ("script", "names", "warned"),
    [
        (f"echo w > n; git add n; git commit -qm w; {FLOOD}", ["n"], True),
        (
            "git checkout -qb side; echo w > n; git add n; git commit -qm w; git checkout -q feature/ai; " + FLOOD,
            ["n"],
            True,
        ),
        (f"echo w > n; echo '/flood' > .gitignore; {FLOOD}", [".gitignore", "n"], False),
        (f"echo w > n; echo '/flood' > .gitignore; {EMPTY_FILES}", [".gitignore", "n"], False),
        (f"mkdir many; for n in $(seq 100); do echo $n > many/$n; done; {EMPTY_FILES}", None, False),
    ],
)
async def test_an_agent_that_fills_its_disk_loses_no_commit(
    jobs: Jobs, script: str, names: list[str] | None, warned: bool
) -> None:
    job = jobs(has_image=True, limits=ResourceLimits(disk_mb=64, disk_files=5000))
    await job.workspace.prepare()
    directory, control = job.job_dir / "git", Control()
    room = ReservedRoom(directory, 16 * 2**20)
    keeper = WorkKeeper(job.workspace, cast(Any, control), cast(Any, control), directory, 8, room)
    await job.agent(script)
    assert await keeper.salvage("Work of the agent") == KEPT
    (patch,) = control.patches
    found = [line.removeprefix("+++ b/") for line in patch.splitlines() if line.startswith("+++ ")]
    assert found == (names or sorted(f"many/{n}" for n in range(1, 101)))
    assert any("did not commit are not kept" in text for text in control.warnings) is warned


async def test_without_changes_there_is_no_work(jobs: Jobs) -> None:
    job = jobs()
    await job.workspace.prepare()
    await job.workspace.commit_leftovers("unused")
    assert await job.workspace.collect() is None
    assert not job.workspace.has_work


def damaged_end(data: bytes) -> bytes:
    return data[:-30] + bytes([data[-30] ^ 0x55]) + data[-29:]


@pytest.mark.parametrize(
    "change",
    [
        lambda data: b"",
        lambda data: b"not a bundle\n\n" + data,
        lambda data: b"# v2 git bundle\n" + b"x" * 2**20,
        lambda data: data[: len(data) // 2],
        damaged_end,
    ],
)
async def test_a_damaged_bundle_is_not_pushed(jobs: Jobs, remote: Path, change: Callable[[bytes], bytes]) -> None:
    first, files = await kept(jobs)
    bundle = files[WorkFile.BUNDLE]
    bundle.write_bytes(change(bundle.read_bytes()))
    second = jobs()
    with pytest.raises(JobError) as caught:
        await second.workspace.restore(manifest_of(first), bundle)
    assert (caught.value.code, caught.value.retryable) == ("work_unusable", False)
    assert list(branches(remote)) == ["main"]


async def test_a_manifest_cannot_name_commits_that_are_not_there(jobs: Jobs) -> None:
    first, files = await kept(jobs)
    for changed in ({"head": "a" * 40}, {"base": "b" * 40}, {"start": "c" * 40}):
        second = jobs()
        with pytest.raises(JobError) as caught:
            await second.workspace.restore(
                WorkManifest(**{**manifest_of(first), **changed}),  # type: ignore[typeddict-item]  # one commit
                files[WorkFile.BUNDLE],
            )
        assert caught.value.code == "work_unusable"


async def test_kept_work_with_ci_files_needs_the_same_right(jobs: Jobs, remote: Path) -> None:
    first, files = await kept(jobs, "mkdir -p .github/workflows; echo on: push > .github/workflows/ci.yml")
    second = jobs()
    await second.workspace.restore(manifest_of(first), files[WorkFile.BUNDLE])
    with pytest.raises(JobError) as caught:
        await second.workspace.push()
    assert caught.value.code == "ci_files_refused"
    allowed = jobs(allow_ci_files=True)
    await allowed.workspace.restore(manifest_of(first), files[WorkFile.BUNDLE])
    await allowed.workspace.push()
    assert "feature/ai" in branches(remote)


async def test_unfinished_work_goes_to_a_branch_of_its_own(jobs: Jobs, remote: Path) -> None:
    job, _ = await kept(jobs)
    pushed = await job.workspace.push_wip("myctobot/wip/job-1")
    assert branches(remote)["myctobot/wip/job-1"] == pushed.sha == job.workspace.work_commits[2]
    assert "feature/ai" not in branches(remote)
    idle = jobs()
    await idle.workspace.prepare()
    with pytest.raises(JobError, match="no commits"):
        await idle.workspace.push_wip("myctobot/wip/job-2")
    git(remote, "symbolic-ref", "HEAD", "refs/heads/trap")
    with pytest.raises(JobError) as caught:
        await job.workspace.push_wip("trap")
    assert caught.value.code in ("default_branch_refused", "default_branch_unknown")
