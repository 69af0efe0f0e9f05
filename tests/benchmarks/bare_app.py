"""Celery worker without product code, with the pool and broker settings of a shard: the peer of two benchmarks.

``python -m tests.benchmarks.bare_app`` starts it without the ``celery`` command, as a shard starts its worker.
``celery -A tests.benchmarks.bare_app worker`` starts it in Celery's usual way.
"""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

from celery import Celery
from celery.apps.worker import Worker
from kombu import Exchange, Queue

QUEUE = "benchmark.bare"
BROKER_VARIABLE = "BENCHMARK_BROKER_URL"
# Only the peer that stores its results reads these two.
DATABASE_VARIABLE = "BENCHMARK_DATABASE_URL"
TRACKED_VARIABLE = "BENCHMARK_TRACKED"
SLOTS = 2
TASK = "benchmark.start"

app = Celery("bare", set_as_current=False)
app.conf.update(
    broker_url=os.environ.get(BROKER_VARIABLE),
    task_ignore_result=True,
    task_acks_late=False,
    accept_content=["json"],
    task_queues=[Queue(QUEUE, exchange=Exchange("", type="direct"), routing_key=QUEUE, no_declare=True)],
    task_default_queue=QUEUE,
    worker_disable_prefetch=True,
    worker_prefetch_multiplier=1,
    worker_cancel_long_running_tasks_on_connection_loss=False,
    broker_connection_retry_on_startup=True,
    broker_transport_options={
        "unacked_key": "unacked:bare",
        "unacked_index_key": "unacked_index:bare",
        "unacked_mutex_key": "unacked_mutex:bare",
        "priority_steps": [0],
        "socket_connect_timeout": 5,
        "socket_keepalive": True,
    },
)


@app.task(name=TASK)
def start(report: str) -> None:
    """Start a process and write its start time to a file, in seconds since 1970."""
    process = subprocess.Popen(["true"])
    started = time.time()
    draft = Path(f"{report}.draft")
    draft.write_text(str(started))
    draft.rename(report)
    process.wait(timeout=10)


def main() -> None:
    worker = Worker(
        app=app,
        pool_cls="threads",
        concurrency=SLOTS,
        loglevel="INFO",
        quiet=True,
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
    )
    worker.start()


if __name__ == "__main__":
    main()
