"""Everything that the gateway answers; any other path gets a 404 in Anthropic's shape."""

from __future__ import annotations

from django.urls import path, re_path

from myctobot.gateway import views

urlpatterns = [
    path("v1/messages", views.messages),
    path("v1/messages/count_tokens", views.count_tokens),
    path("healthz", views.healthz),
    re_path(r"", views.not_found),
]

handler500 = "myctobot.gateway.views.server_error"
