"""Interface to Celery: messages to shards and to the control plane's own workers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, cast

import structlog
from django.conf import settings
from kombu import Connection
from kombu.exceptions import BatchPublishError, OperationalError  # type: ignore[attr-defined]  # newer than its stubs
from kombu.utils import uuid
from redis import Redis, RedisError

from myctobot.celery import app
from myctobot.contract.runner import EXECUTE_TASK
from myctobot.messaging import broadcast_to_shards, send_to_control

log = structlog.get_logger(__name__)

# Few and short retries, because a request waits for them. The next round sends again what could not be sent.
_RETRY: dict[str, Any] = {"max_retries": 2, "interval_start": 0.1, "interval_step": 0.2, "interval_max": 0.5}
_POOL_WAIT_S = 5
_PERSISTENT = 2


def send_all(messages: Sequence[tuple[str, int, str]]) -> None:
    """Send ``execute(job_id, attempt)`` to each queue, without payload or secrets.

    Failures are logged. The attempt is withdrawn at the claim deadline, and the job is sent again.

    Args:
        messages: job id, attempt number and queue of each.
    """
    if not messages:
        return
    try:
        with app.producer_pool.acquire(block=True, timeout=_POOL_WAIT_S) as producer:
            connection = cast(Connection, producer.connection)
            # ``ensure`` reconnects a broken connection but does not open a new one.
            connection.ensure_connection(**_RETRY)
            connection.ensure(producer, _send_batch, **_RETRY)(producer, messages)
    except (OperationalError, RedisError) as error:
        log.warning("broker.unreachable", wanted="execute", jobs=[message[0] for message in messages], error=str(error))


def _send_batch(producer: Any, messages: Sequence[tuple[str, int, str]]) -> None:
    """Publish all messages in one batch.

    A retry may send a message twice, which is harmless because an attempt can be claimed only once. ``send_task``
    produces the same message but is too slow for a round with hundreds of messages.
    """
    try:
        with producer.batch():
            for job_id, attempt, queue in messages:
                args = [job_id, attempt]
                trace: dict[str, Any] = {"argsrepr": str(args), "kwargsrepr": "{}", "ignore_result": None}
                task = app.amqp.as_task_v2(uuid(), EXECUTE_TASK, args=args, **trace)  # type: ignore[arg-type]  # takes lists
                options = {"headers": task.headers, "serializer": "json", **task.properties}
                producer.publish(task.body, exchange="", routing_key=queue, delivery_mode=_PERSISTENT, **options)
    except BatchPublishError as error:
        # Raise the cause, because ``ensure`` decides by its type whether to retry.
        raise (error.__cause__ or error) from None


def request_delivery() -> None:
    """Ask the control worker to deliver callbacks now; beat also asks each second."""
    send_to_control("jobs.deliver_callbacks")


def depths(queues: Sequence[str]) -> dict[str, int]:
    """Return the number of messages in each queue; empty when the broker cannot be reached."""
    try:
        with redis_client().pipeline(transaction=False) as pipe:
            for name in queues:
                pipe.llen(name)
            return dict(zip(queues, pipe.execute(), strict=True))
    except RedisError as error:
        log.warning("broker.unreachable", wanted="queue depths", error=str(error))
        return {}


@cache
def redis_client() -> Redis:
    # Short timeouts, so that a round starts even when the broker is away.
    return Redis.from_url(settings.REDIS_URL, socket_timeout=2, socket_connect_timeout=2)


def notify_cancel(job_id: str) -> None:
    """Notify shards of a cancel request at once. The lease answer carries it too, so a lost message only costs time."""
    broadcast_to_shards("cancel", {"job_id": job_id})
