"""The runner's life is its own: the worker that started it may be killed and started anew."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import pytest
from celery import Celery

from jobs.contract import JobStatus
from tests.acceptance.client import Client
from tests.stacks import PLAYS, running_stack

pytestmark = pytest.mark.acceptance

WORKER = "shard-local"


@pytest.fixture
def one_slot(tmp_path: Path) -> Iterator[Client]:
    environ = {"GATEWAY_PLAYS": str(PLAYS), "LOCAL_SHARD_SLOTS": "1"}
    with running_stack(tmp_path / "home", environ=environ) as stack, Client(stack) as client:
        yield client


def kill_worker(client: Client) -> int:
    """SIGKILL the shard's Celery worker and wait for the supervisor's new one."""
    old = client.stack.pid_of(WORKER)
    os.kill(old, signal.SIGKILL)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        # Between the two there is no record.
        with suppress(FileNotFoundError):
            if (new := client.stack.pid_of(WORKER)) != old:
                return new
        time.sleep(0.1)
    raise AssertionError("the worker was not started again")


def test_the_job_completes_and_the_new_worker_counts_its_slot(one_slot: Client) -> None:
    client = one_slot
    first = client.submit({"prompt": "RUN: sleep 12"})
    client.wait_event(first, "tool.call")
    kill_worker(client)
    second = client.submit({"prompt": "THINK AND TALK"})
    waiting = client.wait(second, lambda job: job["waiting"] and job["waiting"]["code"] == "class_busy")
    assert "busy" in waiting["waiting"]["reason"]
    assert adopted(client) == [f"{first}.1"]
    done, later = client.wait_end(first), client.wait_end(second)
    assert (done["status"], len(done["attempts"])) == (JobStatus.COMPLETED, 1)
    assert later["status"] == JobStatus.COMPLETED
    assert later["attempts"][-1]["claimed_at"] >= done["finished_at"]


def adopted(client: Client) -> Any:
    """What the new worker itself says it runs, by Celery's remote control."""
    lines = (client.stack.home / "env").read_text().splitlines()
    broker = dict(line.partition("=")[::2] for line in lines)["REDIS_URL"]
    with Celery(broker=broker) as app:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            answers = cast(dict[str, Any], app.control.inspect(timeout=2)._request("capabilities") or {})
            for answer in answers.values():
                if answer.get("running"):
                    return answer["running"]
    raise AssertionError("the worker reports no running job")
