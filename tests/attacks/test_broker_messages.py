"""Malformed messages of the broker: each real worker drops and counts them, and processes the next one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.db import connection

from myctobot.contract.runner import EXECUTE_TASK
from myctobot.stack.plan import CHECKOUT
from myctobot.stack.redis import EmbeddedRedis
from shards.operations.models import LIVE_OPERATIONS, Operation
from tests.factories.control_plane import make_shard
from tests.fixtures.broker import (
    QUEUES,
    ControlStandIn,
    LimitedWorker,
    Operator,
    control_stand_in,
    eventually,
    limited_worker,
)
from tests.fixtures.malformed_messages import HUGE_BYTES, NO_ATTEMPTS, malformed, message

JOB = "job_0123456789abcdefghjk"
COMMANDS = "/0.celery.pidbox"
# Every command of Celery's is known to a worker, so malformed bytes of these kinds reach it too.
SHARD_MESSAGES = malformed(EXECUTE_TASK, [JOB, 1])
CONTROL_MESSAGES = malformed("shards.operate", [999_999_999])


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    made = EmbeddedRedis(tmp_path_factory.mktemp("broker"), port=0)
    made.start()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def operator(service: EmbeddedRedis) -> Iterator[Operator]:
    made = Operator(service.url)
    # Another broker has no such bounds as the embedded one.
    bounds = {"proto-max-bulk-len": "64mb", "client-query-buffer-limit": "512mb", "maxmemory": "1gb"}
    made.redis.config_set("client-output-buffer-limit", "pubsub 0 0 0")
    for name, bound in bounds.items():
        made.redis.config_set(name, bound)
    yield made
    made.close()


@pytest.fixture(scope="module")
def control() -> Iterator[ControlStandIn]:
    with control_stand_in(QUEUES) as made:
        yield made


@pytest.fixture(scope="module")
def shard(
    service: EmbeddedRedis, control: ControlStandIn, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LimitedWorker]:
    with limited_worker(tmp_path_factory.mktemp("shard"), control, service.url) as made:
        eventually(lambda: "ready." in made.said() or made.process.poll() is not None, "the worker does not start")
        yield made


@contextmanager
def celery_worker(folder: Path, redis_url: str, queue: str) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """Run a worker of the control plane as the stack does."""
    log = folder / "control.log"
    database_url = urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{connection.settings_dict['NAME']}").geturl()
    options = ("--pool", "threads", "--concurrency", "2", "--queues", queue, "--hostname", f"{queue}@%h")
    quiet = ("--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "INFO")
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "celery", "--quiet", "-A", "myctobot.celery", "worker", *options, *quiet],
            cwd=CHECKOUT,
            env={**os.environ, "REDIS_URL": redis_url, "DATABASE_URL": database_url},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        eventually(lambda: "ready" in log.read_text() or process.poll() is not None, "the worker does not start")
        yield process, log
    finally:
        process.kill()
        process.wait(30)


@pytest.fixture(scope="module")
def control_worker(
    django_db_setup: None, service: EmbeddedRedis, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    with celery_worker(tmp_path_factory.mktemp("control"), service.url, "operations") as made:
        yield made


class TestShard:
    def test_each_is_dropped_and_the_next_one_is_executed(
        self, shard: LimitedWorker, operator: Operator, control: ControlStandIn
    ) -> None:
        before = reported_drops(shard, control)
        for number, (data, _) in enumerate(SHARD_MESSAGES.values()):
            operator.redis.lpush(QUEUES[number % 2], data)
        for job_id, attempt in NO_ATTEMPTS:
            operator.redis.lpush("cap.git", json.dumps(message(EXECUTE_TASK, [job_id, attempt])))
        operator.send("cap.git", JOB)
        operator.send("shard.s1", f"{JOB[:-1]}z")
        eventually(lambda: {JOB, f"{JOB[:-1]}z"} <= set(control.claimed), "the next messages are not executed")
        expected = Counter(reason for _, reason in SHARD_MESSAGES.values())
        expected["arguments"] += len(NO_ATTEMPTS)
        assert f"dropped a message of {HUGE_BYTES} bytes from" in shard.said()
        assert reported_drops(shard, control) == before + expected
        check_unharmed(shard, control)

    def test_commands_that_are_malformed_are_dropped_too(
        self, shard: LimitedWorker, operator: Operator, control: ControlStandIn
    ) -> None:
        for data, _ in SHARD_MESSAGES.values():
            operator.redis.publish(COMMANDS, data)
        answer = {"method": "ping", "arguments": None, "destination": 5}
        operator.redis.publish(COMMANDS, json.dumps(answer))
        assert operator.ask("ping") == {"ok": "pong"}
        check_unharmed(shard, control)

    def test_no_file_outside_of_its_folders_is_touched(
        self, shard: LimitedWorker, operator: Operator, control: ControlStandIn
    ) -> None:
        folder = shard.config.parent
        victim = folder / "victim.1"
        victim.mkdir()
        (victim / "precious").write_text("keep")
        for job_id in ("../victim", f"{folder}/victim", "../run/../victim"):
            operator.redis.lpush("cap.git", json.dumps(message(EXECUTE_TASK, [job_id, 1])))
        operator.send("cap.git", f"{JOB[:-1]}v")
        eventually(lambda: f"{JOB[:-1]}v" in control.claimed, "the next message is not executed")
        assert (victim / "precious").read_text() == "keep"
        assert not list(folder.glob("*.json.json"))
        assert {path.name for path in folder.iterdir()} <= {"config.json", "worker.log", "run", "jobs", "victim.1"}


def reported_drops(shard: LimitedWorker, control: ControlStandIn) -> Counter[str]:
    """Return the dropped messages by reason, as soon as a heartbeat counts all that the log names."""

    def report() -> Counter[str]:
        return Counter(control.reports[-1].get("dropped_messages", {}) if control.reports else {})

    eventually(
        lambda: control.reports and report().total() == shard.said().count("dropped a message of"),
        "its heartbeats do not count them",
    )
    return report()


def check_unharmed(shard: LimitedWorker, control: ControlStandIn) -> None:
    """Check that the worker never started again, and that nothing but the well-formed messages was claimed."""
    assert shard.process.poll() is None
    assert shard.said().count("ready.") == 1
    assert "Traceback" not in shard.said()
    assert all(job_id.startswith(JOB[:-1]) for job_id in control.claimed)


def counted_drops(operator: Operator) -> Counter[str]:
    counts: Any = operator.redis.hgetall("myctobot:dropped-messages")
    return Counter({reason: int(count) for reason, count in counts.items()})


class TestControlPlane:
    @pytest.mark.django_db(transaction=True)
    def test_each_is_dropped_and_the_next_one_is_executed(
        self, control_worker: tuple[subprocess.Popen[bytes], Path], operator: Operator
    ) -> None:
        process, log = control_worker
        before = counted_drops(operator)
        others: list[Any] = ["1", True, None, [1], {"a": 1}, 1.5]
        for data, _ in CONTROL_MESSAGES.values():
            operator.redis.lpush("operations", data)
        for argument in others:
            operator.redis.lpush("operations", json.dumps(message("shards.operate", [argument])))
        operation = Operation.objects.create(shard=make_shard("one")[0], kind="restart", requested_by="olga")
        operator.redis.lpush("operations", json.dumps(message("shards.operate", [operation.pk])))
        waiting = Operation.objects.filter(state__in=LIVE_OPERATIONS)
        eventually(lambda: not waiting.exists() or process.poll() is not None, "it processes nothing")
        assert process.poll() is None
        expected = Counter(reason for _, reason in CONTROL_MESSAGES.values())
        expected["arguments"] += len(others)
        assert counted_drops(operator) == before + expected
        assert log.read_text().count("message.dropped") == (before + expected).total()
        # Nothing waits for an acknowledgement, which would come again after an hour.
        time.sleep(0.5)
        assert operator.redis.hlen("unacked") == 0

    def test_commands_that_are_malformed_are_dropped_too(
        self, control_worker: tuple[subprocess.Popen[bytes], Path], operator: Operator
    ) -> None:
        process, log = control_worker
        for data, _ in CONTROL_MESSAGES.values():
            operator.redis.publish(COMMANDS, data)
        answers: Any = operator.app.control.ping(timeout=2)
        assert any(worker.startswith("operations@") for answer in answers for worker in answer)
        assert process.poll() is None
        assert log.read_text().count(" ready.") == 1
