"""Shard in a closed network: git connects only through the filtering proxy."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.factories.git_jobs import TOKEN, Jobs
from tests.fixtures.connect_proxy import connect_proxy
from tests.fixtures.git_server import GitServer
from tests.fixtures.repos import branches
from workers.errors import JobError

pytestmark = pytest.mark.anyio


async def nowhere(host: str, port: int) -> list[str]:
    raise OSError("this network has no name server")


async def test_a_job_fetches_and_pushes_through_the_proxy_without_dns(jobs: Jobs, remote: Path) -> None:
    async with connect_proxy("localhost") as proxy:
        job = jobs(resolver=nowhere, proxy_url=proxy.url)
        await job.workspace.prepare()
        await job.agent("echo new > new.txt")
        pushed = await job.finish()
    assert branches(remote)["feature/ai"] == pushed
    assert {target.partition(":")[0] for target in proxy.asked} == {"localhost"}


async def test_a_host_that_the_proxy_does_not_allow_is_refused_and_gets_no_token(jobs: Jobs, server: GitServer) -> None:
    async with connect_proxy("github.com") as proxy:
        with pytest.raises(JobError) as caught:
            await jobs(resolver=nowhere, proxy_url=proxy.url).workspace.prepare()
    assert caught.value.code == "repo_host_refused"
    assert "ask the operator" in str(caught.value)
    assert not server.requests
    assert TOKEN not in str(proxy.asked)


async def test_without_its_proxy_a_shard_reaches_no_server(jobs: Jobs, server: GitServer) -> None:
    with pytest.raises(JobError) as caught:
        await jobs(proxy_url="http://127.0.0.1:9").workspace.prepare()
    assert (caught.value.code, caught.value.retryable) == ("repo_unreachable", True)
    assert not server.requests
