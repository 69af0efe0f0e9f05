"""URLs of the web process, and the maximum size of a body for each."""

from __future__ import annotations

import re

from django.conf import settings
from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.urls import Resolver404, include, path, resolve
from django.views.generic import RedirectView
from drf_spectacular.views import SpectacularSwaggerSplitView

from jobs.admin.routing_preview import show_preview
from myctobot.accounts.views import panel_login, panel_password, second_factor
from myctobot.contract.limits import MAX_REQUEST_BYTES
from myctobot.metrics.views import metrics
from myctobot.web.api_schema import ApiSchema
from myctobot.web.body_limits import DEFAULT_BYTES, BodyLimits
from myctobot.web.health import LatestHealth, health_response
from myctobot.web.process_caches import process_caches
from myctobot.web.security_txt import security_txt
from shards.shard_api import enroll
from shards.shard_api.call import MAX_BODY_BYTES


async def healthz(request: HttpRequest) -> HttpResponse:
    """Answer a health check behind any server of Django's; the web process answers it before Django."""
    found = await health_response(process_caches(request).get(LatestHealth))
    headers = {name.decode(): value.decode() for name, value in found.headers}
    return HttpResponse(found.body, status=found.status, headers=headers)


handler400 = "myctobot.web.error_pages.bad_request"
handler403 = "myctobot.web.error_pages.permission_denied"
handler404 = "myctobot.web.error_pages.not_found"
handler500 = "myctobot.web.error_pages.server_error"

urlpatterns = [
    # Django tries the patterns in order, and most calls are POST /api/v1/jobs.
    # "shards/preview" belongs to jobs, so jobs come before shards.
    path("api/v1/", include("jobs.api.urls")),
    path("", include("myctobot.dashboards.urls")),
    # Browsers ask for it on pages that name no icon, such as scripts and texts.
    path("favicon.ico", RedirectView.as_view(url=f"{settings.STATIC_URL}dashboards/icon.svg")),
    path(".well-known/security.txt", security_txt),
    path("healthz", healthz),
    path("metrics", metrics),
    path("ops/", include("myctobot.dashboards.ops.urls")),
    # These two pages of the panel limit attempts, so they come before the panel's own.
    path("admin/login/", panel_login),
    path("admin/password_change/", admin.site.admin_view(panel_password)),
    path("admin/second-factor/", admin.site.admin_view(second_factor), name="second-factor"),
    path("admin/preview/", admin.site.admin_view(show_preview), name="panel-preview"),
    path("admin/", admin.site.urls),
    path("api/v1/", include("shards.api.urls")),
    path("api/v1/", include("myctobot.tenants.api.urls")),
    path("api/schema/", ApiSchema.as_view(), name="api-schema"),
    path("api/docs/", SpectacularSwaggerSplitView.as_view(url_name="api-schema"), name="api-docs"),
    path("shard/v1/", include("jobs.shard_api.urls")),
]


def has_method(method: str, path: str) -> bool:
    """Tell whether a path of the REST API has a method; true for all other paths."""
    try:
        view = getattr(resolve(path).func, "cls", None)
    except Resolver404:
        return True
    if view is None:
        return True
    # OPTIONS is a method of every view, and HEAD one of those with GET. Other attributes are no methods.
    handler = {"HEAD": "get"}.get(method, method.lower())
    return handler in view.http_method_names and hasattr(view, handler)


# The responses to these do not end soon. They count as open streams, like WebSockets.
STREAMS = re.compile(r"/api/v1/jobs/[^/]+/(stream|download)")

# A test requires an entry for each pattern above. Other paths, which have no page, get the default.
BODY_LIMITS = BodyLimits(
    {
        "/api/v1/jobs": MAX_REQUEST_BYTES,
        # Three secrets, each of which may be a private key.
        "/api/v1/jobs/<str:job_id>/retry": MAX_REQUEST_BYTES,
        "/shard/v1/jobs/<str:job_id>/events": MAX_BODY_BYTES,
        "/shard/v1/jobs/<str:job_id>/finish": MAX_BODY_BYTES,
        "/shard/v1/enroll": enroll.MAX_BODY_BYTES,
        "/shard/*": DEFAULT_BYTES,
        # MCP servers of a shard, and up to a thousand assignments.
        "/api/v1/shards": MAX_REQUEST_BYTES,
        "/api/v1/shards/<str:name>": MAX_REQUEST_BYTES,
        "/api/v1/shards/<str:name>/assignments": MAX_REQUEST_BYTES,
        "/api/schema/": 0,
        "/api/docs/": 0,
        "/api/*": DEFAULT_BYTES,
        "/": 0,
        "/healthz": 0,
        "/favicon.ico": 0,
        "/.well-known/security.txt": 0,
        "/metrics": 0,
        "/ops/*": 0,
        "/static/*": 0,
        "/login/": DEFAULT_BYTES,
        "/logout/": DEFAULT_BYTES,
        "/tenant/": DEFAULT_BYTES,
        "/secrets/*": DEFAULT_BYTES,
        "/repository-policies/*": DEFAULT_BYTES,
        # A browser writes each byte of a text as up to three.
        "/jobs/new/": 2 * MAX_REQUEST_BYTES,
        "/jobs/*": DEFAULT_BYTES,
        "/admin/login/": DEFAULT_BYTES,
        "/admin/*": MAX_REQUEST_BYTES,
    }
)
