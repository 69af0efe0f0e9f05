"""The operators' pages: how all shards, queues and operations stand, live."""

from __future__ import annotations

from typing import Any

from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET, require_safe

from jobs.queue.class_status import ClassStand, classes
from myctobot.dashboards.ops import queries
from myctobot.dashboards.ops.access import is_operator, operator_page
from myctobot.dashboards.ops.history import charts
from myctobot.dashboards.ops.listing import STATES, Filters, pools, read_page
from myctobot.dashboards.pages import is_htmx
from myctobot.lib.clock import database_now
from myctobot.lib.ttl_cache import Remembered
from shards.models.shard import Shard

# Classes shown on the page itself; the others have one of their own.
_MOST_CLASSES = 12
# Each is a look at all shards: those who watch at the same time share it.
stands = Remembered(classes, 2.0)
tops = Remembered(queries.totals, 2.0)


@require_GET
@operator_page
def overview(request: HttpRequest) -> HttpResponse:
    """All at a glance; htmx asks for the parts that change alone."""
    filters = Filters.read(request.GET)
    now = database_now()
    found = sorted(stands(), key=_by_interest)
    context: dict[str, Any] = {
        "filters": filters,
        "page": read_page(filters, request.GET, now),
        "totals": tops(),
        "operations": queries.live_operations(now),
        "decisions": queries.decisions_before(None, queries.MOST_DECISIONS),
        "classes": found[:_MOST_CLASSES],
        "more_classes": max(0, len(found) - _MOST_CLASSES),
        "charts": charts(),
        "here": request.get_full_path(),
        "partial": is_htmx(request),
    }
    if is_htmx(request):
        return render(request, "dashboards/ops/_live.html", context)
    return render(request, "dashboards/ops/overview.html", {**context, "states": STATES, "pools": pools()})


def _by_interest(stand: ClassStand) -> tuple[Any, ...]:
    """Those that jobs wait for first, then the busy ones."""
    return (-stand.ready, -stand.running, -stand.slots, stand.name)


@require_GET
@operator_page
def queue_list(request: HttpRequest) -> HttpResponse:
    """All classes of shards, by name."""
    page = Paginator(stands(), queries.PAGE).get_page(request.GET.get("page"))
    return render(request, "dashboards/ops/queues.html", {"page": page, "classes": page.object_list})


@require_GET
@operator_page
def operation_list(request: HttpRequest) -> HttpResponse:
    """All operations, newest first."""
    rows = queries.operations_before(_before(request), database_now())
    older = rows[queries.PAGE - 1].id if len(rows) > queries.PAGE else None
    return render(request, "dashboards/ops/operations.html", {"operations": rows[: queries.PAGE], "older": older})


@require_GET
@operator_page
def decision_list(request: HttpRequest) -> HttpResponse:
    """All scaling decisions, newest first."""
    rows = queries.decisions_before(_before(request), queries.PAGE + 1)
    older = rows[queries.PAGE - 1].pk if len(rows) > queries.PAGE else None
    return render(request, "dashboards/ops/decisions.html", {"decisions": rows[: queries.PAGE], "older": older})


@require_GET
@operator_page
def shard_jobs(request: HttpRequest, name: str) -> HttpResponse:
    """What a shard runs now."""
    shard = Shard.objects.filter(name=name.replace("\x00", "")).first()
    if shard is None:
        raise Http404
    caller = getattr(request, "caller", None)
    context = {
        "shard": shard,
        "attempts": queries.running_on(shard),
        # Who is a member of a job's tenant follows it live; others see in the panel what operators may.
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
    """Tell a proxy whether the caller may see Flower (nginx: ``auth_request``): 204, or 401 and nothing else."""
    answer = HttpResponse(status=204 if is_operator(request) else 401)
    answer.headers["Cache-Control"] = "private, no-store"
    return answer
