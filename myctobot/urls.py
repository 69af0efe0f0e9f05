"""The web process's URLs."""

from __future__ import annotations

from django.contrib import admin
from django.db import connection
from django.http import HttpRequest, JsonResponse
from django.urls import include, path
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerView

from jobs.admin.routing_preview import show_preview
from myctobot.metrics.views import metrics


def healthz(request: HttpRequest) -> JsonResponse:
    """Whether this process can serve: it answers, and its database does."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return JsonResponse({"status": "ok"})


handler400 = "myctobot.web.error_pages.bad_request"
handler403 = "myctobot.web.error_pages.permission_denied"
handler404 = "myctobot.web.error_pages.not_found"
handler500 = "myctobot.web.error_pages.server_error"

urlpatterns = [
    path("", include("myctobot.dashboards.urls")),
    path("healthz", healthz),
    path("metrics", metrics),
    path("ops/", include("myctobot.dashboards.ops.urls")),
    path("admin/preview/", admin.site.admin_view(show_preview), name="panel-preview"),
    path("admin/", admin.site.urls),
    # The jobs' first: "shards/preview" is theirs, and no shard's name.
    path("api/v1/", include("jobs.api.urls")),
    path("api/v1/", include("shards.api.urls")),
    path("api/schema/", SpectacularAPIView.as_view(), name="api-schema"),
    path("api/docs/", SpectacularSwaggerView.as_view(url_name="api-schema"), name="api-docs"),
    path("shard/v1/", include("jobs.shard_api.urls")),
]
