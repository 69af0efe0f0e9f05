"""The runner's life is its own: the worker that started it may be killed and started anew."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import pytest
import redis
from celery import Celery

from myctobot.contract.jobs import JobStatus
from tests.acceptance.client import Client, kill_worker
from tests.stacks import PLAYS, running_stack

pytestmark = pytest.mark.acceptance


@pytest.fixture
def one_slot(tmp_path: Path) -> Iterator[Client]:
    environ = {"GATEWAY_PLAYS": str(PLAYS), "LOCAL_SHARD_SLOTS": "1"}
    with running_stack(tmp_path / "home", environ=environ) as stack, Client(stack) as client:
        yield client


def test_the_job_completes_and_the_new_worker_counts_its_slot(one_slot: Client) -> None:
    client = one_slot
    first = client.submit({"prompt": "RUN: sleep 12"})
    client.wait_event(first, "tool.call")
    kill_worker(client)
    second = client.submit({"prompt": "THINK AND TALK"})
    waiting = client.wait(second, lambda job: job["waiting"] and job["waiting"]["code"] == "class_busy")
    assert "busy" in waiting["waiting"]["reason"]
    assert adopted(client) == [f"{first}.1"]
    # Celery forgets what it did not start itself with every connection; the slot is taken all the same.
    with redis.Redis.from_url(broker_url(client)) as broker:
        broker.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    assert reserved(client) == [f"adopted-{first}.1"]
    done, later = client.wait_end(first), client.wait_end(second)
    assert (done["status"], len(done["attempts"])) == (JobStatus.COMPLETED, 1)
    assert later["status"] == JobStatus.COMPLETED
    assert later["attempts"][-1]["claimed_at"] >= done["finished_at"]


def broker_url(client: Client) -> str:
    lines = (client.stack.home / "env").read_text().splitlines()
    return dict(line.partition("=")[::2] for line in lines)["REDIS_URL"]


def ask(client: Client, command: str) -> Any:
    """The shard's first answer that is not empty to a command of Celery's remote control."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        answers: dict[str, Any] = {}
        # Ours may be among the connections that were killed: kombu keeps them in a pool.
        with suppress(redis.ConnectionError), Celery(broker=broker_url(client)) as app:
            answers = cast(dict[str, Any], app.control.inspect(timeout=2)._request(command) or {})
        for name, answer in answers.items():
            if name.startswith("shard-") and answer:
                return answer
    raise AssertionError(f"no answer to {command}")


def adopted(client: Client) -> Any:
    """What the new worker itself says it runs."""
    return ask(client, "capabilities")["running"]


def reserved(client: Client) -> Any:
    """Which tasks the new worker counts besides those that it has started."""
    return [entry["id"] for entry in ask(client, "reserved")]
