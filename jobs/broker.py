"""The thin edge to Celery: what the control plane says to shards and to itself."""

from __future__ import annotations

from typing import Any

import structlog
from kombu import Exchange, Queue
from kombu.exceptions import OperationalError

from jobs.contract import EXECUTE_TASK
from myctobot.celery import app

log = structlog.get_logger(__name__)

# With the anonymous exchange a message goes straight to the queue named: shards need no right to read bindings.
_ANONYMOUS = Exchange("", type="direct")
# Sending must not hold up a request: what is not sent is found by the next round.
_RETRY = {"max_retries": 2, "interval_start": 0.1, "interval_step": 0.2, "interval_max": 0.5}


def _to(name: str) -> dict[str, Any]:
    # Celery takes a Queue here too; its stubs know of names alone.
    return {"queue": Queue(name, exchange=_ANONYMOUS, routing_key=name, no_declare=True)}


def send_execute(job_id: str, attempt: int, queue: str) -> None:
    """Send ``execute(job_id, attempt)``. It carries nothing else: no payload and no secret.

    A message that cannot be sent is logged; its attempt is withdrawn at the claim deadline and the job sent anew.
    """
    try:
        app.send_task(EXECUTE_TASK, args=[job_id, attempt], **_to(queue), retry=True, retry_policy=_RETRY)
    except OperationalError as error:
        log.warning("broker.unreachable", job=job_id, attempt=attempt, error=str(error))


def request_round() -> None:
    """Ask the control worker for a dispatch round now; beat asks each second anyway."""
    try:
        app.send_task("jobs.dispatch_round", **_to("control"), retry=False)
    except OperationalError as error:
        log.warning("broker.unreachable", wanted="dispatch round", error=str(error))


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
