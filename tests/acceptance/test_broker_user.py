"""Broker users of the stack's shards: their permissions suffice for a job."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit

import pytest
from redis import Redis

from tests.acceptance.client import Client

pytestmark = [pytest.mark.acceptance, pytest.mark.needs("a redis of 7.0 or newer")]


def test_a_job_runs_without_a_denied_broker_command(client: Client) -> None:
    lines = (client.stack.home / "env").read_text().splitlines()
    url = dict(line.partition("=")[::2] for line in lines)["REDIS_URL"]
    own = urlsplit(json.loads(client.stack.shards["local"].read_text())["broker_url"])
    assert own.username == "shard-local"
    assert own.password != urlsplit(url).password
    assert client.run({"prompt": "THINK AND TALK"})["status"] == "completed"
    with Redis.from_url(url, decode_responses=True) as broker:
        log: Any = broker.acl_log()
        connected: Any = broker.client_list()
    # While two stacks start at once, each may try its password on the port that the other one took.
    assert [entry for entry in log if entry["username"] != "default"] == []
    assert "shard-local" in {one["user"] for one in connected}
