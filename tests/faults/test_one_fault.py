"""One fault at a time, while two jobs run: each ends once, with its effects once."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable, Iterator

import pytest
from kombu.transport import redis as redis_transport

from myctobot.contract.jobs import class_queue
from tests.acceptance.client import Client, kill_worker
from tests.faults.effects import IS_LONG, World, reckon, submit_piece, world
from tests.faults.injection import (
    broker,
    cut_broker_connections,
    flush_redis,
    kill_agents,
    killed,
    second_beat,
    stop_redis,
    stopped,
)

pytestmark = [pytest.mark.faults, pytest.mark.timeout(420)]

WORK_S = 6
REDIS_STOPPED_S = 60 if IS_LONG else 15
CUTS_S = 30 if IS_LONG else 12


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("faults")) as made:
        yield made


FAULTS: dict[str, Callable[[Client], None]] = {
    "web_killed": killed("web"),
    "control_killed": killed("control"),
    "beat_killed": killed("beat"),
    "beat_twice": second_beat(WORK_S),
    "redis_flushed": flush_redis,
    "redis_killed": killed("redis"),
    "redis_stopped": stop_redis(REDIS_STOPPED_S),
    "postgres_restarted": killed("postgres", signal.SIGINT),
    "broker_connections_cut": cut_broker_connections(CUTS_S),
    "worker_killed": kill_worker,
}


@pytest.mark.parametrize("fault", FAULTS)
def test_every_job_ends_once_with_its_effects_once(place: World, fault: str) -> None:
    pieces = [submit_piece(place, f"{fault}-{n}", WORK_S) for n in range(2)]
    for piece in pieces:
        place.client.wait_event(piece.job_id, "tool.call")
    FAULTS[fault](place.client)
    # One that comes in just afterwards has to find its way too.
    late = submit_piece(place, f"{fault}-late", 0)
    for piece in (*pieces, late):
        assert len([each for each in reckon(place, piece)["attempts"] if each["claimed_at"]]) == 1, fault


def test_an_agent_that_is_killed_is_tried_again_where_that_was_asked_for(place: World) -> None:
    asked = submit_piece(place, "agent-asked", WORK_S, retry={"max_attempts": 2, "on": ["agent"]})
    place.client.wait_event(asked.job_id, "tool.call")
    kill_agents(place.client)
    first, second = reckon(place, asked)["attempts"]
    assert (first["state"], first["outcome"]) == ("ended", "failed")
    assert second["outcome"] == "completed"


def test_an_agent_that_is_killed_fails_its_job_once(place: World) -> None:
    unasked = submit_piece(place, "agent-unasked", WORK_S)
    place.client.wait_event(unasked.job_id, "tool.call")
    kill_agents(place.client)
    job = place.client.wait_end(unasked.job_id)
    assert (job["status"], len(job["attempts"])) == ("failed", 1)
    assert job["error"]["code"].startswith("agent"), job["error"]
    assert place.client.job(unasked.job_id)["attempts"][0]["outcome"] == "failed"


def test_messages_that_come_three_times_and_out_of_order(place: World) -> None:
    queue = class_queue(["git", "filesystem"])
    with broker(place.client) as connection:
        with stopped(place.client.stack.pid_of("shard-local")):
            # The broker would still answer what the worker asked it just before, and the message lie in its socket.
            time.sleep(2 * redis_transport.Transport.brpop_timeout)
            pieces = [submit_piece(place, f"message-{n}", 1) for n in range(2)]
            deadline = time.monotonic() + 10
            while connection.llen(queue) < len(pieces):
                why = [place.client.job(piece.job_id)["waiting"] for piece in pieces]
                assert time.monotonic() < deadline, f"the messages are not in the queue: {why}"
                time.sleep(0.1)
            messages = connection.lrange(queue, 0, -1)
            more = [*messages, *messages]
            random.Random(1).shuffle(more)
            connection.lpush(queue, *more)
        for piece in pieces:
            assert len(reckon(place, piece)["attempts"]) == 1
        # Once more, long after their ends.
        connection.lpush(queue, *messages)
        last = submit_piece(place, "message-last", 0)
        assert len(reckon(place, last)["attempts"]) == 1
        assert connection.llen(queue) == 0
    for piece in pieces:
        assert len(reckon(place, piece)["attempts"]) == 1
