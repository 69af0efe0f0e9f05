"""Celery application that stores results in PostgreSQL with django-celery-results: peer of ``lifecycle_throughput``.

A tracked task stores as much as one of our jobs: its start, two reports of progress, and its result.
"""

from __future__ import annotations

import os

import django
import environ
from celery import Celery, Task
from django.conf import settings

from tests.benchmarks.bare_app import BROKER_VARIABLE, DATABASE_VARIABLE, TRACKED_VARIABLE

TASK = "benchmark.life"
QUEUE = "benchmark.durable"

if not settings.configured:
    database = {**environ.Env.db_url_config(os.environ[DATABASE_VARIABLE]), "CONN_MAX_AGE": None}
    settings.configure(DATABASES={"default": database}, INSTALLED_APPS=["django_celery_results"], USE_TZ=True)
    django.setup(set_prefix=False)

app = Celery("durable", set_as_current=False)
app.conf.update(
    broker_url=os.environ.get(BROKER_VARIABLE),
    result_backend="django-db",
    task_default_queue=QUEUE,
    task_track_started=bool(os.environ.get(TRACKED_VARIABLE)),
    broker_connection_retry_on_startup=True,
)


@app.task(name=TASK, bind=True)
def life(self: Task[..., dict[str, str]], batch: list[str]) -> dict[str, str]:
    """Report progress twice if the worker tracks tasks, and return the result.

    Args:
        batch: the lines of each report.
    """
    if app.conf.task_track_started:
        for _ in range(2):
            self.update_state(state="PROGRESS", meta={"lines": batch})
    return {"summary": "Done."}
