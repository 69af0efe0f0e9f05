"""Messages of the broker that the processes of the control plane dropped."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import Metric
from redis import RedisError

from myctobot.broker_transport import read_drops
from myctobot.lib.prometheus import counter


def collect() -> Iterator[Metric]:
    """Yield the metric family; none if the broker cannot be reached."""
    try:
        drops = read_drops()
    except RedisError:
        return
    text = "Malformed messages that processes of the control plane dropped."
    yield counter("messages_dropped", text, ["reason"], drops)
