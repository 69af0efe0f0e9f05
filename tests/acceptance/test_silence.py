"""Silent shards: a stopped worker is suspect, but a stopped web process makes no shard suspect."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
import pytest

from tests.acceptance.client import Client
from tests.stacks import RunningStack

pytestmark = pytest.mark.acceptance
JOB = {"prompt": "THINK AND TALK"}


def rows(stack: RunningStack, statement: str) -> list[tuple[str, ...]]:
    lines = (stack.home / "env").read_text().splitlines()
    with psycopg.connect(dict(line.partition("=")[::2] for line in lines)["DATABASE_URL"]) as connection:
        return connection.execute(statement.encode()).fetchall()


def state(stack: RunningStack) -> str:
    return rows(stack, "SELECT state FROM shards_shard")[0][0]


def last_report(stack: RunningStack) -> str:
    return rows(stack, "SELECT last_heartbeat_at::text FROM shards_shard")[0][0]


def wait_for(condition: Callable[[], bool], seconds: float) -> float:
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < seconds, f"the condition did not hold within {seconds} s"
        time.sleep(0.2)
    return time.monotonic() - started


@contextmanager
def stopped(stack: RunningStack, name: str) -> Iterator[None]:
    pid = stack.pid_of(name)
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.fixture
def own_stack(fragile: Client) -> RunningStack:
    wait_for(lambda: state(fragile.stack) == "ready", 60)
    return fragile.stack


def test_a_stopped_worker_is_suspect_until_its_reports_are_steady(own_stack: RunningStack) -> None:
    stack = own_stack
    with Client(stack) as client:
        with stopped(stack, "shard-local"):
            wait_for(lambda: state(stack) == "suspect", 40)
            job = client.submit(JOB)
        assert wait_for(lambda: state(stack) == "ready", 40) > 9
        assert client.wait_end(job)["status"] == "completed"
        wait_for(lambda: "Shard local is suspect" in stack.output(), 30)


@pytest.mark.long
def test_a_stopped_web_process_makes_no_shard_suspect(own_stack: RunningStack) -> None:
    stack = own_stack
    before = rows(stack, "SELECT count(*) FROM shards_statechange")
    with stopped(stack, "web"):
        time.sleep(25)
    # After three reports, the monitor has judged the age of the report before the pause.
    for _ in range(3):
        report = last_report(stack)
        wait_for(lambda report=report: last_report(stack) != report, 30)  # type: ignore[misc]  # mypy does not infer the default
    assert state(stack) == "ready"
    assert rows(stack, "SELECT count(*) FROM shards_statechange") == before
    with Client(stack) as client:
        assert client.run(JOB)["status"] == "completed"
