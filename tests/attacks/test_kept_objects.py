"""Agents attack the objects that a shard keeps for later jobs, and repositories ask for what others have."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.factories import git_fixtures
from tests.factories.git_jobs import TOKEN, Jobs
from tests.fixtures.git_server import GitServer
from tests.fixtures.repos import commit, git, make_remote

pytestmark = pytest.mark.anyio

anyio_backend = git_fixtures.anyio_backend
remote = git_fixtures.remote
server = git_fixtures.server
jobs = git_fixtures.jobs

WRITES = """
fails() { if "$@" 2> /dev/null; then echo "this worked: $*" >&2; exit 1; fi; }
objects=$(cat .git/objects/info/alternates)
test -n "$objects"
for folder in $objects; do
  for file in $(find "$folder" -type f); do
    fails cp README.md "$file"
    fails rm -f "$file"
    fails chmod 600 "$file"
    fails mv "$file" /tmp
    fails ln "$file" /workspace/x
  done
  fails touch "$folder/new"
  fails touch "$folder/pack/new"
  fails mkdir "$folder/aa"
done
"""


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("pack-*")}


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(WRITES, id="writes"),
        pytest.param("git gc -q --prune=now; git repack -qad; git prune; git prune-packed -q", id="git gc"),
        pytest.param("rm -rf .git/objects /run/kept /run/base 2> /dev/null || true", id="removal"),
        pytest.param("git -C /run/kept/objects gc 2> /dev/null || true; git maintenance run --quiet", id="maintenance"),
    ],
)
async def test_an_agent_changes_no_kept_object(jobs: Jobs, script: str) -> None:
    job = jobs()
    await job.workspace.prepare()
    before = contents(jobs.object_cache)
    assert before
    await job.agent(script)
    assert contents(jobs.object_cache) == before
    await job.workspace.close()
    later = jobs(branch="later")
    await later.workspace.prepare()
    await later.agent("git fsck --strict; echo x > x")
    await later.finish()


async def test_an_agent_sees_the_objects_of_its_own_repository_alone(
    jobs: Jobs, server: GitServer, tmp_path: Path
) -> None:
    make_remote(tmp_path / "served" / "private.git", {"secret": "1"})
    private = jobs(url=server.url("private.git"))
    await private.workspace.prepare()
    secret = git(tmp_path / "served" / "private.git", "rev-parse", "main")
    for tenant in ("acme", "other"):
        job = jobs(tenant=tenant, branch=tenant)
        await job.workspace.prepare()
        await job.agent(
            f"if git cat-file -e {secret} 2> /dev/null || ls {jobs.object_cache} 2> /dev/null; then exit 1; fi"
        )
        shown = await job.agent("find / -name '*.pack' 2> /dev/null | sort -u | wc -l")
        assert int(shown.stdout) == 1


async def test_objects_that_an_agent_made_are_never_kept(jobs: Jobs) -> None:
    job = jobs()
    await job.workspace.prepare()
    before = contents(jobs.object_cache)
    await job.agent("echo evil > evil; git add evil; git commit -qm evil")
    await job.finish()
    assert contents(jobs.object_cache) == before


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1:{port}/private.git",
        "https://localhost:1/private.git",
        "http://localhost:{port}/private.git",
        "file://{root}/private.git",
        "{root}/private.git",
        "ext::sh -c 'touch /tmp/pwned'",
    ],
)
async def test_a_submodule_elsewhere_gets_no_token(
    jobs: Jobs, server: GitServer, remote: Path, tmp_path: Path, url: str
) -> None:
    private = make_remote(tmp_path / "served" / "private.git", {"secret": "1"})
    work = remote.with_name("repo.git.work")
    address = url.format(port=server.port, root=private.parent)
    sha = git(private, "rev-parse", "main")
    git(work, "update-index", "--add", "--cacheinfo", f"160000,{sha},sub")
    (work / "sub").mkdir()
    commit(work, {".gitmodules": f'[submodule "a"]\n\tpath = sub\n\turl = "{address}"\n'})
    git(work, "push", "-q", str(remote), "main")
    job = jobs()
    await job.workspace.prepare()
    assert job.warnings() == ["submodules_missing"]
    assert not [request for request in server.requests if "private.git" in request.path]
    assert {name.partition(":")[2] for name in server.authorizations} == {TOKEN}
    assert not Path("/tmp/pwned").exists()
    assert (await job.agent("ls -A sub")).stdout == b""
