"""The thin edge to Celery: what the control plane says to shards and to itself."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from typing import Any, cast

import structlog
from django.conf import settings
from kombu import Connection, Exchange, Queue
from kombu.exceptions import BatchPublishError, OperationalError  # type: ignore[attr-defined]  # newer than its stubs
from kombu.utils import uuid
from redis import Redis, RedisError

from jobs.dispatch.round_metrics import RoundClock
from myctobot.celery import app
from myctobot.contract.jobs import EXECUTE_TASK

log = structlog.get_logger(__name__)

# With the anonymous exchange a message goes straight to the queue named: shards need no right to read bindings.
_ANONYMOUS = Exchange("", type="direct")
# Sending must not hold up a request: what is not sent is found by the next round.
_RETRY: dict[str, Any] = {"max_retries": 2, "interval_start": 0.1, "interval_step": 0.2, "interval_max": 0.5}
_POOL_WAIT_S = 5
_PERSISTENT = 2
# Set while a round is wanted and has not begun. A control worker that dies meanwhile costs this long at most.
_ROUND_WANTED = "myctobot:round-wanted"
_ROUND_WANTED_MS = 1000
# Asking costs more than the bit of waiting that a burst has of it: rounds pause longer between each other.
_ROUNDS_APART_S = 0.05


def _to(name: str) -> dict[str, Any]:
    # Celery takes a Queue here too; its stubs know of names alone.
    return {"queue": Queue(name, exchange=_ANONYMOUS, routing_key=name, no_declare=True)}


def send_all(messages: Sequence[tuple[str, int, str]]) -> None:
    """Send ``execute(job_id, attempt)`` to each queue. It carries nothing else: no payload and no secret.

    What cannot be sent is logged; its attempt is withdrawn at the claim deadline and the job sent anew.

    Args:
        messages: job id, attempt and queue of each.
    """
    if not messages:
        return
    try:
        with app.producer_pool.acquire(block=True, timeout=_POOL_WAIT_S) as producer:
            connection = cast(Connection, producer.connection)
            # What ``ensure`` does for a connection that broke, for one that was never there.
            connection.ensure_connection(**_RETRY)
            connection.ensure(producer, _send_batch, **_RETRY)(producer, messages)
    except OperationalError as error:
        log.warning("broker.unreachable", wanted="execute", jobs=[message[0] for message in messages], error=str(error))


def _send_batch(producer: Any, messages: Sequence[tuple[str, int, str]]) -> None:
    """Send all at once. Tried again after a failure, some may be sent twice, which is harmless: a number is taken once.

    ``send_task`` makes more of each message than a round of hundreds has time for; the message is the same.
    """
    try:
        with producer.batch():
            for job_id, attempt, queue in messages:
                args = [job_id, attempt]
                as_always: dict[str, Any] = {"argsrepr": str(args), "kwargsrepr": "{}", "ignore_result": None}
                task = app.amqp.as_task_v2(uuid(), EXECUTE_TASK, args=args, **as_always)  # type: ignore[arg-type]  # takes lists
                options = {"headers": task.headers, "serializer": "json", **task.properties}
                producer.publish(task.body, exchange="", routing_key=queue, delivery_mode=_PERSISTENT, **options)
    except BatchPublishError as error:
        # What it hides says whether another try is worth it.
        raise (error.__cause__ or error) from None


class Bell:
    """Lets those who ask at almost the same time ring once; the first of them at once.

    Args:
        ring: what is asked for. All that was done before somebody asked is done before it is called.
        apart_s: seconds between two calls at least.
        clock: seconds that only grow.
    """

    def __init__(self, ring: Callable[[], None], apart_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._ring, self._apart_s, self._clock = ring, apart_s, clock
        self._lock = threading.Lock()
        self._rings_at = float("-inf")

    def ask(self) -> None:
        """Ring now, or soon in a thread of its own."""
        now = self._clock()
        with self._lock:
            if now < self._rings_at:
                return
            self._rings_at = max(now, self._rings_at + self._apart_s)
            wait_s = self._rings_at - now
        if wait_s <= 0:
            self._ring()
            return
        timer = threading.Timer(wait_s, self._ring)
        # A process that ends meanwhile leaves it to beat.
        timer.daemon = True
        timer.start()


def _request_round() -> None:
    try:
        if not _redis().set(_ROUND_WANTED, 1, nx=True, px=_ROUND_WANTED_MS):
            return
        app.send_task("jobs.dispatch_round", **_to("control"), retry=False)
    except (OperationalError, RedisError) as error:
        log.warning("broker.unreachable", wanted="dispatch round", error=str(error))


_bell = Bell(_request_round, _ROUNDS_APART_S)


def request_round() -> None:
    """Ask the control worker for a dispatch round now; beat asks each second anyway.

    A round sees all that was committed before it began. So many who ask at once need one round, and one message.
    """
    _bell.ask()


def request_delivery() -> None:
    """Ask the control worker to send callbacks now; beat asks each second anyway."""
    try:
        app.send_task("jobs.deliver_callbacks", **_to("control"), retry=False)
    except OperationalError as error:
        log.warning("broker.unreachable", wanted="delivery of callbacks", error=str(error))


def round_begins() -> None:
    """Whoever asks for a round from now on needs another one. Say so before the round looks at anything."""
    with suppress(RedisError):
        _redis().delete(_ROUND_WANTED)


def depths(queues: Sequence[str]) -> dict[str, int]:
    """How many messages wait in each queue; none when the broker cannot be reached."""
    try:
        with _redis().pipeline(transaction=False) as pipe:
            for name in queues:
                pipe.llen(name)
            return dict(zip(queues, pipe.execute(), strict=True))
    except RedisError as error:
        log.warning("broker.unreachable", wanted="queue depths", error=str(error))
        return {}


@cache
def _redis() -> Redis:
    # Short: with the broker away a round begins all the same.
    return Redis.from_url(settings.REDIS_URL, socket_timeout=2, socket_connect_timeout=2)


# How long rounds take, of all processes that make them.
round_clock = RoundClock(_redis)


def hint_cancel(job_id: str) -> None:
    """Tell shards at once that a cancel is wanted. The lease answer says it too; nothing depends on this."""
    try:
        app.control.broadcast(
            "cancel",
            arguments={"job_id": job_id},
            reply=False,
            # The control plane's own worker knows no such command.
            pattern="shard-*",
            matcher="glob",  # type: ignore[arg-type]  # the stubs are wrong: the name goes over the wire
        )
    except OperationalError as error:
        log.warning("broker.unreachable", wanted="cancel hint", job=job_id, error=str(error))
