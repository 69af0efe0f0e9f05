"""Operators' pages with the live state of shards, queues and operations."""

from __future__ import annotations

from typing import Any

from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET, require_safe

from jobs.queue.class_status import ClassStatus, classes
from myctobot.dashboards.ops import queries
from myctobot.dashboards.ops.access import VIEW_JOB, operator_page
from myctobot.dashboards.ops.history import CachedCharts
from myctobot.dashboards.ops.listing import STATES, ShardFilters, pools, read_page
from myctobot.dashboards.pages import is_htmx
from myctobot.lib.clock import database_now
from myctobot.lib.failing_parts import failing_parts
from myctobot.lib.ttl_cache import CachedValue
from myctobot.web.process_caches import process_caches
from shards.models import Shard
from shards.permissions import VIEW_DECISION, VIEW_OPERATION, VIEW_SHARD

# Number of classes on the overview. A separate page lists all of them.
_MAX_CLASSES = 12
# Each value needs a query over all shards, so all who watch at the same time share it.
_SHARED_FOR_S = 2.0


class CachedClasses(CachedValue[list[ClassStatus]]):
    """Status of all shard classes."""

    def __init__(self) -> None:
        super().__init__(classes, _SHARED_FOR_S)


class CachedTotals(CachedValue[queries.Totals]):
    """Totals of shards, slots and jobs."""

    def __init__(self) -> None:
        super().__init__(queries.totals, _SHARED_FOR_S)


@require_GET
@operator_page(VIEW_SHARD)
def overview(request: HttpRequest) -> HttpResponse:
    """Show the overview; htmx requests only the parts that change."""
    filters = ShardFilters.read(request.GET)
    now = database_now()
    caches = process_caches(request)
    found = sorted(caches.get(CachedClasses)(), key=_by_demand)
    context: dict[str, Any] = {
        "filters": filters,
        "page": read_page(filters, request.GET, now),
        "totals": caches.get(CachedTotals)(),
        # None hides the section of a user who may not view these rows.
        "operations": queries.live_operations(now) if VIEW_OPERATION.is_held_by(request.user) else None,
        "decisions": (
            queries.decisions_before(None, queries.MAX_DECISIONS) if VIEW_DECISION.is_held_by(request.user) else None
        ),
        "classes": found[:_MAX_CLASSES],
        "more_classes": max(0, len(found) - _MAX_CLASSES),
        "charts": caches.get(CachedCharts)(),
        "failing_parts": [part for part in failing_parts() if part.until is None],
        "here": request.get_full_path(),
        "partial": is_htmx(request),
    }
    if is_htmx(request):
        return render(request, "dashboards/ops/_live.html", context)
    return render(request, "dashboards/ops/overview.html", {**context, "states": STATES, "pools": pools()})


def _by_demand(status: ClassStatus) -> tuple[Any, ...]:
    """Sort classes with waiting jobs first, then the busy ones."""
    return (-status.ready, -status.running, -status.slots, status.name)


@require_GET
@operator_page(VIEW_SHARD)
def queue_list(request: HttpRequest) -> HttpResponse:
    """Show a page of shard classes, sorted by name."""
    page = Paginator(process_caches(request).get(CachedClasses)(), queries.PAGE).get_page(request.GET.get("page"))
    return render(request, "dashboards/ops/queues.html", {"page": page, "classes": page.object_list})


@require_GET
@operator_page(VIEW_OPERATION)
def operation_list(request: HttpRequest) -> HttpResponse:
    """List all operations, newest first."""
    rows = queries.operations_before(_before(request), database_now())
    older = rows[queries.PAGE - 1].id if len(rows) > queries.PAGE else None
    return render(request, "dashboards/ops/operations.html", {"operations": rows[: queries.PAGE], "older": older})


@require_GET
@operator_page(VIEW_DECISION)
def decision_list(request: HttpRequest) -> HttpResponse:
    """List all scaling decisions, newest first."""
    rows = queries.decisions_before(_before(request), queries.PAGE + 1)
    older = rows[queries.PAGE - 1].pk if len(rows) > queries.PAGE else None
    return render(request, "dashboards/ops/decisions.html", {"decisions": rows[: queries.PAGE], "older": older})


@require_GET
@operator_page(VIEW_SHARD, VIEW_JOB)
def shard_jobs(request: HttpRequest, name: str) -> HttpResponse:
    """Show the running jobs of a shard."""
    shard = Shard.objects.filter(name=name.replace("\x00", "")).first()
    if shard is None:
        raise Http404
    caller = getattr(request, "caller", None)
    context = {
        "shard": shard,
        "attempts": queries.running_on(shard),
        # Members of a job's tenant get a link to the live page. Other operators get a link to the panel.
        "tenant_id": caller.tenant.pk if caller else None,
        "now": database_now(),
        "here": request.get_full_path(),
    }
    template = "dashboards/ops/_shard_jobs.html" if is_htmx(request) else "dashboards/ops/shard.html"
    return render(request, template, context)


def _before(request: HttpRequest) -> int | None:
    text = request.GET.get("before", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None


@require_safe
def flower_auth(request: HttpRequest) -> HttpResponse:
    """Answer a proxy's check for access to Flower (nginx: ``auth_request``).

    The status is 204 for operators who may view shards, else 401.
    """
    answer = HttpResponse(status=204 if VIEW_SHARD.is_held_by(request.user) else 401)
    answer.headers["Cache-Control"] = "private, no-store"
    return answer
