"""The shard API in a process of its own, which no request of a tenant can delay."""

from __future__ import annotations

import os
from typing import Any

import django
from django.conf import settings

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "myctobot.settings")
django.setup(set_prefix=False)

# These modules need the apps.
from jobs.shard_api.limited import limited_shard_api  # noqa: E402  # see above
from myctobot.lib.postgres.limits import limit_statements  # noqa: E402  # see above
from myctobot.metrics.processes import process_reporter  # noqa: E402  # see above
from myctobot.urls import BODY_LIMITS  # noqa: E402  # see above
from myctobot.web.body_limiter import BodyLimiter  # noqa: E402  # see above
from myctobot.web.call_limiter import CallLimiter  # noqa: E402  # see above
from myctobot.web.error_pages import refused_call  # noqa: E402  # see above
from myctobot.web.health import LatestHealth, with_health_check  # noqa: E402  # see above
from myctobot.web.process_caches import ProcessCaches  # noqa: E402  # see above
from myctobot.web.response import RawResponse, read_body  # noqa: E402  # see above

limit_statements(settings.STATEMENT_TIMEOUT_S)
_NOTHING_HERE = RawResponse(404, [(b"content-type", b"text/plain")], b"This process serves the shard API only.\n")
_process = process_reporter()


def make_application(caches: ProcessCaches) -> BodyLimiter:
    """Assemble the application.

    Args:
        caches: shared by all requests of this application.
    """
    limits, behind_proxy = settings.CALL_LIMITS, settings.BEHIND_PROXY
    shard_api = limited_shard_api(caches, limits, refused_call, behind_proxy=behind_proxy)

    async def others(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 4404, "reason": "There is no such address."})
        elif await read_body(receive) is not None:
            await _NOTHING_HERE.send(send)

    limited = CallLimiter(others, limits, refused_call, behind_proxy=behind_proxy)

    async def routed(scope: Any, receive: Any, send: Any) -> None:
        _process.start()
        is_shard_call = scope["type"] == "http" and scope["path"].startswith("/shard/")
        await (shard_api if is_shard_call else limited)(scope, receive, send)

    answered = with_health_check(routed, caches.get(LatestHealth))
    return BodyLimiter(answered, BODY_LIMITS, settings.REQUEST_BODY_TIMEOUT_S, refused_call)


application = make_application(ProcessCaches())
