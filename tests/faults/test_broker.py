"""Faults of the broker: killed, emptied or cut off, with repeated messages, and with a killed worker."""

from __future__ import annotations

import random
import time

import pytest
from kombu.transport import redis as redis_transport

from myctobot.contract.shards import class_queue
from tests.acceptance.client import kill_worker
from tests.faults.effects import World, check_effects, submit_push_job
from tests.faults.injection import (
    broker_connection,
    cut_broker_connections,
    flush_redis,
    kill_program,
    stop_redis,
    stopped,
)
from tests.faults.one_fault import Faults, check_fault, fault_parameters

pytestmark = [pytest.mark.faults, pytest.mark.timeout(420)]

FAULTS: Faults = {
    "redis_flushed": flush_redis,
    "redis_killed": kill_program("redis"),
    "redis_stopped": stop_redis(15),
    "worker_killed": kill_worker,
}
LONG: Faults = {
    "broker_connections_cut": cut_broker_connections(12),
    "redis_stopped_for_a_minute": stop_redis(60),
    "broker_connections_cut_for_half_a_minute": cut_broker_connections(30),
}


@pytest.mark.parametrize("fault", fault_parameters(FAULTS, LONG))
def test_every_job_ends_once_with_its_effects_once(place: World, fault: str) -> None:
    check_fault(place, fault, {**FAULTS, **LONG}[fault])


def test_jobs_run_once_when_messages_arrive_three_times_out_of_order(place: World) -> None:
    queue = class_queue(["git", "filesystem"])
    with broker_connection(place.client) as connection:
        with stopped(place.client.stack.pid_of("shard-local")):
            # The broker still answers an earlier request of the worker, so the message would end up in its socket.
            time.sleep(2 * redis_transport.Transport.brpop_timeout)
            pushes = [submit_push_job(place, f"message-{n}", 1) for n in range(2)]
            deadline = time.monotonic() + 10
            while connection.llen(queue) < len(pushes):
                why = [place.client.job(push.job_id)["waiting"] for push in pushes]
                assert time.monotonic() < deadline, f"the messages are not in the queue: {why}"
                time.sleep(0.1)
            messages = connection.lrange(queue, 0, -1)
            more = [*messages, *messages]
            random.Random(1).shuffle(more)
            connection.lpush(queue, *more)
        for push in pushes:
            assert len(check_effects(place, push)["attempts"]) == 1
        # The messages are repeated long after their jobs ended.
        connection.lpush(queue, *messages)
        last = submit_push_job(place, "message-last", 0)
        assert len(check_effects(place, last)["attempts"]) == 1
        assert connection.llen(queue) == 0
    for push in pushes:
        assert len(check_effects(place, push)["attempts"]) == 1
