"""Celery worker that acknowledges late, so that its task survives a crash: the peer of ``failover_time``.

Its visibility timeout equals the time that our control plane waits for a silent runner; Celery's default is an hour.
With any timeout, Celery starts a task that takes longer a second time while the first still runs.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from celery import Celery

from myctobot.contract.limits import LOST_AFTER_S
from tests.benchmarks.bare_app import BROKER_VARIABLE

TASK = "benchmark.hold"
QUEUE = "benchmark.failover"

app = Celery("failover", set_as_current=False)
app.conf.update(
    broker_url=os.environ.get(BROKER_VARIABLE),
    task_ignore_result=True,
    task_acks_late=True,
    task_default_queue=QUEUE,
    worker_prefetch_multiplier=1,
    broker_connection_retry_on_startup=True,
    broker_transport_options={"visibility_timeout": LOST_AFTER_S},
)


@app.task(name=TASK)
def hold(folder: str) -> None:
    """Record the process and the start time in a file name, and run until ``<folder>.stop`` exists."""
    Path(folder, f"{os.getpid()}.{time.time():.3f}").touch()
    deadline = time.monotonic() + 4 * LOST_AFTER_S
    while not Path(f"{folder}.stop").exists() and time.monotonic() < deadline:
        time.sleep(0.2)
