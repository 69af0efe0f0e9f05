"""One fault at a time, while two jobs run: each ends once, with its effects once."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from tests.acceptance.client import Client, kill_worker
from tests.faults.reckoning import reckon, submit_piece
from tests.fixtures.repos import make_remote
from tests.stacks import PLAYS, running_stack

pytestmark = [pytest.mark.faults, pytest.mark.timeout(420)]

WORK_S = 6


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    home = tmp_path_factory.mktemp("faults") / "home"
    environ = {"GATEWAY_PLAYS": str(PLAYS), "LOCAL_SHARD_SLOTS": "2"}
    with running_stack(home, environ=environ) as stack, Client(stack) as member:
        yield member


def broker(client: Client) -> redis.Redis:
    lines = (client.stack.home / "env").read_text().splitlines()
    return redis.Redis.from_url(dict(line.partition("=")[::2] for line in lines)["REDIS_URL"])


def killed(name: str) -> Callable[[Client], None]:
    return lambda client: os.kill(client.stack.pid_of(name), signal.SIGKILL)


def restarted_postgres(client: Client) -> None:
    os.kill(client.stack.pid_of("postgres"), signal.SIGINT)


def flushed_redis(client: Client) -> None:
    with broker(client) as connection:
        connection.flushall()


def cut_broker_connections(client: Client) -> None:
    """Every second, half as long again as the jobs work."""
    for _ in range(WORK_S * 3 // 2):
        with broker(client) as connection:
            connection.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        time.sleep(1)


def killed_runners(client: Client) -> None:
    for entry in (client.stack.home / "shards" / "local" / "run").glob("*.json"):
        os.kill(json.loads(entry.read_text())["pid"], signal.SIGKILL)


FAULTS: dict[str, tuple[Callable[[Client], None], int]] = {
    "web_killed": (killed("web"), 1),
    "control_killed": (killed("control"), 1),
    "beat_killed": (killed("beat"), 1),
    "redis_flushed": (flushed_redis, 1),
    "redis_killed": (killed("redis"), 1),
    "postgres_restarted": (restarted_postgres, 1),
    "broker_connections_cut": (cut_broker_connections, 1),
    "worker_killed": (kill_worker, 1),
    "runners_killed": (killed_runners, 2),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_every_job_ends_once_with_its_effects_once(client: Client, tmp_path: Path, fault: str) -> None:
    strike, attempts = FAULTS[fault]
    remote = make_remote(tmp_path / "remote.git")
    pieces = [submit_piece(client, remote, f"{fault}-{n}", WORK_S) for n in range(2)]
    for piece in pieces:
        client.wait_event(piece.job_id, "tool.call")
    strike(client)
    for piece in pieces:
        assert len(reckon(client, remote, piece)["attempts"]) == attempts, fault
