"""Kombu's transport for Redis in the processes of the control plane: it drops malformed messages and counts them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import cache
from typing import Any, Final, cast, get_type_hints

import structlog
from celery import current_app
from django.conf import settings
from kombu.transport import TRANSPORT_ALIASES
from kombu.transport import redis as stock
from redis import Redis, RedisError

from myctobot.contract.checked_channel import CheckedChannel, CheckedTransport
from myctobot.contract.messages import DropReason, MessageFilter

log = structlog.get_logger(__name__)

# The counts are in the broker, because the web process reports the metrics of all processes.
_KEY: Final = "myctobot:dropped-messages"


def check_task(name: str, args: list[Any], kwargs: dict[str, Any]) -> DropReason | None:
    """Return the reason to drop a task: it is none of ours, or its arguments have other types than it declares."""
    # Celery's own tasks run any other task.
    task: Any = None if name.startswith("celery.") else current_app.tasks.get(name)
    if task is None:
        return DropReason.TASK
    try:
        bound = inspect.signature(task.run).bind(*args, **kwargs)
    except TypeError:
        return DropReason.ARGUMENTS
    wanted = get_type_hints(task.run)
    # Exactly the type, because True is an integer.
    fits = all(type(value) is wanted.get(parameter) for parameter, value in bound.arguments.items())
    return None if fits else DropReason.ARGUMENTS


def count_drop(reason: DropReason, source: str, size: int) -> None:
    """Log a dropped message and add it to the counts of the control plane."""
    log.warning("message.dropped", reason=str(reason), source=source[:100], bytes=size)
    try:
        _redis().hincrby(_KEY, str(reason), 1)
    except RedisError as error:
        log.debug("broker.unreachable", wanted="count of dropped messages", error=str(error))


def read_drops() -> dict[str, float]:
    """Return the number of dropped messages by reason, since the broker was emptied.

    Raises:
        RedisError: the broker cannot be reached.
    """
    found = cast(Mapping[bytes, bytes], _redis().hgetall(_KEY))
    return {str(reason): float(found.get(str(reason).encode(), 0)) for reason in DropReason}


@cache
def _redis() -> Redis:
    return Redis.from_url(settings.REDIS_URL, socket_timeout=2, socket_connect_timeout=2)


_FILTER: Final = MessageFilter(check_task, count_drop)


class ControlChannel(CheckedChannel, stock.Channel):
    """Standard channel without malformed messages."""

    message_filter = _FILTER


class ControlTransport(CheckedTransport, stock.Transport):
    """Standard transport with ``ControlChannel``."""

    message_filter = _FILTER
    # The name that kombu reads.
    Channel = ControlChannel


def use_for_redis() -> None:
    """Register this transport for ``redis://`` and ``rediss://`` in this process."""
    TRANSPORT_ALIASES.update(dict.fromkeys(("redis", "rediss"), "myctobot.broker_transport:ControlTransport"))
