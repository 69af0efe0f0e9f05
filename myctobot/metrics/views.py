"""``GET /metrics``: metrics for Prometheus, read at most every few seconds."""

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
from myctobot.lib.ttl_cache import CachedValue
from myctobot.metrics import messages, processes
from myctobot.metrics.access import comes_from, has_token
from myctobot.tenants.authentication import token_in
from myctobot.web.process_caches import process_caches
from shards import permissions
from shards.metrics import collector as of_shards

# Each web process reads the database once in this time, however many scrapes come.
REMEMBERED_S = 5.0
_REFUSAL = (
    "Send METRICS_TOKEN as a bearer token, call from one of METRICS_NETWORKS, or log in as an operator with the "
    "permission shards.view_shard.\n"
)


class _Everything(Collector):
    """Collector of the metrics of all layers, as of one moment."""

    def collect(self) -> Iterator[Metric]:
        began = time.monotonic()
        yield from of_shards.collect()
        yield from of_jobs.collect()
        yield from processes.collect()
        yield from messages.collect()
        took_s = time.monotonic() - began
        yield number("scrape_duration_seconds", "Time to read all metrics.", took_s)


def read_exposition() -> bytes:
    """Read all metrics now, in Prometheus' text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Everything())
    with transaction.atomic():
        with connection.cursor() as cursor:
            # A busy database must not spend its time on metrics.
            cursor.execute("SET LOCAL statement_timeout = '10s'")
        return generate_latest(registry)


class CachedExposition(CachedValue[bytes]):
    """Metrics in Prometheus' text format, at most five seconds old."""

    def __init__(self) -> None:
        super().__init__(read_exposition, REMEMBERED_S)


@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """Return the metrics in Prometheus' text format, or 401."""
    if not may_read(request):
        refusal = HttpResponse(_REFUSAL, status=401, content_type="text/plain; charset=utf-8")
        refusal.headers["WWW-Authenticate"] = 'Bearer realm="MyCTOBot metrics"'
        return refusal
    text = process_caches(request).get(CachedExposition)()
    return HttpResponse(text, content_type=CONTENT_TYPE_PLAIN_0_0_4, headers={"Cache-Control": "private, no-store"})


def may_read(request: HttpRequest) -> bool:
    """Tell whether a request may read the metrics: by token, by network, or as an operator who may view shards."""
    sent = token_in(request.headers.get("Authorization", "").encode())
    if has_token(sent, settings.METRICS_TOKEN):
        return True
    was_forwarded = any(name in request.headers for name in ("Forwarded", "X-Forwarded-For", "X-Real-Ip"))
    if comes_from(request.META.get("REMOTE_ADDR"), settings.METRICS_NETWORKS, was_forwarded=was_forwarded):
        return True
    return permissions.VIEW_SHARD.is_held_by(request.user)
