from __future__ import annotations

from pathlib import Path

import pytest

from tests.factories import git_fixtures
from tests.factories.git_jobs import Jobs
from tests.fixtures.repos import git
from workers.errors import JobError

pytestmark = pytest.mark.anyio

jobs = git_fixtures.folder_jobs

# The branch of the other side is new too, and it is not pushed.
UNDONE = ["git_operation_unfinished", "commits_left_out"]
CONFLICT = """
echo a > f; git add f; git commit -qm a
git branch side; echo b > f; git commit -qam b
git switch -q side; echo c > f; git commit -qam c; git switch -q feature/ai
"""


@pytest.mark.parametrize(
    ("script", "subjects", "warnings"),
    [
        pytest.param("echo x > x; touch .git/index.lock", "Work of the agent", [], id="a lock left over"),
        pytest.param(
            "git switch -qc other; echo x > x; git add x; git commit -qm own", "own", [], id="another branch"
        ),
        pytest.param(
            "git switch -q --detach; echo x > x; git add x; git commit -qm own", "own", [], id="a detached HEAD"
        ),
        pytest.param(
            "echo x > x; git add x; git commit -qm own; git switch -q main", "own", [], id="back on the base branch"
        ),
        pytest.param(
            CONFLICT + "git merge -q side || true", "b|a", UNDONE, id="a merge with conflicts"
        ),
        pytest.param(
            CONFLICT + "git rebase -q side || true", "b|a", UNDONE, id="a rebase with conflicts"
        ),
        pytest.param(
            CONFLICT + "git cherry-pick side || true", "b|a", UNDONE, id="a pick with conflicts"
        ),
        pytest.param(
            CONFLICT + "git merge -q side || echo d > f; git add f", "Work of the agent|c|b|a", [], id="a settled merge"
        ),
        pytest.param(
            CONFLICT + "git bisect start -q; git bisect bad; git bisect good main", "b|a", UNDONE,
            id="a bisect",
        ),
        pytest.param(
            "echo x > x; git add x; git commit -qm own; git switch -qC other main; echo y > y", "Work of the agent",
            ["commits_left_out"], id="two lines of work",
        ),
        pytest.param(
            "mkdir -p d/e; echo x > d/e/x; chmod 000 d/e/x d/e d; test -d d", "Work of the agent", [],
            id="unreadable files and folders",
        ),
        pytest.param(
            "echo x > x; git init -q inner", "Work of the agent", ["embedded_repository"], id="an empty inner one"
        ),
    ],
)  # fmt: skip
async def test_unfinished_work_is_committed_or_undone(
    jobs: Jobs, remote: Path, script: str, subjects: str, warnings: list[str]
) -> None:
    job = jobs()
    await job.workspace.prepare()
    await job.agent(script)
    await job.finish()
    assert git(remote, "log", "--topo-order", "--format=%s", "main..feature/ai").split("\n") == subjects.split("|")
    assert job.warnings() == warnings


@pytest.mark.parametrize(
    ("script", "code"),
    [
        pytest.param(
            "rm -rf .git; git init -q; git -c user.name=a -c user.email=b commit -qm x --allow-empty",
            "history_rewritten", id="another .git",
        ),
        pytest.param(
            "git commit -q --amend -m rewritten --reset-author", "history_rewritten", id="a rewritten base commit"
        ),
        pytest.param(
            "git checkout -q --orphan o; git commit -qm root; git branch -D feature/ai", "history_rewritten",
            id="an unrelated root",
        ),
    ],
)  # fmt: skip
async def test_another_history_fails_and_pushes_nothing(jobs: Jobs, remote: Path, script: str, code: str) -> None:
    job = jobs()
    await job.workspace.prepare()
    await job.agent(script)
    with pytest.raises(JobError) as caught:
        await job.finish()
    assert caught.value.code == code
    assert git(remote, "for-each-ref", "--format=%(refname)") == "refs/heads/main"


async def test_commits_over_the_limit_are_refused_with_a_hint(jobs: Jobs) -> None:
    job = jobs(max_bundle_mb=1)
    await job.workspace.prepare()
    await job.agent("head -c 3000000 /dev/urandom > noise")
    with pytest.raises(JobError, match="larger than 1 MB") as caught:
        await job.finish()
    assert caught.value.code == "changes_too_large"
    assert list((job.job_dir / "git").glob("*.bundle")) == []
