"""Messages to the workers of the control plane and of shards.

A lost message causes only a delay: PostgreSQL has the state, and beat repeats the request.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import structlog
from kombu import Exchange, Queue
from kombu.exceptions import OperationalError
from redis import RedisError

if TYPE_CHECKING:
    from celery import Celery

log = structlog.get_logger(__name__)

# Queue of the control worker. Operations on shards have a separate worker.
CONTROL_QUEUE: Final = "control"


def direct_queue(name: str) -> Queue:
    """Return a queue that messages reach by its name through the anonymous exchange.

    A named exchange keeps its bindings in Redis, and every shard would need access to those keys.
    """
    return Queue(name, exchange=Exchange("", type="direct"), routing_key=name, no_declare=True)


def send_to_control(task: str, *args: Any, queue: str = CONTROL_QUEUE) -> None:
    """Start a task on a worker of the control plane. If the broker is unreachable, beat starts the task later.

    Args:
        task: the registered name of the task.
        args: the arguments of the task, as JSON values.
        queue: the queue of the worker.
    """
    try:
        _app().send_task(task, args=args, queue=direct_queue(queue), retry=False)  # type: ignore[arg-type]  # kombu accepts a Queue
    except (OperationalError, RedisError, OSError) as error:
        log.warning("broker.unreachable", wanted=task, arguments=args, error=str(error))


def broadcast_to_shards(command: str, arguments: Mapping[str, Any] | None = None, *, pattern: str = "shard-*") -> None:
    """Send a remote-control command to the workers of shards, without waiting for an answer.

    Args:
        command: the registered name of the command.
        arguments: the arguments of the command, as JSON values.
        pattern: pattern of the workers' names; the workers of the control plane do not have these commands.
    """
    try:
        _app().control.broadcast(
            command,
            arguments=dict(arguments) if arguments else None,
            reply=False,
            pattern=pattern,
            matcher="glob",  # type: ignore[arg-type]  # the stubs are wrong: the message contains the name
        )
    except (OperationalError, RedisError, OSError) as error:
        log.warning("broker.unreachable", wanted=command, pattern=pattern, error=str(error))


def broadcast_to_shard(shard: str, command: str) -> None:
    """Send a remote-control command to the worker of one shard, without waiting for an answer."""
    broadcast_to_shards(command, pattern=worker_pattern(shard))


def worker_pattern(shard: str) -> str:
    """Return the pattern of a shard's worker name, which ends with the name of an unknown host."""
    return f"shard-{shard}@*"


def _app() -> Celery:
    # Import here, because the settings import this module before the application exists.
    from myctobot.celery import app

    return app
