"""Work that an agent leaves anywhere in its checkout is pushed, or named and kept in the log."""

from __future__ import annotations

from pathlib import Path

import pytest

from myctobot.contract.jobs import EventKind
from tests.factories import git_fixtures
from tests.factories.git_jobs import Job, Jobs
from tests.fixtures.repos import branches, git

pytestmark = pytest.mark.anyio

jobs = git_fixtures.folder_jobs

COMMIT = "echo w > n; git add n; git commit -qm w"
WRITE = "echo w | git hash-object -w --stdin"
IDENTITY = "git config user.name a; git config user.email a@example.com"


async def run(job: Job, script: str) -> None:
    await job.workspace.prepare()
    await job.agent(script)


def pushed(remote: Path, name: str = "n") -> str:
    return git(remote, "show", f"feature/ai:{name}")


def messages(job: Job, code: str) -> str:
    found = [data["message"] for kind, data in job.events if kind is EventKind.WARNING and data["code"] == code]
    return "\n".join(found)


def left_patches(job: Job) -> str:
    return "\n".join(data["patch"] for kind, data in job.events if kind is EventKind.DIFF and "left_out" in data)


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(f"git checkout -q -b mine; {COMMIT}; git checkout -q -", id="another branch"),
        pytest.param(f"git checkout -q --detach; {COMMIT}; git checkout -q -", id="a detached HEAD that was left"),
        pytest.param(f"git checkout -q --detach; {COMMIT}; git tag v9; git checkout -q -", id="a tag"),
        pytest.param("echo w > n; git stash -qu", id="a stash of a new file"),
        pytest.param("echo w > n; git add n; git stash -q", id="a stash of a staged file"),
        pytest.param(f"git worktree add -q --detach inner; cd inner; {COMMIT}", id="a detached work tree inside"),
        pytest.param("git worktree add -q --detach inner; echo w > inner/n", id="files in a work tree inside"),
        pytest.param(
            f"git clone -q . /tmp/c; cd /tmp/c; {IDENTITY}; {COMMIT}; git push -q origin HEAD:refs/heads/from-clone",
            id="a clone that pushes into the workspace",
        ),
        pytest.param(f"git clone -q . inner; cd inner; {IDENTITY}; {COMMIT}", id="a clone inside"),
        pytest.param("git clone -q . inner; echo w > inner/n", id="files in a clone inside"),
        pytest.param("git worktree add -q ~/wt -b b; echo w > ~/wt/n", id="files in a work tree in the home"),
        pytest.param(f"git clone -q . ~/c; cd ~/c; {IDENTITY}; {COMMIT}", id="a clone in the home"),
        pytest.param("git clone -q . ~/a/c; echo w > ~/a/c/n", id="files in a clone in the home"),
        pytest.param(
            "git worktree add -q --detach inner; cd inner; echo w > n; git add n; cd ..; rm -rf inner",
            id="staged files of a work tree that the agent removed",
        ),
    ],
)
async def test_a_single_line_of_work_is_pushed_wherever_it_is(jobs: Jobs, remote: Path, script: str) -> None:
    job = jobs()
    await run(job, script)
    await job.finish()
    assert pushed(remote) == "w"
    assert git(remote, "diff", "--name-only", "main", "feature/ai") == "n"
    assert git(remote, "rev-list", "--count", "--merges", "main..feature/ai") == "0"
    assert [code for code in job.warnings() if code != "tags_left_out"] == []


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(COMMIT, id="a commit"),
        pytest.param("echo w > n; git add n; echo later > later", id="a staged file"),
        pytest.param(f"git checkout -q --detach; {COMMIT}; git checkout -q b", id="a detached commit that was left"),
    ],
)
async def test_what_git_has_of_a_work_tree_in_tmp_is_pushed_and_the_rest_is_named(
    jobs: Jobs, remote: Path, script: str
) -> None:
    job = jobs()
    await run(job, f"git worktree add -q /tmp/wt -b b; cd /tmp/wt; {script}")
    await job.finish()
    assert pushed(remote) == "w"
    assert job.warnings() == ["work_trees_gone"]
    assert messages(job, "work_trees_gone").endswith("not staged or committed are lost: /tmp/wt.")


