"""The peer of ``failover_time``: a Celery worker that acknowledges late, so that its task survives it.

Its visibility timeout is as long as our control plane waits for a silent runner. Celery's own default is an hour; and
whatever it is, a task that takes longer is started a second time beside the first.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from celery import Celery

from myctobot.contract.jobs import LOST_AFTER_S
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
    """Write down who runs it since when, and go on until ``<folder>.stop`` is there."""
    Path(folder, f"{os.getpid()}.{time.time():.3f}").touch()
    deadline = time.monotonic() + 4 * LOST_AFTER_S
    while not Path(f"{folder}.stop").exists() and time.monotonic() < deadline:
        time.sleep(0.2)
