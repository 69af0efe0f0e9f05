"""Tells viewers of a job that there is something new to read; the data itself they read from PostgreSQL."""

from __future__ import annotations

import structlog
from asgiref.sync import async_to_sync
from channels.layers import BaseChannelLayer, get_channel_layer
from django.core.exceptions import ImproperlyConfigured
from django.db import transaction
from redis.exceptions import RedisError

log = structlog.get_logger(__name__)


def group_name(job_id: str) -> str:
    """The Channels group of a job's viewers."""
    return f"job.{job_id}"


def channel_layer() -> BaseChannelLayer:
    """The layer of the settings, which always name one."""
    layer = get_channel_layer()
    if layer is None:
        raise ImproperlyConfigured("CHANNEL_LAYERS has no default layer")
    return layer


def announce(job_id: str) -> None:
    """After commit, wake the job's viewers. A hint that is lost costs them a second: they look by themselves."""
    transaction.on_commit(lambda: _send(job_id), robust=True)


def _send(job_id: str) -> None:
    layer = channel_layer()
    try:
        async_to_sync(layer.group_send)(group_name(job_id), {"type": "job.changed"})
    except (RedisError, OSError) as error:
        log.warning("stream.hint_failed", job=job_id, error=str(error))
