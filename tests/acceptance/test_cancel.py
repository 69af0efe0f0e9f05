"""Cancellation with proof that no process is left."""

from __future__ import annotations

import json

import psutil
import pytest

from tests.acceptance.client import Client

pytestmark = pytest.mark.acceptance


def test_cancel_of_a_running_job_is_proven(client: Client) -> None:
    job_id = client.submit({"prompt": "SLOW JOB"}, capabilities=["git", "filesystem"])
    client.wait_event(job_id, "tool.call")
    agents = agent_processes(client)
    assert agents
    answer = client.cancel(job_id)
    assert answer.status_code == 202
    job = client.wait_end(job_id, 20)
    assert job["status"] == "cancelled"
    proof = job["attempts"][-1]["proof"]
    assert proof["processes_left"] == 0
    assert proof["processes_killed"] > 0
    assert not [process for process in agents if is_alive(process)]


def is_alive(process: psutil.Process) -> bool:
    """Return whether a process runs; a zombie has ended and waits for its parent only."""
    try:
        return process.is_running() and bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def agent_processes(client: Client) -> list[psutil.Process]:
    """Return the processes below the only live runner."""
    (entry,) = (client.stack.home / "shards" / "local" / "run").glob("*.json")
    return psutil.Process(json.loads(entry.read_text())["pid"]).children(recursive=True)


def test_a_second_cancel_succeeds_and_an_ended_job_is_not_cancelled(client: Client) -> None:
    job_id = client.submit({"prompt": "SLOW JOB"})
    client.wait_event(job_id, "agent.started")
    assert {client.cancel(job_id).status_code, client.cancel(job_id).status_code} <= {200, 202}
    client.wait_end(job_id, 20)
    assert client.cancel(job_id).status_code == 200
    done = client.run({"prompt": "THINK AND TALK"})
    refused = client.cancel(done["id"])
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "job_finished")


def test_a_retry_is_a_new_job_with_the_same_request(client: Client) -> None:
    job_id = client.submit({"prompt": "SLOW JOB"})
    client.wait_event(job_id, "agent.started")
    client.cancel(job_id)
    client.wait_end(job_id, 20)
    answer = client.http.post(f"/jobs/{job_id}/retry")
    assert answer.status_code == 201, answer.text
    again = answer.json()
    assert (again["retry_of"], again["task"]) == (job_id, client.job(job_id)["task"])
    client.cancel(again["id"])
    client.wait_end(again["id"], 40)
