"""A worker is upgraded in place: its jobs go on, and the next ones find the new one."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.acceptance.client import Client
from tests.stacks import PLAYS, running_stack

pytestmark = pytest.mark.acceptance


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    environ = {"GATEWAY_PLAYS": str(PLAYS), "LOCAL_SHARD_SLOTS": "2"}
    with running_stack(tmp_path / "home", environ=environ) as stack, Client(stack) as made:
        yield made


def test_jobs_go_on_and_the_new_worker_has_their_slots(client: Client) -> None:
    before = client.submit({"prompt": "RUN: sleep 20"})
    client.wait_event(before, "tool.call")
    worker = client.stack.pid_of("shard-local")
    # What the new one has read tells it from the old one.
    config = client.stack.shards["local"]
    config.write_text(config.read_text().replace('"max_concurrent_jobs": 2', '"max_concurrent_jobs": 1'))
    for _ in range(3):
        os.kill(worker, signal.SIGHUP)
    # Either of the two takes it.
    during = client.submit({"prompt": "THINK AND TALK"})
    deadline = time.monotonic() + 30
    while f"adopted the runner of {before}.1" not in client.stack.output():
        assert time.monotonic() < deadline, client.stack.output()[-2000:]
        time.sleep(0.1)
    after = client.submit({"prompt": "THINK AND TALK"})
    done, later = client.wait_end(before), client.wait_end(after)
    assert (done["status"], len(done["attempts"])) == ("completed", 1)
    assert (later["status"], client.wait_end(during)["status"]) == ("completed", "completed")
    # The one slot that the new worker has was taken until then.
    assert later["attempts"][-1]["claimed_at"] >= done["finished_at"]
    assert client.stack.pid_of("shard-local") == worker
    assert client.stack.output().count("beginning anew") == 1
    children = psutil.Process(worker).children()
    assert not [child for child in children if child.status() == psutil.STATUS_ZOMBIE]
