"""A worker that stands still, and a control plane that does: whose silence it is, and what becomes of it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from tests.acceptance.client import Client
from tests.stacks import PLAYS, RunningStack, running_stack

pytestmark = pytest.mark.acceptance
JOB = {"prompt": "THINK AND TALK"}


def rows(stack: RunningStack, statement: str) -> list[tuple[str, ...]]:
    lines = (stack.home / "env").read_text().splitlines()
    with psycopg.connect(dict(line.partition("=")[::2] for line in lines)["DATABASE_URL"]) as connection:
        return connection.execute(statement.encode()).fetchall()


def state(stack: RunningStack) -> str:
    return rows(stack, "SELECT state FROM shards_shard")[0][0]


def wait_for(is_so: Callable[[], bool], seconds: float) -> float:
    began = time.monotonic()
    while not is_so():
        assert time.monotonic() - began < seconds, "it did not come to that"
        time.sleep(0.2)
    return time.monotonic() - began


@contextmanager
def standing_still(stack: RunningStack, name: str) -> Iterator[None]:
    pid = stack.pid_of(name)
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.fixture(scope="module")
def own_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    home: Path = tmp_path_factory.mktemp("silence") / "home"
    with running_stack(home, environ={"GATEWAY_PLAYS": str(PLAYS)}) as stack:
        wait_for(lambda: state(stack) == "ready", 30)
        yield stack


def test_a_worker_that_stands_still_is_suspect_and_comes_back_when_it_is_steady(own_stack: RunningStack) -> None:
    stack = own_stack
    with Client(stack) as client:
        with standing_still(stack, "shard-local"):
            wait_for(lambda: state(stack) == "suspect", 40)
            job = client.submit(JOB)
        assert wait_for(lambda: state(stack) == "ready", 40) > 9
        assert client.wait_end(job)["status"] == "completed"
        wait_for(lambda: "Shard local is suspect" in stack.output(), 30)


def test_a_web_process_that_stands_still_makes_no_shard_suspect(own_stack: RunningStack) -> None:
    stack = own_stack
    before = rows(stack, "SELECT count(*) FROM shards_statechange")
    with standing_still(stack, "web"):
        time.sleep(25)
    time.sleep(20)
    assert state(stack) == "ready"
    assert rows(stack, "SELECT count(*) FROM shards_statechange") == before
    with Client(stack) as client:
        assert client.run(JOB)["status"] == "completed"
