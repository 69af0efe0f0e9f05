"""Rate of whole jobs through the control plane, compared with Celery with durable results."""

from __future__ import annotations

import asyncio
import os
import re
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import environ
import psycopg
import uvloop

from myctobot.stack.postgres import EmbeddedPostgres
from tests.benchmarks.bare_app import BROKER_VARIABLE, DATABASE_VARIABLE, TRACKED_VARIABLE
from tests.benchmarks.lives import BATCHES, LINES, Lives
from tests.benchmarks.load import measured
from tests.benchmarks.peers import CHECKOUT, broker_url, peer
from tests.benchmarks.result import Result
from tests.benchmarks.streams import streaming_stack
from tests.fixtures.simulated_shard import Identity, register
from tests.stacks import RunningStack

SHARDS, SLOTS = 16, 32
# Twice as many jobs as slots are open, so that no slot waits for a submission or a dispatch round.
#
# The peer has all of its tasks in the broker at once.
AT_ONCE = 1_000
# One process serves the REST API and one serves shards. The peer's smallest pool has as many processes.
_OPTIONS_OF_UP = ("--shard-api-port", "0")
WARM_UP = 200
JOBS = 2_000
ROUNDS = 5
_WANTED = [(f"simulated-{number}", ["simulated"]) for number in range(1, SHARDS + 1)]
PEER_DATABASE = "benchmark_peer"
# Celery's default is one process for each core; twice as many is the other candidate.
_POOLS = {"prefork, 2": ("--pool=prefork", "-c", "2"), "prefork, 4": ("--pool=prefork", "-c", "4")}
_APP = "tests.benchmarks.durable_app"
_OPTIONS = ("--loglevel=INFO", "--without-gossip", "--without-mingle", "--without-heartbeat")


def measure() -> Result:
    """Run jobs on simulated shards, then as many Celery tasks on the same broker and database, several times.

    A round measures both within two minutes, because the speed of a shared machine varies. The round with the middle
    ratio counts.
    """
    ours: list[dict[str, Any]] = []
    tracked: list[dict[str, float]] = []
    with streaming_stack(*_OPTIONS_OF_UP) as client, _peer(client.stack) as environment:
        identities = register(client.stack, *_WANTED, slots=SLOTS)
        for _ in range(ROUNDS):
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                ours.append(runner.run(_ours(client.stack, identities)))
            tracked.append(_measure_pools({**environment, TRACKED_VARIABLE: "yes"}))
        plain = _measure_pools(environment)
    best = max(_POOLS, key=lambda pool: statistics.median(found[pool] for found in tracked))
    ratios = [round(found["lives_per_s"] / peer[best], 2) for found, peer in zip(ours, tracked, strict=True)]
    at = ratios.index(statistics.median_low(ratios))
    middle, target = ours[at], tracked[at][best]
    return Result(
        "lifecycle_throughput",
        middle["lives_per_s"],
        "1/s",
        target,
        target,
        {
            "processes": "web and shardapi",
            "unit": f"submit, dispatch, claim, {BATCHES} batches of {LINES} events, finish",
            "at_once": AT_ONCE,
            "slots": SHARDS * SLOTS,
            **{name: value for name, value in middle.items() if name != "lives_per_s"},
            "all_rounds": [found["lives_per_s"] for found in ours],
            "all_ratios": ratios,
            "peer": "Celery, django-celery-results: started, two updates of progress, result; the better of its pools",
            "peer_by_pool": tracked,
            "peer_result_alone_by_pool": plain,
        },
        more_is_better=True,
    )


async def _ours(stack: RunningStack, identities: Sequence[Identity]) -> dict[str, Any]:
    async with Lives(stack, identities) as lives:
        await lives.live(WARM_UP, AT_ONCE)
        async with measured(stack) as load:
            took = await lives.live(JOBS, AT_ONCE)
    shares = statistics.quantiles(took, n=100)
    return {
        "lives_per_s": round(JOBS / load.seconds, 1),
        "life_ms_p50": round(shares[49] * 1000),
        "life_ms_p99": round(shares[98] * 1000),
        **load.as_dict(),
    }


@contextmanager
def _peer(stack: RunningStack) -> Iterator[dict[str, str]]:
    """Create a database for the peer and yield the peer's environment."""
    with _database(stack) as url:
        environment = {DATABASE_VARIABLE: url, BROKER_VARIABLE: broker_url(stack)}
        _run(environment, "from django.core.management import call_command; call_command('migrate', verbosity=0)")
        yield environment


def _measure_pools(environment: dict[str, str]) -> dict[str, float]:
    """Return the tasks a second of each pool."""
    return {name: _measure_pool(environment, pool) for name, pool in _POOLS.items()}


@contextmanager
def _database(stack: RunningStack) -> Iterator[str]:
    """Create a database for the peer on the product's server, and yield its URL."""
    url = EmbeddedPostgres(stack.home).url
    ours = environ.Env.db_url_config(url)
    names = {"host": "HOST", "port": "PORT", "user": "USER", "password": "PASSWORD", "dbname": "NAME"}
    where = {name: ours[key] for name, key in names.items() if ours[key]} | ours.get("OPTIONS", {})
    with psycopg.connect(**where, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {PEER_DATABASE}")
    # Only the name is replaced, because options such as the socket's folder follow it.
    yield re.sub(rf"/{re.escape(ours['NAME'])}(?=\?|$)", f"/{PEER_DATABASE}", url)


def _measure_pool(environment: dict[str, str], pool: tuple[str, ...]) -> float:
    with peer(("-m", "celery", "-A", _APP, "worker", *pool, *_OPTIONS), environment):
        for tasks in (WARM_UP, JOBS):
            seconds = _run(environment, _RUN_TASKS.format(tasks=tasks))
    return round(JOBS / float(seconds), 1)


_RUN_TASKS = """
import time
from django_celery_results.models import TaskResult
TaskResult.objects.all().delete()
batch = [f"line {{number}} ".ljust(100, ".") for number in range(5)]
began = time.perf_counter()
for number in range({tasks}):
    durable_app.life.delay(batch)
while TaskResult.objects.filter(status="SUCCESS").count() < {tasks}:
    time.sleep(0.05)
print(time.perf_counter() - began)
"""


def _run(environment: dict[str, str], code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", f"from tests.benchmarks import durable_app\n{code}"],
        cwd=CHECKOUT,
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
