"""The web process: pages, the REST API, the admin, the shard API, and WebSockets."""

from __future__ import annotations

import os
from typing import Any

import django
from asgiref.typing import ASGIReceiveCallable, ASGISendCallable
from channels.routing import ProtocolTypeRouter, URLRouter
from django.core.asgi import get_asgi_application
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.exception import convert_exception_to_response

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "myctobot.settings")
django.setup(set_prefix=False)

# Needs the apps.
from jobs.streaming.urls import websocket_urlpatterns  # noqa: E402  # see above


class ShardApiHandler(ASGIHandler):
    """Django without middleware: sessions, CSRF and messages mean nothing to shards, and each is a way to a thread and
    back, which together cost more than storing a batch of events."""

    def load_middleware(self, is_async: bool = False) -> None:
        # As Django's own does for an empty list of middleware; the setting's is for the pages.
        this: Any = self
        this._view_middleware, this._template_response_middleware, this._exception_middleware = [], [], []
        this._middleware_chain = convert_exception_to_response(this._get_response_async)


_pages = get_asgi_application()
_shard_api = ShardApiHandler()


async def http(scope: Any, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
    """Hand a request to the shard API or to all else."""
    handler = _shard_api if scope["path"].startswith("/shard/") else _pages
    await handler(scope, receive, send)  # type: ignore[arg-type]  # both mean ASGI


application = ProtocolTypeRouter({"http": http, "websocket": URLRouter([*websocket_urlpatterns])})