async def test_a_work_tree_in_tmp_is_not_called_nothing(jobs: Jobs) -> None:
    job = jobs()
    await run(job, "for n in $(seq 20); do git worktree add -q --detach /tmp/$n-tree; echo w > /tmp/$n-tree/n; done")
    await job.workspace.commit_leftovers("unused")
    assert await job.workspace.collect() is None
    assert job.workspace.note == "The agent's work trees outside of the workspace are gone, as the warnings say"
    assert " and 10 more." in messages(job, "work_trees_gone")


async def test_staged_files_whose_contents_are_gone_are_named(jobs: Jobs) -> None:
    job = jobs()
    await run(
        job,
        "git worktree add -q /tmp/wt -b b; cd /tmp/wt; echo w > n; git add n; sha=$(git hash-object n); "
        "cd /workspace/.git/objects; chmod -R u+w .; rm $(echo $sha | cut -c 1-2)/$(echo $sha | cut -c 3-)",
    )
    await job.workspace.commit_leftovers("unused")
    await job.workspace.collect()
    assert "staged files of /tmp/wt" in messages(job, "commits_unreadable")


async def test_the_agents_side_of_a_staged_conflict_is_kept(jobs: Jobs, remote: Path) -> None:
    job = jobs()
    await run(
        job,
        "git worktree add -q /tmp/wt -b b; cd /tmp/wt; echo theirs > n; git add n; git commit -qm t; git branch t; "
        "git reset -q --hard HEAD~1; echo w > n; git add n; git commit -qm w; echo x > x; git add x; git merge t || :; "
        "git branch -D t",
    )
    await job.finish()
    assert (pushed(remote), pushed(remote, "x")) == ("w", "x")


async def test_several_lines_besides_the_jobs_branch_are_named_and_kept(jobs: Jobs, remote: Path) -> None:
    job = jobs()
    await run(
        job, f"git checkout -q -b one; {COMMIT}; git checkout -q feature/ai; echo other > README.md; git stash -q"
    )
    await job.workspace.commit_leftovers("unused")
    assert await job.workspace.collect() is None
    assert list(branches(remote)) == ["main"]
    assert "branch one" in messages(job, "commits_left_out")
    assert "stash@{0}" in messages(job, "commits_left_out")
    assert {"+w", "+other"} <= set(left_patches(job).splitlines())
    assert "changed nothing" not in job.logged() + job.workspace.note


async def test_files_before_the_undo_of_a_rebase_are_kept(jobs: Jobs, remote: Path) -> None:
    job = jobs()
    await run(
        job,
        "echo a > f; git add f; git commit -qm a; git branch side; echo b > f; git commit -qam b; "
        "git switch -q side; echo c > f; git commit -qam c; git switch -q feature/ai; "
        "git rebase -q side || echo half-done > notes",
    )
    await job.finish()
    assert "+half-done" in left_patches(job).splitlines()
    assert "files before the undo of git rebase" in messages(job, "commits_left_out")


COMMITS = "for name in one two; do echo $name > $name; git add $name; git commit -qm $name; done"
EDIT = f"{COMMITS}; GIT_SEQUENCE_EDITOR='sed -i s/^pick/edit/' git rebase -qi HEAD~2; echo w > n; git add n"
SIDES = (
    "echo a > f; git add f; git commit -qm a; git branch side; echo b > f; git commit -qam b; echo b > g; git add g; "
    "git commit -qm g; git switch -q side; echo c > f; git commit -qam c; echo c > g; git add g; git commit -qm c2; "
    "git switch -q feature/ai"
)


