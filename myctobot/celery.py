"""Celery application of the control plane; a shard runs ``workers.worker.app``."""

from __future__ import annotations

import os
from typing import Any

from celery import Celery
from celery.signals import setup_logging
from django.conf import settings

from myctobot.broker_transport import use_for_redis

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "myctobot.settings")

use_for_redis()
app = Celery("myctobot")
app.conf.update(settings.CELERY)
app.autodiscover_tasks()


@setup_logging.connect(weak=False)
def keep_our_logging(**_: Any) -> None:
    """Keep the logging of Django's settings, because Celery configures its own if no receiver is connected."""
