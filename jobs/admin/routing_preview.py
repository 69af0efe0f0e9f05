"""Admin page that previews the routing of a job."""

from __future__ import annotations

from typing import Any, Final

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from jobs.api.preview_views import cut, read_query
from jobs.dispatch.snapshot import load_snapshot
from jobs.queue.preview import preview
from myctobot.errors import InvalidRequest
from myctobot.lib.clock import database_now
from myctobot.tenants.models import Tenant
from shards import permissions

_MAX_SHOWN: Final = 200
_MAX_TENANTS: Final = 1000


def show_preview(request: HttpRequest) -> HttpResponse:
    """Show the shards that could run a tenant's job; requires the permission to view shards."""
    if not permissions.PREVIEW.is_held_by(request.user):
        raise PermissionDenied
    context: dict[str, Any] = {
        **admin.site.each_context(request),
        "title": "Where would a job go?",
        "tenants": Tenant.objects.order_by("slug").values_list("slug", flat=True)[:_MAX_TENANTS],
        "query": {name: request.GET.get(name, "") for name in ("tenant", "capabilities")},
    }
    if "tenant" in request.GET:
        try:
            tenant, capabilities = read_query(request.GET)
        except InvalidRequest as error:
            context["problems"] = error.fields
        else:
            context["found"] = cut(preview(tenant.pk, capabilities, load_snapshot(database_now())), _MAX_SHOWN)
    return render(request, "jobs/panel/preview.html", context)
