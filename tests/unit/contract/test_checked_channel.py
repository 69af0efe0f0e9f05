"""Border between messages: an error while one is taken drops this one alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from myctobot.contract.checked_channel import CheckedTransport
from myctobot.contract.messages import DropReason, MessageFilter

MESSAGE = {"properties": {"delivery_tag": "t"}}


class Queued:
    """Channel with one message that waits for its acknowledgement."""

    def __init__(self) -> None:
        self.qos = self
        self._delivered = {"t": MESSAGE}

    def basic_reject(self, tag: str, *, requeue: bool) -> None:
        assert not requeue
        del self._delivered[tag]


class PlainTransport:
    """Transport of kombu with a consumer that may fail."""

    connection_errors: Any = (ConnectionError,)

    def __init__(self, consume: Callable[[], None]) -> None:
        self.channels = [Queued()]
        self._consume = consume

    def _deliver(self, message: Any, queue: str | None) -> None:
        self._consume()


class OwnTransport(CheckedTransport, PlainTransport):
    """Transport under test."""


def raising(error: BaseException) -> OwnTransport:
    def consume() -> None:
        raise error

    made = OwnTransport(consume)
    made.message_filter = MessageFilter(lambda *_: None, lambda *_: None)
    return made


@pytest.mark.parametrize("error", [KeyError("id"), RecursionError(), ValueError(), AttributeError()])
def test_an_error_drops_the_message(error: Exception) -> None:
    transport = raising(error)
    transport._deliver(MESSAGE, "q")
    assert transport.message_filter.dropped == {DropReason.FAILED: 1}
    assert transport.channels[0]._delivered == {}


@pytest.mark.parametrize("error", [ConnectionResetError(), SystemExit(0), KeyboardInterrupt()])
def test_a_broken_connection_and_the_end_of_the_worker_pass(error: BaseException) -> None:
    transport = raising(error)
    with pytest.raises(type(error)):
        transport._deliver(MESSAGE, "q")
    assert not transport.message_filter.dropped
