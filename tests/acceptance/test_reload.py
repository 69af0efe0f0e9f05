"""Reload of a worker in place: its jobs continue, and the new worker takes later jobs."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import psutil
import pytest

from tests.acceptance.client import Client, shard_config
from tests.fixtures.broker import eventually
from tests.fixtures.forked import fork_servers

pytestmark = pytest.mark.acceptance


@pytest.fixture
def client(fragile: Client) -> Iterator[Client]:
    with shard_config(fragile, max_concurrent_jobs=2):
        yield fragile


def test_jobs_continue_and_occupy_slots_of_the_new_worker(client: Client) -> None:
    reloads = client.stack.output().count("restarting; runners continue")
    before = client.submit({"prompt": "RUN: sleep 20"})
    client.wait_event(before, "tool.call")
    worker = client.stack.pid_of("shard-local")
    # The new worker has one slot, which tells it from the old one.
    config = client.stack.shards["local"]
    config.write_text(config.read_text().replace('"max_concurrent_jobs": 2', '"max_concurrent_jobs": 1'))
    for _ in range(3):
        os.kill(worker, signal.SIGHUP)
    # The old or the new worker takes this job.
    during = client.submit({"prompt": "THINK AND TALK"})
    deadline = time.monotonic() + 30
    while f"adopted the runner of {before}.1" not in client.stack.output():
        assert time.monotonic() < deadline, client.stack.output()[-2000:]
        time.sleep(0.1)
    after = client.submit({"prompt": "THINK AND TALK"})
    done, later = client.wait_end(before), client.wait_end(after)
    assert (done["status"], len(done["attempts"])) == ("completed", 1)
    assert (later["status"], client.wait_end(during)["status"]) == ("completed", "completed")
    # The first job occupied the only slot of the new worker until its end.
    assert later["attempts"][-1]["claimed_at"] >= done["finished_at"]
    assert client.stack.pid_of("shard-local") == worker
    assert client.stack.output().count("restarting; runners continue") == reloads + 1
    # The old fork server ended with its last runner.
    eventually(lambda: len(fork_servers(config)) == 1, "the old fork server stays")
    children = psutil.Process(worker).children()
    assert not [child for child in children if child.status() == psutil.STATUS_ZOMBIE]
