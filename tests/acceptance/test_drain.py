"""Draining shard: it takes no message, and other shards of its class continue."""

from __future__ import annotations

import time
from pathlib import Path

import psycopg
import pytest

from tests.acceptance.client import Client
from tests.stacks import SCRIPTS, running_stack

pytestmark = pytest.mark.acceptance


def set_state(client: Client, shard: str, state: str) -> None:
    lines = (client.stack.home / "env").read_text().splitlines()
    with psycopg.connect(dict(line.partition("=")[::2] for line in lines)["DATABASE_URL"]) as connection:
        connection.execute("UPDATE shards_shard SET state = %s WHERE name = %s", [state, shard])


def wait_for_output(client: Client, text: str) -> None:
    deadline = time.monotonic() + 30
    while text not in client.stack.output():
        assert time.monotonic() < deadline, f"the stack did not print: {text}"
        time.sleep(0.2)


@pytest.mark.long
def test_a_draining_shard_takes_no_message_until_it_is_ready_again(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with (
        running_stack(home, "--shards", "2", environ={"GATEWAY_SCRIPTS": str(SCRIPTS)}) as stack,
        Client(stack) as client,
    ):
        set_state(client, "local-2", "draining")
        wait_for_output(client, "no queue: draining")
        # The current BRPOP ends within a second. The shard would refuse its message, which costs an attempt.
        time.sleep(1.5)
        jobs = [client.wait_end(job_id) for job_id in [client.submit({"prompt": "THINK AND TALK"}) for _ in range(4)]]
        assert [(job["status"], len(job["attempts"])) for job in jobs] == [("completed", 1)] * 4
        assert {job["attempts"][0]["shard"] for job in jobs} == {"local"}
        set_state(client, "local-2", "ready")
        set_state(client, "local", "draining")
        wait_for_output(client, "now taking jobs from cap.filesystem+git")
        job = client.run({"prompt": "THINK AND TALK"})
        assert (job["status"], job["attempts"][-1]["shard"]) == ("completed", "local-2")
