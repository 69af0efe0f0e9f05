"""Memory of an idle Celery worker of a shard."""

from __future__ import annotations

import time

from tests.acceptance.client import Client
from tests.benchmarks import peers
from tests.benchmarks.memory import memory_of
from tests.benchmarks.result import Result
from tests.benchmarks.shard import Shard, measured_stack

TARGET_MB = 64
JOBS = 10
SLOTS = 2
# A heartbeat is sent in this time, so the worker has done everything that an idle worker does.
_REST_S = 6


def measure() -> Result:
    """Measure the worker before and after some jobs, and the bare worker."""
    with measured_stack() as client:
        shard = Shard(client.stack)
        shard.wait_spare()
        time.sleep(_REST_S)
        before = memory_of(shard.worker)
        _run_jobs(client)
        shard.wait_spare()
        after = memory_of(shard.worker)
        with peers.bare_celery(client.stack) as bare:
            library = bare.memory_at_rest()
        with peers.bare_celery(client.stack, peers.COMMAND) as bare:
            command = bare.memory_at_rest()
    return Result(
        "worker_memory",
        before.rss,
        "MB",
        library.rss,
        TARGET_MB,
        {
            "at_rest": before.as_dict(),
            f"after_{JOBS}_jobs": after.as_dict(),
            "growth": round(after.rss - before.rss, 1),
            "peer": "a bare Celery worker: same pool, same broker settings, an application of one task",
            "peer_memory": library.as_dict(),
            "peer_by_celery_command": command.as_dict(),
        },
    )


def _run_jobs(client: Client) -> None:
    for _ in range(0, JOBS, SLOTS):
        started = [client.submit({"prompt": "THINK AND TALK"}) for _ in range(SLOTS)]
        for job_id in started:
            job = client.wait_end(job_id)
            if job["status"] != "completed":
                raise RuntimeError(f"a job did not complete: {job}")
