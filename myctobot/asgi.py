"""The web process: pages, the REST API, the admin, the shard API, and WebSockets."""

from __future__ import annotations

import os
from typing import Any

import django
from asgiref.typing import ASGIReceiveCallable, ASGISendCallable
from channels.routing import ProtocolTypeRouter, URLRouter
from django.conf import settings
from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "myctobot.settings")
django.setup(set_prefix=False)

# These need the apps.
from jobs.api.fast_submit import PATH, Submits  # noqa: E402  # see above
from jobs.shard_api.app import ShardApi  # noqa: E402  # see above
from jobs.streaming.urls import websocket_urlpatterns  # noqa: E402  # see above
from myctobot.metrics.processes import Teller  # noqa: E402  # see above
from myctobot.web.network_guard import Border  # noqa: E402  # see above
from myctobot.web.threads import ShortCalls, Threads  # noqa: E402  # see above

_pages = get_asgi_application()
# Each has threads of its own: whatever tenants ask for, a runner's lease is renewed in time.
_threads = Threads()
_short_calls = ShortCalls(_threads)
_submits = Submits(_threads, _short_calls)
_shard_api = ShardApi(Threads())
_process = Teller()


async def http(scope: Any, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
    """Hand a request to the shard API, to the part of the REST API that answers at once, or to all else."""
    _process.begin()
    path: str = scope["path"]
    handler: Any = _pages
    if path.startswith("/shard/"):
        handler = _shard_api
    elif scope["method"] == "POST" and path.startswith("/api/"):
        handler = _submits if path == PATH else _short_calls
    await handler(scope, receive, send)


_border = Border(settings.SHARD_NETWORKS, settings.SHARD_NETWORKS_EXCEPT)
application = _border.around(ProtocolTypeRouter({"http": http, "websocket": URLRouter([*websocket_urlpatterns])}))
