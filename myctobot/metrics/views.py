"""``GET /metrics``: all that Prometheus is told, read anew at most every few seconds."""

from __future__ import annotations

import time
from collections.abc import Iterator

from django.conf import settings
from django.db import connection, transaction
from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe
from prometheus_client.core import Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector, CollectorRegistry

from jobs import metrics as of_jobs
from myctobot.lib.prometheus import number
from myctobot.lib.ttl_cache import Remembered
from myctobot.metrics import processes
from myctobot.metrics.access import comes_from, has_token
from myctobot.tenants.authentication import token_in
from shards.metrics.collector import collector as of_shards

# However many ask, and however often: the database is asked once in this time by each web process.
REMEMBERED_S = 5.0
_REFUSAL = (
    "Metrics are for those whom METRICS_TOKEN or METRICS_NETWORKS lets in, and for operators who are logged in.\n"
)


class _Everything(Collector):
    """What all layers say, as of one moment."""

    def collect(self) -> Iterator[Metric]:
        began = time.monotonic()
        yield from of_shards.collect()
        yield from of_jobs.collect()
        yield from processes.collect()
        took_s = time.monotonic() - began
        yield number("scrape_duration_seconds", "How long it took to read all this.", took_s)


def _read() -> bytes:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Everything())
    with transaction.atomic():
        with connection.cursor() as cursor:
            # A database that is busy has better things to do than to be measured.
            cursor.execute("SET LOCAL statement_timeout = '10s'")
        return generate_latest(registry)


exposition = Remembered(_read, REMEMBERED_S)


@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """Answer in Prometheus' text format, or 401."""
    if not may_read(request):
        refusal = HttpResponse(_REFUSAL, status=401, content_type="text/plain; charset=utf-8")
        refusal.headers["WWW-Authenticate"] = 'Bearer realm="MyCTOBot metrics"'
        return refusal
    return HttpResponse(
        exposition(), content_type=CONTENT_TYPE_PLAIN_0_0_4, headers={"Cache-Control": "private, no-store"}
    )


def may_read(request: HttpRequest) -> bool:
    """By the token, by where it comes from, or as an operator who looks."""
    sent = token_in(request.headers.get("Authorization", "").encode())
    if has_token(sent, settings.METRICS_TOKEN):
        return True
    was_forwarded = any(name in request.headers for name in ("Forwarded", "X-Forwarded-For", "X-Real-Ip"))
    if comes_from(request.META.get("REMOTE_ADDR"), settings.METRICS_NETWORKS, was_forwarded=was_forwarded):
        return True
    return request.user.is_authenticated and request.user.is_staff
