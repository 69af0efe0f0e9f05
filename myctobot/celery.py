"""Celery application of the control plane; a shard runs ``workers.worker.app``."""

from __future__ import annotations

import os
from typing import Any

from celery import Celery, Task
from celery.signals import setup_logging, worker_init
from django.conf import settings

from myctobot.broker_transport import use_for_redis
from myctobot.lib.postgres.limits import limit_statements

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "myctobot.settings")


class ControlTask(Task):  # type: ignore[type-arg]  # it has no type arguments at run time
    """Task of the control plane."""

    # A name instead of the class, because only workers import Celery's worker.
    Request = "myctobot.scheduled_request:ScheduledRequest"


use_for_redis()
app: Celery[Any] = Celery("myctobot", task_cls=ControlTask)
app.conf.update(settings.CELERY)
app.autodiscover_tasks()


@setup_logging.connect(weak=False)
def keep_our_logging(**_: Any) -> None:
    """Keep the logging of Django's settings, because Celery configures its own if no receiver is connected."""


@worker_init.connect(weak=False)
def limit_statements_of_tasks(**_: Any) -> None:
    """Limit the statements of a worker of the control plane; its few threads would otherwise wait for a hanging one."""
    limit_statements(settings.WORKER_STATEMENT_TIMEOUT_S)