@pytest.mark.parametrize(
    ("script", "line", "name"),
    [
        pytest.param(f"{EDIT}; git commit -q --amend -m w", "+w", "commits before the undo of git rebase", id="amend"),
        pytest.param(f"{EDIT}; git commit -qm w", "+w", "commits before the undo of git rebase", id="a commit between"),
        pytest.param(
            f"{SIDES}; git rebase -q side || echo MERGED > f; git add f; GIT_EDITOR=true git rebase --continue || true",
            "+MERGED", "files before the undo of git rebase", id="a conflict that was settled",
        ),
        pytest.param(
            f"{COMMITS}; git format-patch -q -2 -o /tmp/p; git reset -q --hard HEAD~2; echo other > two; git add two; "
            "git commit -qm other; git am -q /tmp/p/* || true",
            "+one", "commits before the undo of git am", id="a mail that was applied",
        ),
        pytest.param(
            f"{SIDES}; git switch -qc picks side~2; echo d > g; git add g; git commit -qm d; "
            "git cherry-pick feature/ai~1 feature/ai || true",
            "+b", "files before the undo of git cherry-pick", id="a pick that was applied",
        ),
    ],
)  # fmt: skip
async def test_commits_before_the_undo_of_an_operation_are_kept(jobs: Jobs, script: str, line: str, name: str) -> None:
    job = jobs()
    await run(job, script)
    await job.finish()
    assert name in messages(job, "commits_left_out")
    assert line in left_patches(job).splitlines()
    assert f"a git {name.split()[-1]} unfinished; it was undone" in messages(job, "git_operation_unfinished")


async def test_a_series_of_picks_that_ended_early_is_named(jobs: Jobs, remote: Path) -> None:
    job = jobs()
    await run(
        job,
        "echo a > f; git add f; git commit -qm a; git branch side; echo b > f; git commit -qam b; "
        "git switch -q side; echo c > f; git commit -qam c; echo d > g; git add g; git commit -qm d; "
        "git switch -q feature/ai; git cherry-pick side~1 side || echo settled > f; git add f",
    )
    await job.finish()
    assert pushed(remote, "f") == "settled"
    assert "1 further commits were not applied" in messages(job, "git_operation_unfinished")


@pytest.mark.parametrize(
    "script",
    [
        pytest.param("touch .git/refs/heads/feature/ai.lock .git/index.lock", id="locks"),
        pytest.param("echo garbage > .git/index", id="index"),
        pytest.param("echo garbage > .git/config", id="configuration"),
        pytest.param("echo garbage > .git/HEAD", id="HEAD"),
        pytest.param("rm .git/HEAD", id="no HEAD"),
        pytest.param("rm -rf .git/objects/*", id="no objects"),
        pytest.param("rm -rf .git", id="no .git"),
        pytest.param("rm -rf .git; echo gitdir: /nowhere > .git", id="a file"),
        pytest.param("rm -rf .git; git init -q", id="another repository without commits"),
    ],
)
async def test_damage_in_git_loses_no_file(jobs: Jobs, remote: Path, script: str) -> None:
    job = jobs()
    await run(job, f"echo w > n; {script}")
    await job.finish()
    assert git(remote, "diff", "--name-only", "main", "feature/ai") == "n"
    assert set(job.warnings()) <= {"repository_damaged"}


async def test_commits_before_a_damaged_head_are_kept(jobs: Jobs, remote: Path) -> None:
    job = jobs()
    await run(job, f"{COMMIT}; echo later > later; echo garbage > .git/HEAD")
    await job.finish()
    assert git(remote, "log", "--format=%s", "main..feature/ai").split("\n") == ["Work of the agent", "w"]


@pytest.mark.parametrize("commits", [False, True], ids=["uncommitted", "committed by the agent"])
async def test_a_repository_inside_is_pushed_as_files(jobs: Jobs, remote: Path, commits: bool) -> None:
    job = jobs()
    await run(
        job,
        f"mkdir app; cd app; git init -q; {IDENTITY}; echo a > m.js; git add .; git commit -qm i; cd ..; "
        + ("git add . 2>/dev/null; git commit -qm own" if commits else "true"),
    )
    await job.finish()
    assert pushed(remote, "app/m.js") == "a"
    assert "160000" not in git(remote, "ls-tree", "-r", "feature/ai")
    assert job.warnings() == ["embedded_repository"]
    assert "app" in messages(job, "embedded_repository")


