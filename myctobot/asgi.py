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
from jobs.shard_api.limited import limited_shard_api  # noqa: E402  # see above
from jobs.streaming.urls import websocket_urlpatterns  # noqa: E402  # see above
from myctobot.lib.postgres.limits import limit_statements  # noqa: E402  # see above
from myctobot.metrics.processes import process_reporter  # noqa: E402  # see above
from myctobot.tenants.caller_directory import CallerDirectory  # noqa: E402  # see above
from myctobot.urls import BODY_LIMITS, STREAMS, has_method  # noqa: E402  # see above
from myctobot.web.body_limiter import BodyLimiter  # noqa: E402  # see above
from myctobot.web.call_limiter import CallLimiter  # noqa: E402  # see above
from myctobot.web.error_pages import refused_call  # noqa: E402  # see above
from myctobot.web.fast_path import DjangoFastPath  # noqa: E402  # see above
from myctobot.web.health import LatestHealth, with_health_check  # noqa: E402  # see above
from myctobot.web.network_guard import App, NetworkGuard  # noqa: E402  # see above
from myctobot.web.process_caches import SCOPE_KEY, ProcessCaches  # noqa: E402  # see above
from myctobot.web.threads import RequestThreads  # noqa: E402  # see above
from shards.monitoring.part_alerts import part_watch  # noqa: E402  # see above

limit_statements(settings.STATEMENT_TIMEOUT_S)
_django = get_asgi_application()
_api_threads = RequestThreads()
_process, _parts = process_reporter(), part_watch()


def make_application(caches: ProcessCaches) -> App:
    """Assemble the application.

    Args:
        caches: shared by all requests of this application.
    """
    fast_path = DjangoFastPath(_api_threads)
    limits, behind_proxy = settings.CALL_LIMITS, settings.BEHIND_PROXY
    # The shard API has its own threads and connections, so that requests of tenants never delay the renewal of a lease.
    shard_api = limited_shard_api(caches, limits, refused_call, behind_proxy=behind_proxy)

    async def http(scope: Any, receive: Any, send: Any) -> None:
        uses_fast_path = scope["method"] == "POST" and scope["path"].startswith("/api/")
        handler: Any = fast_path if uses_fast_path else _django
        await handler({**scope, SCOPE_KEY: caches}, receive, send)

    limited = CallLimiter(
        ProtocolTypeRouter({"http": http, "websocket": URLRouter([*websocket_urlpatterns])}),
        limits,
        refused_call,
        finder=CallerDirectory(limits),
        streams=STREAMS,
        behind_proxy=behind_proxy,
    )

    async def routed(scope: Any, receive: Any, send: Any) -> None:
        _process.start()
        _parts.start()
        is_shard_call = scope["type"] == "http" and scope["path"].startswith("/shard/")
        await (shard_api if is_shard_call else limited)(scope, receive, send)

    guard = NetworkGuard(settings.SHARD_NETWORKS, settings.SHARD_NETWORKS_EXCEPT)
    answered = with_health_check(guard.around(routed), caches.get(LatestHealth))
    return BodyLimiter(answered, BODY_LIMITS, settings.REQUEST_BODY_TIMEOUT_S, refused_call, has_method)


application = make_application(ProcessCaches())
