"""The control plane's Celery application: dispatch rounds and upkeep. Shards run ``workers.worker.app``."""

from __future__ import annotations

import os
from typing import Any

from celery import Celery
from celery.signals import setup_logging
from django.conf import settings

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "myctobot.settings")

app = Celery("myctobot")
app.conf.update(settings.CELERY)
app.autodiscover_tasks()


@setup_logging.connect(weak=False)
def keep_our_logging(**_: Any) -> None:
    """Listening here is what stops Celery from replacing the logging that Django's settings made."""
