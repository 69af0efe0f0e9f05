"""Kill of a worker: its runner continues, and the next worker counts the slot of the runner."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any, cast

import pytest
import redis
from celery import Celery

from myctobot.contract.jobs import JobStatus
from tests.acceptance.client import Client, kill_worker

pytestmark = pytest.mark.acceptance


def test_the_job_completes_and_the_new_worker_counts_its_slot(fragile: Client) -> None:
    client = fragile
    first = client.submit({"prompt": "RUN: sleep 12"}, capabilities=["git", "filesystem"])
    client.wait_event(first, "tool.call")
    kill_worker(client)
    second = client.submit({"prompt": "THINK AND TALK"})
    waiting = client.wait(second, lambda job: job["waiting"] and job["waiting"]["code"] == "class_busy")
    assert "busy" in waiting["waiting"]["reason"]
    assert adopted(client) == [f"{first}.1"]
    # Celery forgets adopted tasks when its connection breaks. The slot must stay occupied.
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


def first_answer(client: Client, command: str) -> Any:
    """Return the first answer of the shard to a remote control command; ignore empty answers."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        answers: dict[str, Any] = {}
        # kombu keeps connections in a pool, and the test may have killed one of them.
        with suppress(redis.ConnectionError), Celery(broker=broker_url(client)) as app:
            answers = cast(dict[str, Any], app.control.inspect(timeout=2)._request(command) or {})
        for name, answer in answers.items():
            if name.startswith("shard-") and answer:
                return answer
    raise AssertionError(f"no answer to {command}")


def adopted(client: Client) -> Any:
    """Return the attempts that the new worker reports as running."""
    return first_answer(client, "capabilities")["running"]


def reserved(client: Client) -> Any:
    """Return the ids of the tasks that the new worker has reserved."""
    return [entry["id"] for entry in first_answer(client, "reserved")]
