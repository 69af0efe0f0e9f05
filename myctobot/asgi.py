"""The web process: pages, the REST API, the admin, the shard API and WebSockets."""

from __future__ import annotations

import os
from typing import Any

import django
from channels.routing import ProtocolTypeRouter, URLRouter
from django.conf import settings
from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "myctobot.settings")
django.setup(set_prefix=False)

# These modules need the apps.
from jobs.shard_api.app import ShardApi  # noqa: E402  # see above
from jobs.streaming.urls import websocket_urlpatterns  # noqa: E402  # see above
from myctobot.metrics.processes import ProcessReporter  # noqa: E402  # see above
from myctobot.urls import BODY_LIMITS  # noqa: E402  # see above
from myctobot.web.body_limiter import BodyLimiter  # noqa: E402  # see above
from myctobot.web.error_pages import refused_body  # noqa: E402  # see above
from myctobot.web.fast_path import DjangoFastPath  # noqa: E402  # see above
from myctobot.web.network_guard import App, NetworkGuard  # noqa: E402  # see above
from myctobot.web.process_caches import SCOPE_KEY, ProcessCaches  # noqa: E402  # see above
from myctobot.web.threads import RequestThreads  # noqa: E402  # see above

_django = get_asgi_application()
# The two APIs have separate threads, so that requests of tenants never delay the renewal of a lease.
_api_threads, _shard_threads = RequestThreads(), RequestThreads()
_process = ProcessReporter()


def make_application(caches: ProcessCaches) -> App:
    """Assemble the application.

    Args:
        caches: shared by all requests of this application.
    """
    fast_path, shard_api = DjangoFastPath(_api_threads), ShardApi(_shard_threads, caches)

    async def http(scope: Any, receive: Any, send: Any) -> None:
        _process.start()
        path: str = scope["path"]
        handler: Any = _django
        if path.startswith("/shard/"):
            handler = shard_api
        elif scope["method"] == "POST" and path.startswith("/api/"):
            handler = fast_path
        await handler({**scope, SCOPE_KEY: caches}, receive, send)

    guard = NetworkGuard(settings.SHARD_NETWORKS, settings.SHARD_NETWORKS_EXCEPT)
    guarded = guard.around(ProtocolTypeRouter({"http": http, "websocket": URLRouter([*websocket_urlpatterns])}))
    return BodyLimiter(guarded, BODY_LIMITS, settings.REQUEST_BODY_TIMEOUT_S, refused_body)


application = make_application(ProcessCaches())
