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


async def test_an_unknown_repository_is_named_as_such(jobs: Jobs, remote: Path, ssh: SshServer) -> None:
    job = jobs(url=ssh.url(remote) + "-none", token=ssh.private_key, known_hosts=ssh.known_hosts)
    with pytest.raises(JobError) as caught:
        await job.workspace.prepare()
    assert caught.value.code == "repo_not_found"
