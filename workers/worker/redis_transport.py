"""Redis transport of kombu and events of Celery that need only the permissions of a shard's broker user.

Standard kombu stores the bindings of its exchanges in keys that all clients write, and taken messages in keys from
which all clients restore. A client with these permissions can read and forge the messages of others. A shard needs none
of this:

- it takes messages from its own queues by name (BRPOP) and restores none;
- it receives control commands and sends events by PSUBSCRIBE and PUBLISH, which need no bindings;
- it answers a command into the caller's reply queue, whose name follows from the command (LPUSH).

The permissions of the broker user (``shards/broker_access/acl_rules.py``) fit this file and change with it.

A message that is not an order to execute an attempt, or not a control command, is dropped and counted.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from queue import Empty
from typing import Any, Final

from celery.app.events import Events
from celery.events.dispatcher import EventDispatcher
from kombu.transport import TRANSPORT_ALIASES
from kombu.transport import redis as stock
from redis.exceptions import AuthenticationError, NoPermissionError

from myctobot.contract.checked_channel import CheckedChannel, CheckedTransport
from myctobot.contract.messages import DropReason, MessageFilter
from myctobot.contract.names import is_attempt
from myctobot.contract.runner import EXECUTE_TASK
from myctobot.contract.shards import BrokerProblem
from workers.worker.broker_refusals import REFUSALS

log = logging.getLogger(__name__)

# Events only serve monitors, so those of a long outage are dropped, the oldest first.
_MAX_EVENTS_KEPT = 500


def check_order(task: str, args: list[Any], kwargs: dict[str, Any]) -> DropReason | None:
    """Return the reason to drop a task that is not an order to execute an attempt of a job."""
    if task != EXECUTE_TASK:
        return DropReason.TASK
    return None if len(args) == 2 and not kwargs and is_attempt(*args) else DropReason.ARGUMENTS


def _log_drop(reason: DropReason, source: str, size: int) -> None:
    log.warning("dropped a message of %s bytes from %s: %s", size, source[:100], reason)


# Of this process; the heartbeat reports its counts.
MESSAGES: Final = MessageFilter(check_order, _log_drop)


class ShardChannel(CheckedChannel, stock.Channel):
    """Channel without bindings, without keys of unacknowledged messages and without malformed messages."""

    message_filter = MESSAGES
    # With this option, kombu keeps every taken message in keys of the broker until it is acknowledged.
    ack_emulation = False
    # Attributes of the base class that its stubs lack.
    _fanout_queues: dict[str, tuple[str, str]]
    _in_poll: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # Set these first, because the base class may close the channel at once.
        self._cancelled: list[str] = []
        try:
            # It pings the broker.
            super().__init__(*args, **kwargs)
        except AuthenticationError:
            REFUSALS.note(BrokerProblem.LOGIN)
            raise
        REFUSALS.end(BrokerProblem.LOGIN)

    # --- Bindings --------------------------------------------------------------------------------------

    def _queue_bind(self, exchange: str, routing_key: str, pattern: str, queue: str) -> None:
        """Record the channel to subscribe to; a broadcast needs no stored binding."""
        self._fanout_queues[queue] = (exchange, "")

    def _lookup(self, exchange: str, routing_key: str, default: str | None = None) -> list[str]:
        """Return the reply queue, which is named by its key and its exchange (``kombu.pidbox.Mailbox``)."""
        return [f"{routing_key}.{exchange}" if exchange else routing_key]

    def _delete(self, queue: str, *args: Any, **kwargs: Any) -> None:
        self.auto_delete_queues.discard(queue)

    def _size(self, queue: str) -> int:
        return 0

    def maybe_refresh_binding_expiry(self) -> None:
        """Do nothing, because there are no bindings."""

    # --- Refusals of the broker ------------------------------------------------------------------------

    def _brpop_read(self, **options: Any) -> Any:
        """Treat a refusal as an empty queue.

        A shard's queues may change before its worker knows, and a broker may lose its users for a while.
        """
        try:
            message = super()._brpop_read(**options)  # type: ignore[misc]  # the stubs lack it
        except Empty:
            REFUSALS.end(BrokerProblem.QUEUES)
            raise
        except NoPermissionError as error:
            if REFUSALS.note(BrokerProblem.QUEUES):
                log.warning("the broker does not allow this shard to read its queues: %s", error)
            # Wait as long as an empty queue would, to avoid a busy loop.
            time.sleep(self.brpop_timeout)
            raise Empty from None
        REFUSALS.end(BrokerProblem.QUEUES)
        return message

    def _receive(self) -> Any:
        try:
            return super()._receive()  # type: ignore[misc]  # the stubs lack it
        except NoPermissionError as error:
            # The worker continues, because no job depends on control commands.
            log.warning("the broker does not allow this shard to receive control commands: %s", error)
            raise Empty from None

    # --- Messages that were taken ----------------------------------------------------------------------

    def _restore(self, message: Any, leftmost: bool = False) -> None:
        """Drop the message, because the control plane sends unclaimed attempts again."""
        log.info("a message was taken but is not processed; the control plane will send it again")

    def basic_consume(self, queue: str, *args: Any, **kwargs: Any) -> Any:
        """Consume a queue after pending cancels, because a pending cancel of this queue would end it too."""
        self._apply_pending_cancels()
        return super().basic_consume(queue, *args, **kwargs)

    def basic_cancel(self, consumer_tag: str) -> Any:
        """Cancel after the running BRPOP is answered, because its message may be from this queue."""
        if self._in_poll and self._tag_to_queue.get(consumer_tag) not in self.active_fanout_queues:
            self._cancelled.append(consumer_tag)
            return None
        return super().basic_cancel(consumer_tag)

    def _brpop_start(self, timeout: float | None = None) -> Any:
        self._apply_pending_cancels()
        return super()._brpop_start(timeout)  # type: ignore[misc]  # the stubs lack it

    def _apply_pending_cancels(self) -> None:
        due, self._cancelled = self._cancelled, []
        for consumer_tag in due:
            super().basic_cancel(consumer_tag)


class Transport(CheckedTransport, stock.Transport):
    """Standard transport with ``ShardChannel``."""

    message_filter = MESSAGES
    # The name that kombu reads.
    Channel = ShardChannel


class ShardEventDispatcher(EventDispatcher):
    """Dispatcher that never waits for the broker; the standard one would retry and block the worker's loop."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._outbound_buffer: deque[Any] = deque(maxlen=_MAX_EVENTS_KEPT)

    def send(self, type: str, *args: Any, **kwargs: Any) -> Any:
        """Send once; a failed event is sent with the next ones after a reconnection."""
        return super().send(type, *args, **{**kwargs, "retry": False})


class ShardEvents(Events):
    """Celery's events with ``ShardEventDispatcher``."""

    dispatcher_cls = "workers.worker.redis_transport:ShardEventDispatcher"


def use_for_redis() -> None:
    """Register this transport for ``redis://`` and ``rediss://`` in this process."""
    TRANSPORT_ALIASES.update(dict.fromkeys(("redis", "rediss"), "workers.worker.redis_transport:Transport"))
