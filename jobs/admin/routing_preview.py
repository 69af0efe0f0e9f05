"""The panel's page that asks the router where a job would go."""

from __future__ import annotations

from typing import Any, Final

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from jobs.api.preview_views import cut, read_question
from jobs.dispatch.snapshot import load_snapshot
from jobs.queue.preview import preview
from myctobot.errors import InvalidRequest
from myctobot.lib.clock import database_now
from myctobot.tenants.models import Tenant

_MOST_SHOWN: Final = 200
_MOST_TENANTS: Final = 1000


def show_preview(request: HttpRequest) -> HttpResponse:
    """Which shards could run a job of a tenant, in which order and why; for those who may look at shards."""
    if not request.user.has_perm("shards.view_shard"):
        raise PermissionDenied
    context: dict[str, Any] = {
        **admin.site.each_context(request),
        "title": "Where would a job go?",
        "tenants": Tenant.objects.order_by("slug").values_list("slug", flat=True)[:_MOST_TENANTS],
        "asked": {name: request.GET.get(name, "") for name in ("tenant", "capabilities")},
    }
    if "tenant" in request.GET:
        try:
            tenant, capabilities = read_question(request.GET)
        except InvalidRequest as error:
            context["problems"] = error.fields
        else:
            context["found"] = cut(preview(tenant.pk, capabilities, load_snapshot(database_now())), _MOST_SHOWN)
    return render(request, "jobs/panel/preview.html", context)