@pytest.mark.parametrize(
    ("script", "name", "line"),
    [
        pytest.param(f"git tag v9 $({WRITE})", "tag v9 (a file)", "+w", id="a file"),
        pytest.param(f"git tag -a -m v v9 $({WRITE})", "tag v9 (a file)", "+w", id="annotated"),
        pytest.param(
            "mkdir d; echo w > d/n; git add d; git tag v9 $(git write-tree --prefix=d/); git rm -qrf d",
            "tag v9 (a folder)", "+w", id="a folder",
        ),
        pytest.param(f"git update-ref refs/notes/x $({WRITE})", "ref notes/x (a file)", "+w", id="a ref"),
    ],
)  # fmt: skip
async def test_a_tag_of_a_file_or_folder_is_kept_and_named(jobs: Jobs, script: str, name: str, line: str) -> None:
    job = jobs()
    await run(job, script)
    await job.workspace.commit_leftovers("unused")
    assert await job.workspace.collect() is None
    assert f"{name} (" in messages(job, "objects_left_out")
    assert "commits_unreadable" not in job.warnings()
    assert line in left_patches(job).splitlines()
    assert job.workspace.has_work
    assert job.workspace.note == "The agent's refs name files or folders instead of commits, and they are not pushed"


async def test_a_tag_of_what_the_repository_had_is_named_and_keeps_nothing(jobs: Jobs, remote: Path) -> None:
    job = jobs()
    await run(job, "git tag file HEAD:README.md; git tag folder HEAD:src; git tag all 'HEAD^{tree}'; echo w > n")
    await job.finish()
    assert pushed(remote) == "w"
    assert left_patches(job) == ""
    assert {"tag file (a file)", "tag folder (a folder)"} <= set(
        messages(job, "objects_left_out").removesuffix(".").split(": ")[1].split(", ")
    )


async def test_a_tag_of_nothing_is_damage(jobs: Jobs) -> None:
    job = jobs()
    await run(job, f"echo {'a' * 40} > .git/refs/tags/v9")
    await job.workspace.commit_leftovers("unused")
    await job.workspace.collect()
    assert messages(job, "commits_unreadable").endswith("missing: tag v9.")


async def test_a_long_message_at_the_tip_of_the_base_is_no_damage(jobs: Jobs, remote: Path) -> None:
    work = remote.with_name("repo.git.work")
    git(work, "commit", "--quiet", "--allow-empty", "-m", "word " * 20_000)
    git(work, "push", "-q", str(remote), "main")
    job = jobs()
    await run(job, "echo w > n")
    await job.finish()
    assert pushed(remote) == "w"


@pytest.mark.parametrize(
    "script",
    [
        "echo x > git~1",
        "mkdir d; mkdir d/.GIT; echo y > d/.GIT/y",
        "echo x > git~1; echo y > '.git '",
    ],
)
async def test_files_that_git_refuses_are_not_called_nothing(jobs: Jobs, script: str) -> None:
    job = jobs()
    await run(job, script)
    await job.workspace.commit_leftovers("unused")
    assert await job.workspace.collect() is None
    assert job.warnings() == ["git_add_incomplete"]
    assert job.workspace.note == "The agent's files could not be added to a commit, as the warnings say"


@pytest.mark.parametrize(
    "script",
    ["git rm -q --cached README.md", "git update-index --chmod=+x README.md", "echo x > x; git add x; rm x"],
)
async def test_another_index_is_not_called_nothing(jobs: Jobs, script: str) -> None:
    job = jobs()
    await run(job, script)
    await job.workspace.commit_leftovers("unused")
    await job.workspace.collect()
    assert "changed nothing" not in job.workspace.note + job.logged()


async def test_only_an_untouched_checkout_counts_as_nothing(jobs: Jobs) -> None:
    job = jobs()
    await run(job, "mkdir .git/info; echo '*.log' > .git/info/exclude; echo x > build.log")
    await job.workspace.commit_leftovers("unused")
    assert await job.workspace.collect() is None
    assert job.workspace.note == "The agent changed only files that git ignores: build.log"
    assert "changed nothing" not in job.logged()

    undone = jobs()
    await run(undone, f"{COMMIT}; git reset -q --hard HEAD~1")
    await undone.workspace.commit_leftovers("unused")
    assert await undone.workspace.collect() is None
    assert "changed nothing" not in undone.logged()
