"""Network guard: a shard reaches the shard API and no other part of the web process.

The pages, the REST API and the admin require a login or a key. A compromised shard must not even be able to try one, so
these parts do not exist for a call from a network of shards.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, Final

from asgiref.typing import ASGIReceiveCallable, ASGISendCallable

from myctobot.web.response import RawResponse

App = Callable[[Any, ASGIReceiveCallable, ASGISendCallable], Any]
# Most calls come from few addresses, and reading one costs more than all other work of the guard.
_KNOWN_ADDRESSES: Final = 1024
_ALLOWED_PATHS = ("/shard/", "/healthz")
_REFUSED = RawResponse(404, [(b"content-type", b"text/plain")], b"There is nothing here for shards.\n")


class NetworkGuard:
    """Refuse calls from shards, except those to the shard API.

    Args:
        networks: networks of shards, such as ``10.213.0.0/24``.
        own: addresses within them that belong to this machine, such as the bridge's.

    Raises:
        ValueError: a text is not a network or not an address.
    """

    def __init__(self, networks: Iterable[str], own: Iterable[str]) -> None:
        self._networks = [ipaddress.ip_network(network) for network in networks]
        self._own = {ipaddress.ip_address(address) for address in own}
        self._knows_shard = lru_cache(_KNOWN_ADDRESSES)(self.is_shard)

    def is_shard(self, address: str) -> bool:
        """Return true if an address belongs to a shard, or cannot be parsed."""
        if not self._networks:
            return False
        try:
            found = ipaddress.ip_address(address)
        except ValueError:
            return True
        plain = getattr(found, "ipv4_mapped", None) or found
        return plain not in self._own and any(plain in network for network in self._networks)

    def refuses(self, scope: Any) -> bool:
        """Return true if a call must be refused."""
        if scope["type"] not in ("http", "websocket"):
            return False
        if scope["type"] == "http" and scope["path"].startswith(_ALLOWED_PATHS):
            return False
        client = scope.get("client")
        return client is not None and self._knows_shard(client[0])

    def around(self, app: App) -> App:
        """Return an application that refuses such calls and passes the others on."""

        async def guarded(scope: Any, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
            if not self.refuses(scope):
                await app(scope, receive, send)
            elif scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 4403, "reason": "not for shards"})
            else:
                await _REFUSED.send(send)

        return guarded
