"""kombu's Redis transport and Celery's events, made to need no more of the broker than a shard's user may do.

Stock kombu keeps the bindings of its exchanges in keys that all its clients write, and taken messages in keys that all
of them restore from; who may do that may read and forge the messages of others. A shard needs none of it:

- it takes from its own queues, by name (BRPOP), and gives nothing back;
- it hears control commands and says events, by PUBLISH and PSUBSCRIBE, which need no bindings;
- it answers a command into the asker's own reply queue, whose name follows from the command (LPUSH).

What the broker's user may do (``shards/broker_access/rules.py``) fits this file, and changes with it.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from queue import Empty
from typing import Any

from celery.app.events import Events
from celery.events.dispatcher import EventDispatcher
from kombu.transport import TRANSPORT_ALIASES
from kombu.transport import redis as stock
from redis.exceptions import NoPermissionError

log = logging.getLogger(__name__)

# Events are for who watches: those of a long outage are dropped, the oldest first.
_MAX_EVENTS_KEPT = 500


class Channel(stock.Channel):
    """A channel without bindings and without the keys of unacknowledged messages."""

    # With it kombu keeps every taken message in keys of the broker until it is acknowledged.
    ack_emulation = False
    # The base class's; its stubs know them not.
    _fanout_queues: dict[str, tuple[str, str]]
    _in_poll: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # Before the rest, which may close the channel at once.
        self._cancelled: list[str] = []
        self._is_refused = False
        super().__init__(*args, **kwargs)

    # --- Bindings --------------------------------------------------------------------------------------

    def _queue_bind(self, exchange: str, routing_key: str, pattern: str, queue: str) -> None:
        """Remember which channel to subscribe to; nobody looks for a binding where all is broadcast."""
        self._fanout_queues[queue] = (exchange, "")

    def _lookup(self, exchange: str, routing_key: str, default: str | None = None) -> list[str]:
        """An answer's queue is called by its key and its exchange (``kombu.pidbox.Mailbox``)."""
        return [f"{routing_key}.{exchange}" if exchange else routing_key]

    def _delete(self, queue: str, *args: Any, **kwargs: Any) -> None:
        self.auto_delete_queues.discard(queue)

    def _size(self, queue: str) -> int:
        return 0

    def maybe_refresh_binding_expiry(self) -> None:
        """There is nothing to refresh."""

    # --- What the broker refuses -----------------------------------------------------------------------

    def _brpop_read(self, **options: Any) -> Any:
        """A shard's queues may change before its worker hears of it, and a broker may lose its users for a while."""
        was_refused, self._is_refused = self._is_refused, False
        try:
            return super()._brpop_read(**options)  # type: ignore[misc]  # the stubs lack it
        except NoPermissionError as error:
            self._is_refused = True
            if not was_refused:
                log.warning("the broker refuses this shard its queues: %s", error)
            # As long as an answer takes that says that there is no message.
            time.sleep(self.brpop_timeout)
            raise Empty from None

    def _receive(self) -> Any:
        try:
            return super()._receive()  # type: ignore[misc]  # the stubs lack it
        except NoPermissionError as error:
            # It works on all the same: nothing depends on control commands.
            log.warning("the broker does not let this shard hear control commands: %s", error)
            raise Empty from None

    # --- Messages that were taken ----------------------------------------------------------------------

    def _restore(self, message: Any, leftmost: bool = False) -> None:
        """Not given back: the control plane sends anew what nobody claims."""
        log.info("a message was taken and is not worked on; the control plane sends it anew")

    def basic_consume(self, queue: str, *args: Any, **kwargs: Any) -> Any:
        """Consume; a cancel of the same queue that is still due comes first, it would end this one too."""
        self._cancel_due()
        return super().basic_consume(queue, *args, **kwargs)

    def basic_cancel(self, consumer_tag: str) -> Any:
        """Cancel once the BRPOP on its way is answered: it may bring a message of this queue, which is worked on."""
        if self._in_poll and self._tag_to_queue.get(consumer_tag) not in self.active_fanout_queues:
            self._cancelled.append(consumer_tag)
            return None
        return super().basic_cancel(consumer_tag)

    def _brpop_start(self, timeout: float | None = None) -> Any:
        self._cancel_due()
        return super()._brpop_start(timeout)  # type: ignore[misc]  # the stubs lack it

    def _cancel_due(self) -> None:
        due, self._cancelled = self._cancelled, []
        for consumer_tag in due:
            super().basic_cancel(consumer_tag)


class Transport(stock.Transport):
    """Stock, with such channels."""

    Channel = Channel


class ShardEventDispatcher(EventDispatcher):
    """Never waits for the broker. Stock tries for as long as it is away, and the worker's loop would stand still."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._outbound_buffer: deque[Any] = deque(maxlen=_MAX_EVENTS_KEPT)

    def send(self, type: str, *args: Any, **kwargs: Any) -> Any:
        """Send once; what fails goes along with what is sent after the next connection."""
        return super().send(type, *args, **{**kwargs, "retry": False})


class ShardEvents(Events):
    """Celery's events, with that dispatcher."""

    dispatcher_cls = "workers.worker.redis_transport:ShardEventDispatcher"


def use_for_redis() -> None:
    """Make this the transport of ``redis://`` and ``rediss://`` in this process."""
    TRANSPORT_ALIASES.update(dict.fromkeys(("redis", "rediss"), "workers.worker.redis_transport:Transport"))
