from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.factories.git_jobs import Jobs
from tests.fixtures.repos import branches
from tests.fixtures.ssh_server import SshServer, make_key, serve_ssh
from workers.errors import JobError

pytestmark = [pytest.mark.anyio, pytest.mark.needs("sshd")]


@pytest.fixture
def ssh(tmp_path: Path) -> Iterator[SshServer]:
    with serve_ssh(tmp_path) as running:
        yield running


async def test_a_private_key_fetches_and_pushes_and_is_never_on_disk(jobs: Jobs, remote: Path, ssh: SshServer) -> None:
    job = jobs(url=ssh.url(remote), token=ssh.private_key, known_hosts=ssh.known_hosts)
    await job.workspace.prepare()
    await job.agent("echo new > new.txt")
    assert await job.finish() == branches(remote)["feature/ai"]
    line = ssh.private_key.splitlines()[1].encode()
    assert all(line not in path.read_bytes() for path in job.job_dir.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("key", "code"),
    [
        pytest.param(make_key()[0], "repo_auth_failed", id="a key that is not let in"),
        pytest.param(make_key(b"passphrase")[0], "repo_token_invalid", id="a key behind a passphrase"),
        pytest.param("-----BEGIN OPENSSH PRIVATE KEY-----\nabc\n", "repo_token_invalid", id="a broken key"),
        pytest.param("ghp_token", "repo_token_invalid", id="a token"),
        pytest.param(None, "repo_token_invalid", id="nothing"),
    ],
)
async def test_a_key_without_access_is_named_as_such(
    jobs: Jobs, remote: Path, ssh: SshServer, key: str | None, code: str
) -> None:
    job = jobs(url=ssh.url(remote), token=key, known_hosts=ssh.known_hosts)
    with pytest.raises(JobError, match="repo_token") as caught:
        await job.workspace.prepare()
    assert caught.value.code == code


async def test_an_unknown_host_key_is_refused(jobs: Jobs, remote: Path, ssh: SshServer, tmp_path: Path) -> None:
    other = tmp_path / "other_hosts"
    other.write_text(f"[localhost]:{ssh.port} {make_key()[1]}\n")
    job = jobs(url=ssh.url(remote), token=ssh.private_key, known_hosts=other)
    with pytest.raises(JobError) as caught:
        await job.workspace.prepare()
    assert caught.value.code == "repo_host_key_unknown"


# Ends the connection once, when git calls it for the first time in this state.
CUT = """#!/bin/sh
if [ "$1" != "{state}" ] || ! mv "{marker}" "{marker}.used"; then exit 0; fi
pid=$PPID
while [ "$pid" -gt 1 ]; do
  parent=$(sed -n 's/^PPid:[^0-9]*//p' "/proc/$pid/status")
  if grep -q '^Name:[^a-z]*sshd' "/proc/$pid/status"; then kill -KILL "$pid"; fi
  pid=$parent
done
exit 1
"""


@pytest.mark.parametrize(
    ("hook", "state", "arrived"), [("pre-receive", "", False), ("reference-transaction", "committed", True)]
)
async def test_a_connection_that_breaks_at_the_push_costs_no_work(
    jobs: Jobs, remote: Path, ssh: SshServer, tmp_path: Path, hook: str, state: str, arrived: bool
) -> None:
    marker, path = tmp_path / "cut", remote / "hooks" / hook
    marker.touch()
    path.write_text(CUT.format(state=state, marker=marker))
    path.chmod(0o755)
    job = jobs(url=ssh.url(remote), token=ssh.private_key, known_hosts=ssh.known_hosts, push_retry_s=20)
    await job.workspace.prepare()
    await job.agent("echo new > new.txt")
    assert await job.finish() == branches(remote)["feature/ai"]
    assert not marker.exists()
    assert (f"the server has feature/ai at {branches(remote)['feature/ai'][:10]}" in job.logged()) is arrived


async def test_an_unknown_repository_is_named_as_such(jobs: Jobs, remote: Path, ssh: SshServer) -> None:
    job = jobs(url=ssh.url(remote) + "-none", token=ssh.private_key, known_hosts=ssh.known_hosts)
    with pytest.raises(JobError) as caught:
        await job.workspace.prepare()
    assert caught.value.code == "repo_not_found"
