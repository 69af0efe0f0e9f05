"""Parts of kombu's transport for Redis that hand on only well-formed messages; for shards and the control plane.

Each is a mixin, because the contract imports no library. A message is checked as it leaves the connection, before kombu
parses it: an exception there, or in what follows, would end the consumer and with it the worker.
"""

from __future__ import annotations

import logging
from typing import Any

from myctobot.contract.messages import DropReason, MessageFilter

log = logging.getLogger(__name__)


class CheckedChannel:
    """Mixin for a channel.

    Attributes:
        message_filter: the filter of this process.
    """

    message_filter: MessageFilter

    def _create_client(self, asynchronous: bool = False) -> Any:
        client = super()._create_client(asynchronous)  # type: ignore[misc]  # of kombu's channel
        client.set_response_callback("BRPOP", self._check_answer)
        return client

    def _check_answer(self, answer: Any, **_: Any) -> tuple[bytes, bytes] | None:
        """Return the answer to BRPOP, or None as for empty queues when the message is malformed."""
        if not answer:
            return None
        queue, data = answer
        return (queue, data) if self.message_filter.admits(queue.decode(errors="replace"), data) else None

    def _handle_message(self, client: Any, answer: Any) -> Any:
        """Return a message of publish and subscribe, without its data when it is malformed."""
        message = super()._handle_message(client, answer)  # type: ignore[misc]  # of kombu's channel
        if message["type"] in (b"message", b"pmessage") and not self.message_filter.admits(
            message["channel"].decode(errors="replace"), message["data"]
        ):
            message["data"] = None
        return message


class CheckedTransport:
    """Mixin for a transport.

    Attributes:
        message_filter: the filter of this process.
    """

    message_filter: MessageFilter
    # Attributes of kombu's transport.
    connection_errors: Any
    channels: Any

    def _deliver(self, message: Any, queue: str | None) -> None:
        """Deliver a message, and drop it when an error of our own or of Celery would end the consumer."""
        try:
            super()._deliver(message, queue)  # type: ignore[misc]  # of kombu's transport
        except self.connection_errors:
            # Celery opens the connection again.
            raise
        except Exception:  # the border between messages: one that cannot be processed must not stop the others
            log.exception("a message from %s cannot be processed", queue)
            self.message_filter.drop(DropReason.FAILED, str(queue))
            self._reject(message)

    def _reject(self, message: dict[str, Any]) -> None:
        """Take a message out of those that wait for an acknowledgement, because it would come again."""
        tag = message["properties"]["delivery_tag"]
        for channel in self.channels:
            if tag in channel.qos._delivered:
                channel.basic_reject(tag, requeue=False)
