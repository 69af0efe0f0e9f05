"""Streams of a web process that is asked to end."""

from __future__ import annotations

import os
import signal
from contextlib import suppress

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from myctobot.tenants.models import ApiKey
from tests.factories.control_plane import make_shard, make_tenant, running_job
from tests.fixtures.http_process import WEB, http_process

pytestmark = pytest.mark.django_db(transaction=True)


def test_streams_end_regularly_and_their_viewers_learn_of_the_restart() -> None:
    tenant = make_tenant()
    job, runner = running_job(tenant, make_shard()[1])
    assert runner.events("line 1").status_code == 200
    headers = {"Authorization": f"Bearer {ApiKey.create(tenant, 'test')[1]}"}
    with (
        http_process(WEB, {}) as process,
        httpx.Client(headers=headers, timeout=30, trust_env=False) as client,
        client.stream("GET", f"http://127.0.0.1:{process.port}/api/v1/jobs/{job.public_id}/stream") as response,
        connect(
            f"ws://127.0.0.1:{process.port}/ws/jobs/{job.public_id}/", additional_headers=headers, proxy=None
        ) as viewer,
    ):
        lines = response.iter_lines()
        while not next(lines).startswith("id: 1"):
            pass
        assert "line 1" in str(viewer.recv(timeout=20))
        os.kill(process.pid, signal.SIGTERM)
        # A response that is cut lacks its last chunk, which httpx reports as an error.
        rest = [*lines]
        with suppress(ConnectionClosed):
            for _ in viewer:
                pass
    assert ": the server restarts; connect again" in rest
    assert not [line for line in rest if line.startswith("event: end")]
    assert viewer.close_code == 1012
