"""URLs of the gateway, and the maximum size of a body for each. Other paths get a 404 in Anthropic's error format."""

from __future__ import annotations

from django.urls import path, re_path

from myctobot.gateway import views
from myctobot.gateway.requests import MAX_BODY_BYTES
from myctobot.web.body_limits import BodyLimits

urlpatterns = [
    path("v1/messages", views.messages),
    path("v1/messages/count_tokens", views.count_tokens),
    path("healthz", views.healthz),
    re_path(r"", views.not_found),
]

BODY_LIMITS = BodyLimits(
    {"/v1/messages": MAX_BODY_BYTES, "/v1/messages/count_tokens": MAX_BODY_BYTES, "/healthz": 0},
)

handler500 = "myctobot.gateway.views.server_error"
