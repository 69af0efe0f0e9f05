"""Server that uses Django Channels as its documentation describes: the peer of the fan-out benchmarks.

A consumer joins its group when it connects, and sends each event of the group as one message. The producer calls
``group_send`` once for each event. ``python -m tests.benchmarks.stock_channels LAYER FD`` serves it with uvicorn on
a socket that the caller opened. It imports nothing of the product.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
from typing import Any, Final

import uvicorn
from channels.generic.websocket import AsyncWebsocketConsumer
from django.conf import settings

LAYERS: Final = {
    "RedisChannelLayer": "channels_redis.core.RedisChannelLayer",
    "RedisPubSubChannelLayer": "channels_redis.pubsub.RedisPubSubChannelLayer",
}
REDIS_VARIABLE = "BENCHMARK_REDIS_URL"
PREFIX = "stock-channels"


class Consumer(AsyncWebsocketConsumer):
    """Connection of one viewer."""

    async def connect(self) -> None:
        # The path of the URL names the group.
        self.group = self.scope["path"].strip("/")
        await self.channel_layer.group_add(self.group, self.channel_name)
        await self.accept()

    async def disconnect(self, code: int) -> None:
        await self.channel_layer.group_discard(self.group, self.channel_name)

    async def job_event(self, message: dict[str, Any]) -> None:
        """Send a message of the type ``job.event`` to the viewer."""
        await self.send(text_data=json.dumps(message["event"]))


def configure(layer: str, redis_url: str) -> None:
    """Configure Django with one channel layer and nothing else."""
    config = {"hosts": [redis_url], "prefix": PREFIX}
    settings.configure(CHANNEL_LAYERS={"default": {"BACKEND": LAYERS[layer], "CONFIG": config}}, USE_TZ=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="stock_channels")
    parser.add_argument("layer", choices=LAYERS)
    parser.add_argument("fd", type=int)
    options = parser.parse_args()
    configure(options.layer, os.environ[REDIS_VARIABLE])
    config = uvicorn.Config(Consumer.as_asgi(), log_level="error", access_log=False, lifespan="off")
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=options.fd)])


if __name__ == "__main__":
    main()
