"""Titles and menu of the operators' panel."""

from __future__ import annotations

from typing import Any

from django.templatetags.static import static
from django.urls import reverse_lazy

from myctobot.tenants.permissions import ModelPermission
from shards import permissions


def _model_entry(title: str, icon: str, model: str) -> dict[str, Any]:
    """Return a menu entry for the list of a model, visible to operators who may view it."""
    app, name = model.split(".")
    permission = ModelPermission(app, name, "view")
    return {
        "title": title,
        "icon": icon,
        "link": reverse_lazy(f"admin:{app}_{name}_changelist"),
        "permission": lambda request: permission.is_held_by(request.user),
    }


_PREVIEW_ENTRY = {
    "title": "Where would a job go?",
    "icon": "alt_route",
    "link": reverse_lazy("panel-preview"),
    "permission": lambda request: permissions.PREVIEW.is_held_by(request.user),
}

_DASHBOARD_ENTRY = {
    "title": "Dashboard",
    "icon": "monitoring",
    "link": reverse_lazy("ops"),
    "permission": lambda request: permissions.VIEW_SHARD.is_held_by(request.user),
}

PANEL: dict[str, Any] = {
    "SITE_TITLE": "MyCTOBot",
    "SITE_HEADER": "MyCTOBot",
    "SITE_SUBHEADER": "Operators' panel",
    # Target of the site's name and of "View site".
    "SITE_URL": "/api/docs/",
    "SITE_SYMBOL": "dns",
    "SITE_FAVICONS": [
        {"rel": "icon", "type": "image/svg+xml", "href": lambda request: static("dashboards/icon.svg")},
    ],
    "STYLES": [lambda request: static("shards/theme.css"), lambda request: static("shards/panel.css")],
    "GLOBAL_CALLBACK": "myctobot.admin_site.theme.without_inline_style",
    "LOGIN": {"form": "myctobot.accounts.forms.PanelLoginForm"},
    "ACCOUNT": {"navigation": [{"title": "Second factor", "link": reverse_lazy("second-factor")}]},
    "SHOW_HISTORY": True,
    "SHOW_VIEW_ON_SITE": False,
    "SIDEBAR": {
        "show_search": True,
        "navigation": [
            {
                "title": "Shards",
                "items": [
                    _model_entry("Shards", "dns", "shards.shard"),
                    _model_entry("Pools", "workspaces", "shards.pool"),
                    _model_entry("Templates", "layers", "shards.shardtemplate"),
                    _model_entry("Assignments", "key", "shards.assignment"),
                    _PREVIEW_ENTRY,
                    _DASHBOARD_ENTRY,
                ],
            },
            {
                "title": "What happened",
                "separator": True,
                "items": [
                    _model_entry("Operations", "construction", "shards.operation"),
                    _model_entry("Scaling decisions", "trending_up", "shards.scalingdecision"),
                    _model_entry("Drains and pauses", "pause_circle", "shards.suspension"),
                    _model_entry("Audit log", "receipt_long", "tenants.auditentry"),
                ],
            },
            {
                "title": "Jobs and tenants",
                "separator": True,
                "items": [
                    _model_entry("Jobs", "work", "jobs.job"),
                    _model_entry("Tenants", "apartment", "tenants.tenant"),
                    _model_entry("API keys", "vpn_key", "tenants.apikey"),
                    _model_entry("Secrets", "lock", "tenants.secret"),
                    _model_entry("Repository policies", "rule", "tenants.repositorypolicy"),
                    _model_entry("Users", "person", "auth.user"),
                    _model_entry("Groups", "group", "auth.group"),
                ],
            },
        ],
    },
}
