"""What shards may call of the web process: the shard API, and nothing else.

The pages, the REST API and the admin ask for a login or a key anyway. But whoever takes a shard over should not even be
able to try there: to a call from a shards' network they do not exist.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable
from typing import Any

from asgiref.typing import ASGIReceiveCallable, ASGISendCallable

from myctobot.web.threads import Answer

App = Callable[[Any, ASGIReceiveCallable, ASGISendCallable], Any]
_OPEN = ("/shard/", "/healthz")
_REFUSED = Answer(404, [(b"content-type", b"text/plain")], b"There is nothing here for shards.\n")


class Border:
    """Tells whether an address is a shard's.

    Args:
        networks: such as ``10.213.0.0/24``.
        own: addresses within them that are this machine's, such as the bridge's.

    Raises:
        ValueError: something is no network or no address.
    """

    def __init__(self, networks: Iterable[str], own: Iterable[str]) -> None:
        self._networks = [ipaddress.ip_network(network) for network in networks]
        self._own = {ipaddress.ip_address(address) for address in own}

    def is_shard(self, address: str) -> bool:
        """Whether a call from there is one of a shard; an address that cannot be read is."""
        if not self._networks:
            return False
        try:
            found = ipaddress.ip_address(address)
        except ValueError:
            return True
        plain = getattr(found, "ipv4_mapped", None) or found
        return plain not in self._own and any(plain in network for network in self._networks)

    def refuses(self, scope: Any) -> bool:
        """Whether a call is to be refused."""
        if scope["type"] not in ("http", "websocket"):
            return False
        if scope["type"] == "http" and scope["path"].startswith(_OPEN):
            return False
        client = scope.get("client")
        return client is not None and self.is_shard(client[0])

    def around(self, app: App) -> App:
        """The application, as shards may see it."""

        async def guarded(scope: Any, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
            if not self.refuses(scope):
                await app(scope, receive, send)
            elif scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 4403, "reason": "not for shards"})
            else:
                await _REFUSED.send(send)

        return guarded
