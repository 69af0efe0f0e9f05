"""A shard that is being drained takes no message, and its class goes on without it."""

from __future__ import annotations

import time
from pathlib import Path

import psycopg
import pytest

from tests.acceptance.client import Client
from tests.stacks import PLAYS, running_stack

pytestmark = pytest.mark.acceptance


def set_state(client: Client, shard: str, state: str) -> None:
    lines = (client.stack.home / "env").read_text().splitlines()
    with psycopg.connect(dict(line.partition("=")[::2] for line in lines)["DATABASE_URL"]) as connection:
        connection.execute("UPDATE shards_shard SET state = %s WHERE name = %s", [state, shard])


def wait_for_words(client: Client, words: str) -> None:
    deadline = time.monotonic() + 30
    while words not in client.stack.output():
        assert time.monotonic() < deadline, f"nobody said: {words}"
        time.sleep(0.2)


def test_a_draining_shard_takes_no_message_and_comes_back(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with running_stack(home, "--shards", "2", environ={"GATEWAY_PLAYS": str(PLAYS)}) as stack, Client(stack) as client:
        set_state(client, "local-2", "draining")
        wait_for_words(client, "no queue: draining")
        # The BRPOP on its way ends within a second; a message that it brought would be refused and sent anew.
        time.sleep(1.5)
        jobs = [client.wait_end(job_id) for job_id in [client.submit({"prompt": "THINK AND TALK"}) for _ in range(4)]]
        assert [(job["status"], len(job["attempts"])) for job in jobs] == [("completed", 1)] * 4
        assert {job["attempts"][0]["shard"] for job in jobs} == {"local"}
        set_state(client, "local-2", "ready")
        set_state(client, "local", "draining")
        wait_for_words(client, "now taking jobs from cap.filesystem+git")
        job = client.run({"prompt": "THINK AND TALK"})
        assert (job["status"], job["attempts"][-1]["shard"]) == ("completed", "local-2")
